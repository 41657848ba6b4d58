"""Debezium's placeholder for a TOASTed column that an update did not touch, in every form a converter gives it.

The forms are those of the connector's `unavailable.value.placeholder` per column type (facts of Debezium 3.6). A text
that merely contains the placeholder is data; a column that is exactly the placeholder cannot be told apart from it.
"""

from __future__ import annotations

import base64
from typing import Any

PLACEHOLDER = "__debezium_unavailable_value"
_UUID = "b68a35a7-17ad-35b3-af2a-ae46edb4545a"
_TEXTS = frozenset({PLACEHOLDER, base64.b64encode(PLACEHOLDER.encode()).decode(), PLACEHOLDER.encode().hex()})
_LISTS: tuple[list[Any], ...] = ([PLACEHOLDER], [_UUID], list(PLACEHOLDER.encode()))


def is_placeholder(value: Any) -> bool:
    """Whether a decoded column value stands for "unchanged, not sent"."""
    if isinstance(value, str):
        return value in _TEXTS
    if isinstance(value, list):
        return value in _LISTS
    return isinstance(value, dict) and value == {PLACEHOLDER: PLACEHOLDER}
