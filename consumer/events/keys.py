"""The primary key of a record as canonical JSON, so that one row has one identity whatever bytes carried its key."""

from __future__ import annotations

import msgspec

from consumer.errors import Reject

_decode = msgspec.json.Decoder()
_encode = msgspec.json.Encoder(order="deterministic")


def decode_key(key: bytes | None) -> bytes:
    """Canonical JSON object of the key columns: names sorted, no blanks.

    Raises Reject (stage decode) for a key that is absent (a table without primary key), is no JSON, or is no object.
    """
    if key is None:
        raise Reject(
            "The event has no key. Give the table a primary key, or set message.key.columns in the connector.",
            stage="decode",
            error_type="key_missing",
        )
    try:
        columns = _decode.decode(key)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise _undecodable("is not JSON") from None
    if isinstance(columns, dict) and columns.keys() == {"schema", "payload"}:
        columns = columns["payload"]
    if not isinstance(columns, dict) or not columns:
        raise _undecodable("is no JSON object of key columns")
    try:
        canonical = _encode.encode(columns)
        with_nul = b"\\u0000" in canonical and _has_nul(columns)
    except RecursionError:
        raise _undecodable("is nested too deeply") from None
    if with_nul:
        raise _undecodable("contains a NUL character, which Postgres cannot store")
    return canonical


def _has_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_has_nul(name) or _has_nul(item) for name, item in value.items())
    return isinstance(value, list) and any(map(_has_nul, value))


def _undecodable(why: str) -> Reject:
    return Reject(
        f"The event's key {why}. Check key.converter of the connector.", stage="decode", error_type="key_undecodable"
    )
