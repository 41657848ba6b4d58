"""The two-minute proof: real rows of a real database become searchable vectors, and stay fresh while they change."""

from consumer.local.demo.home import HOME, Home
from consumer.local.demo.run import run, stop
from consumer.local.demo.screen import Screen
from consumer.local.demo.story import Demo

__all__ = ["HOME", "Demo", "Home", "Screen", "run", "stop"]
