"""Debezium's placeholder for a TOASTed column that an update did not touch, in every form a converter gives it.

Which form stands for which type was seen on the connector (3.6.3); docs/values.md has the table. Where the type is not
known (JSON without schema) every form counts in any column, so that a text that is exactly one of them cannot be told
apart from it. A text that merely contains the placeholder is data.
"""

from __future__ import annotations

from base64 import b64encode
from enum import Enum
from typing import Any, Final

from consumer.events.times import INFINITE_TEXTS, known_infinity

PLACEHOLDER = "__debezium_unavailable_value"
PLACEHOLDER_BASE64 = b64encode(PLACEHOLDER.encode()).decode()
PLACEHOLDER_UUID = "b68a35a7-17ad-35b3-af2a-ae46edb4545a"
PLACEHOLDER_CODES = list(PLACEHOLDER.encode())
PLACEHOLDER_HSTORE = f'{{"{PLACEHOLDER}":"{PLACEHOLDER}"}}'


class _Unchanged(Enum):
    UNCHANGED = "unchanged"


UNCHANGED: Final = _Unchanged.UNCHANGED
"""The value of a column that the event leaves out."""

_LISTS: tuple[list[Any], ...] = ([PLACEHOLDER], [PLACEHOLDER_UUID], PLACEHOLDER_CODES, [PLACEHOLDER_BASE64])
# Texts that mean something else than themselves where no type is known.
_TEXTS: dict[str, Any] = dict.fromkeys((PLACEHOLDER, PLACEHOLDER_BASE64, PLACEHOLDER_HSTORE), UNCHANGED)
_TEXTS |= INFINITE_TEXTS
LONGEST_FORM = max(map(len, _TEXTS))


def is_placeholder(value: Any) -> bool:
    """Whether a canonical value stands for "unchanged, not sent"."""
    return value is UNCHANGED


def untyped(value: Any) -> Any:
    """The canonical value of a column of JSON without schema whose type nobody has declared."""
    kind = type(value)
    if kind is str:
        return _TEXTS.get(value, value) if len(value) <= LONGEST_FORM else value
    if kind is list:
        return UNCHANGED if value in _LISTS else [_element(item) for item in value]
    if kind is dict and value == {PLACEHOLDER: PLACEHOLDER}:
        return UNCHANGED
    return value


def untyped_row(row: dict[str, Any]) -> dict[str, Any]:
    """`row` itself with `untyped` applied to every column. The hot path of JSON without schema."""
    for name, value in row.items():
        kind = type(value)
        if kind is str:
            if len(value) <= LONGEST_FORM and value in _TEXTS:
                row[name] = _TEXTS[value]
        elif kind is list or kind is dict:
            row[name] = untyped(value)
    return row


def _element(value: Any) -> Any:
    return known_infinity(value) if type(value) is str and len(value) <= LONGEST_FORM else value
