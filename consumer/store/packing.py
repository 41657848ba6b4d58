"""Python values to PostgreSQL's binary format, a column at a time: array parameters and COPY share one encoding.

psycopg would do this element by element; a batch has some twenty columns of thousands of values, and this is the hot
path of every write and look-up. An element is its length (int32, -1 for NULL) and its bytes.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from psycopg import Connection
from psycopg.adapt import Dumper
from psycopg.pq import Format

from consumer.store.faults import DataFault

Kind = Literal["bool", "int4", "int8", "text", "bytea", "json", "jsonb", "timestamptz"]

_ROWS = 64  # of one piece of a COPY
_NULL = struct.pack(">i", -1)
_LENGTH = struct.Struct(">i").pack
_INT4 = struct.Struct(">ii").pack
_INT8 = struct.Struct(">iq").pack
_BOOL = struct.Struct(">i?").pack
_EPOCH_2000_US = 946_684_800_000_000  # PostgreSQL counts microseconds from 2000-01-01
_OIDS: Mapping[str, tuple[int, int]] = {  # element, array
    "bool": (16, 1000),
    "int4": (23, 1007),
    "int8": (20, 1016),
    "text": (25, 1009),
    "bytea": (17, 1001),
    "json": (114, 199),
    "jsonb": (3802, 3807),
}


def _bytes(value: bytes) -> bytes:
    return _LENGTH(len(value)) + value


def _text(value: str) -> bytes:
    data = value.encode()
    return _LENGTH(len(data)) + data


def _jsonb(value: bytes) -> bytes:
    return _LENGTH(len(value) + 1) + b"\x01" + value  # 1: version of the format


_ENCODE: Mapping[str, Callable[[Any], bytes]] = {
    "bool": lambda value: _BOOL(1, value),
    "int4": lambda value: _INT4(4, value),
    "int8": lambda value: _INT8(8, value),
    "text": _text,
    "bytea": _bytes,
    "json": _bytes,
    "jsonb": _jsonb,
    "timestamptz": lambda value: _INT8(8, value - _EPOCH_2000_US),
}


def elements(kind: Kind, values: Iterable[Any]) -> list[bytes]:
    """Encode a column. `timestamptz` takes microseconds since 1970. `DataFault` for what the type cannot hold."""
    encode = _ENCODE[kind]
    try:
        return [_NULL if value is None else encode(value) for value in values]
    except struct.error:
        raise DataFault("22003") from None
    except UnicodeEncodeError:  # a lone surrogate: text that UTF-8 cannot carry
        raise DataFault("22021") from None


class Array:
    """A one-dimensional array parameter, already in binary."""

    __slots__ = ("data", "oid")

    def __init__(self, kind: Kind, values: Iterable[Any]) -> None:
        encoded = elements(kind, values)
        element, self.oid = _OIDS[kind]
        head = struct.pack(">5i", 1, 1, element, len(encoded), 1) if encoded else struct.pack(">3i", 0, 0, element)
        self.data = head + b"".join(encoded)


class _ArrayDumper(Dumper):
    """Hands the bytes over under the array's own type."""

    format = Format.BINARY

    def get_key(self, obj: Array, format: Any) -> Any:
        return (self.cls, obj.oid)

    def upgrade(self, obj: Array, format: Any) -> Dumper:
        dumper = _ArrayDumper(self.cls)
        dumper.oid = obj.oid
        return dumper

    def dump(self, obj: Array) -> bytes:
        return obj.data


def register(connection: Connection[Any]) -> None:
    """Teach a connection to take `Array` parameters."""
    connection.adapters.register_dumper(Array, _ArrayDumper)


def copy_blocks(columns: Sequence[Sequence[bytes] | Sequence[memoryview]]) -> Iterator[bytes]:
    """Encoded columns as a binary COPY stream, in pieces that fit the processor's cache."""
    fields = struct.pack(">h", len(columns))
    yield b"PGCOPY\n\xff\r\n\x00" + bytes(8)
    rows = zip(itertools.repeat(fields, len(columns[0])), *columns, strict=True)
    while block := b"".join(itertools.chain.from_iterable(itertools.islice(rows, _ROWS))):
        yield block
    yield b"\xff\xff"


def vector_elements(vectors: Sequence[np.ndarray], dimension: int, element: str) -> list[memoryview]:
    """Encode vectors as pgvector's `vector` or `halfvec`. A wrong dimension is a `DataFault`."""
    if any(vector.shape != (dimension,) for vector in vectors):
        raise DataFault("22000")
    number = ">f4" if element == "vector" else ">f2"
    block = np.zeros(
        len(vectors), [("length", ">i4"), ("dimension", ">i2"), ("unused", ">i2"), ("values", number, (dimension,))]
    )
    block["length"], block["dimension"] = block.itemsize - 4, dimension
    with np.errstate(over="ignore"):  # beyond halfvec's range: infinite, which the database refuses
        for row, vector in zip(block["values"], vectors, strict=True):
            row[:] = vector
    view, size = memoryview(block.view(np.uint8).data), block.itemsize
    return [view[at : at + size] for at in range(0, len(view), size)]


def vector_from(data: bytes, element: str) -> np.ndarray:
    """What pgvector's send function gives, as float32."""
    return np.frombuffer(data, dtype=">f4" if element == "vector" else ">f2", offset=4).astype(np.float32)
