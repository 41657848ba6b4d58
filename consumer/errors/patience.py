"""Waiting for a dependency: bounded, jittered, and given up at once when the process is asked to end."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import TypeVar

from consumer.errors.faults import Retry

FIRST_SECONDS = 0.2
LONGEST_SECONDS = 15.0

T = TypeVar("T")


class Abandoned(Exception):
    """The wait was given up because the process is ending. The work is undone, and nothing is lost."""


def backoff(first: float = FIRST_SECONDS, longest: float = LONGEST_SECONDS) -> Iterator[float]:
    """Seconds to wait, doubling up to `longest`, each shortened by a random part of up to a half."""
    seconds = first
    while True:
        yield seconds * random.uniform(0.5, 1.0)  # noqa: S311 (spreads load, guards nothing)
        seconds = min(seconds * 2, longest)


def patiently(
    call: Callable[[], T],
    wait: Callable[[float], bool],
    notice: Callable[[Retry, float], None],
    *,
    give_up: type[Retry] | tuple[type[Retry], ...] = (),
) -> T:
    """The result of `call`, tried until it stops raising Retry; the kinds in `give_up` are raised at once.

    `wait(seconds)` waits and answers whether the process is ending (an Event's `wait`): then Abandoned is raised.
    `notice` hears of each failed try and of the seconds until the next.
    """
    for seconds in backoff():
        try:
            return call()
        except Retry as retry:
            if isinstance(retry, give_up):
                raise
            notice(retry, seconds)
            if wait(seconds):
                raise Abandoned from retry
    raise AssertionError("backoff never ends")
