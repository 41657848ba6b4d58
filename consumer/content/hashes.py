"""The hashes that decide what is skipped and what is embedded again. Each is a sha256 of 32 bytes.

A `fields_hash` answers "did anything that the template, the filter or the metadata use change?" before any of them
runs. So two rows may share it only if they are the same to all three: 1, "1", true, null and a missing column differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from math import isfinite

import msgspec

from consumer.content.spec import ContentSpec
from consumer.errors import Reject

# Encoded as they are; every other value is wrapped in a tagged list, so that no two kinds can meet.
_PLAIN = frozenset({str, int, bool, type(None)})
_MISSING = ["missing"]
_TABLE_FORMAT = 1  # counts up when rendering or chunking changes its result for the same settings
_encode = msgspec.json.Encoder(order="deterministic").encode


def content_hash(text: str) -> bytes:
    """Hash of a whole rendered text."""
    return sha256(text.encode()).digest()


def chunk_hash(text: str) -> bytes:
    """Hash of one chunk's text: equal hashes mean equal model input, hence an equal vector."""
    return sha256(text.encode()).digest()


def fields_hash(columns: Iterable[str], row: Mapping[str, object]) -> bytes:
    """Hash of the row's values of `columns`, in their order.

    The hot path of every event. Raises Reject for text that is not valid Unicode.
    """
    try:
        values = [row[column] for column in columns]
        for value in values:
            if type(value) not in _PLAIN:
                break
        else:
            return sha256(_encode(values)).digest()
    except (KeyError, OverflowError):
        pass  # a missing column or a huge integer: spelled out below
    except UnicodeEncodeError:
        raise _not_unicode() from None
    try:
        spelled = [_canonical(row[column]) if column in row else _MISSING for column in columns]
        return sha256(_encode(spelled)).digest()
    except UnicodeEncodeError:
        raise _not_unicode() from None


def table_hash(spec: ContentSpec) -> bytes:
    """Hash of everything in a table's settings that decides its text, its metadata and its chunks."""
    chunk = [spec.chunk.method, spec.chunk.max_tokens, spec.chunk.overlap]
    return sha256(_encode([_TABLE_FORMAT, spec.text, spec.when, list(spec.metadata), chunk])).digest()


def _canonical(value: object) -> object:
    """`value` as JSON that no other value shares: plain scalars stay, the rest is a list that starts with its kind."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 63:
        return ["int", str(value)]
    if type(value) in _PLAIN:
        return value
    if isinstance(value, float):
        return value if isfinite(value) else ["float", str(value)]
    if isinstance(value, Mapping):
        return ["map", {str(key): _canonical(item) for key, item in value.items()}]
    if isinstance(value, (list, tuple)):
        return ["list", *map(_canonical, value)]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return ["bytes", bytes(value).hex()]
    return [type(value).__name__, str(value)]


def _not_unicode() -> Reject:
    return Reject("A column holds text that is not valid Unicode.", stage="render", error_type="invalid_unicode")
