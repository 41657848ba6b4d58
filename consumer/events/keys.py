"""The primary key of a record as canonical JSON, so that one row has one identity whatever bytes carried its key."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from consumer.errors import Reject

# One integer column, as the connector writes it without schemas: canonical already.
_CANONICAL = re.compile(rb'\{"[A-Za-z0-9_]+":(?:0|-?[1-9][0-9]{0,17})\}').fullmatch
# A date BC, as a stream has it. The connector's snapshots (3.6.3) forget the era in every mode, for they go through
# java.sql.Date.toLocalDate: 44 BC comes as AD 44. A row must have one key, and only that one can be had.
_BEFORE_CHRIST = re.compile(r"(?:-(\d{4})|0000)-(\d\d-\d\dZ)").fullmatch
_encode = msgspec.json.Encoder(order="deterministic").encode


def is_canonical(key: bytes | memoryview) -> bool:
    """Whether the bytes are canonical as they are, for certain."""
    return _CANONICAL(key) is not None


def canonical_key(columns: Any) -> bytes:
    """Canonical JSON object of the key columns: names sorted, no blanks. Raises Reject (stage decode)."""
    if not isinstance(columns, dict) or not columns:
        raise key_undecodable("is no object of key columns")
    for name, value in columns.items():
        if isinstance(value, str) and value[:1] in "-0" and (date := _BEFORE_CHRIST(value)):
            columns[name] = f"{int(date[1] or 0) + 1:04}-{date[2]}"
    try:
        key = _encode(columns)
        with_nul = b"\\u0000" in key and _has_nul(columns)
    except RecursionError:
        raise key_undecodable("is nested too deeply") from None
    if with_nul:
        raise key_undecodable("contains a NUL character, which Postgres cannot store")
    return key


def key_missing() -> Reject:
    """A table without primary key."""
    return Reject(
        "The event has no key. Give the table a primary key, or set message.key.columns in the connector.",
        stage="decode",
        error_type="key_missing",
    )


def key_undecodable(why: str) -> Reject:
    """A key that names no row."""
    return Reject(
        f"The event's key {why}. Check key.converter of the connector.", stage="decode", error_type="key_undecodable"
    )


def _has_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_has_nul(name) or _has_nul(item) for name, item in value.items())
    return isinstance(value, list) and any(map(_has_nul, value))
