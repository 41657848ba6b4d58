"""The Jinja2 environment that settings' templates run in: sandboxed, strict, and at ease with SQL NULL.

Two rules differ from plain Jinja2. Names are columns and nothing else: there are no globals, so what a template reads
is known from its syntax tree. And NULL is no text: it prints as the empty string, passes through filters as NULL, and
joins with `~` as the empty string; in expressions it is none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from jinja2 import StrictUndefined, nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_TEXT = 64 * 1024 * 1024  # characters of one rendered text; beyond it no store and no reader is served
_MAX_EXPONENT = 1024
_NULL_AWARE = frozenset({"default", "d", "tojson"})  # filters that mean something for NULL itself
_TEXT_FILTER = "_text"


class TooLong(Exception):
    """A template made, or was about to make, more than MAX_TEXT characters."""


class Sandbox(ImmutableSandboxedEnvironment):
    """See the module's text; `*` and `**` are bounded too, where the sandbox of Jinja2 leaves them free."""

    intercepted_binops = frozenset({"*", "**"})

    def __init__(self) -> None:
        super().__init__(autoescape=False, undefined=StrictUndefined, finalize=_text)
        self.globals.clear()
        self.filters = {name: f if name in _NULL_AWARE else _null_safe(f) for name, f in self.filters.items()}
        self.filters[_TEXT_FILTER] = _text

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Refuse a product or power whose size is out of all proportion, before it takes the memory."""
        if operator == "**" and isinstance(right, (int, float)) and abs(right) > _MAX_EXPONENT:
            raise SecurityError("exponent too large")
        if operator == "*":
            for sequence, times in ((left, right), (right, left)):
                if isinstance(sequence, (str, bytes, list, tuple)) and isinstance(times, int):
                    _bound(len(sequence) * times)
        return super().call_binop(context, operator, left, right)

    def parse_text(self, source: str) -> nodes.Template:
        """The syntax tree of a template, `~` made safe for NULL. Raises jinja2.TemplateSyntaxError."""
        tree = self.parse(source)
        for concat in list(tree.find_all(nodes.Concat)):
            concat.nodes = [
                nodes.Filter(node, _TEXT_FILTER, [], [], None, None, lineno=node.lineno, environment=self)
                for node in concat.nodes
            ]
        return tree


def _text(value: object) -> object:
    return "" if value is None else value


def _bound(size: int) -> None:
    if size > MAX_TEXT:
        raise TooLong


def _null_safe(function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, passing NULL through instead of printing it as the word None."""
    position = 1 if hasattr(function, "jinja_pass_arg") else 0

    @wraps(function)
    def passing(*args: Any, **kwargs: Any) -> Any:
        if len(args) > position and args[position] is None:
            return None
        return function(*args, **kwargs)

    return passing
