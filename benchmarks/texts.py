"""Texts of real length and language that need no download: the docstrings of Python's own library."""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path


def docstrings(count: int) -> list[str]:
    """`count` different docstrings in an order that has nothing to do with their length, the same at every call."""
    found = sorted(set(_all()), key=lambda text: sha256(text.encode()).digest())
    assert len(found) >= count, f"this Python has {len(found)} docstrings"
    return found[:count]


def _all() -> Iterator[str]:
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                text = ast.get_docstring(node)
                if text and text.isascii():
                    yield text
