"""Which columns a row had, in its table's order: whether a column left out is the one that is known by its name.

PostgreSQL puts a new column at the end, and lets one that is renamed stay in its place. So where the columns that two
rows share stand in another order, or one that is new stands before them with none gone from there, names have changed
hands. And where a column is gone from beside another, it may be there under the other's name: no event tells a drop
from a drop and a rename. Every other change leaves a column what it was.

Where a schema tells the types, only columns that may be left out count as gone or new: no other is mistaken for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import sha256

import msgspec

from consumer.events.shapes import Shape, placeholders

_MOST = 1600  # columns of a table
_BYTES, _LARGE = 3, 1
_NEVER_LARGE = ("io.debezium.time.", "io.debezium.data.Uuid", "io.debezium.data.Enum")
_NO_ROW = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


class Layout(msgspec.Struct, frozen=True):
    """All columns in their order. `packed`, as it is stored, has three bytes for each: a hash of its name, and in the
    lowest bit whether the column may be left out."""

    packed: bytes


Columns = Layout | bytes | None
"""A row's layout; or the event's JSON, in which `layout_of` finds the names; None where nothing tells them."""


class _Row(msgspec.Struct):
    after: dict[str, msgspec.Raw] | None = None
    payload: _Row | None = None


_row = msgspec.json.Decoder(_Row).decode


def layout_of(columns: Columns) -> Layout | None:
    """The layout; decoded only now where it stands in JSON without schema."""
    if not isinstance(columns, bytes):
        return columns
    try:
        row = _row(columns)
    except _NO_ROW:
        return None
    after = (row.payload or row).after
    return _of_names(tuple(after)) if after is not None and len(after) <= _MOST else None


def layout_of_shapes(shapes: Sequence[Shape]) -> Layout:
    """The layout of a row whose schema is known."""
    return Layout(b"".join(_pack(shape.field, _large(shape)) for shape in shapes[:_MOST]))


def are_same(names: Iterable[str], now: Columns, before: Columns) -> bool:
    """Whether all these columns of a row are those of an earlier row, as far as the columns of both are known."""
    if now is before or now is None or before is None:
        return True
    later, earlier = layout_of(now), layout_of(before)
    return later is None or earlier is None or all(is_same(name, later.packed, earlier.packed) for name in names)


def is_same(name: str, now: bytes | None, before: bytes | None) -> bool:
    """Whether the column `name` of a row of the layout `now` is the one of an earlier row of the layout `before`.

    None is a layout that is not known, and speaks against nothing.
    """
    if now is None or before is None or now == before:
        return True
    later, earlier = _unpack(now), _unpack(before)
    common, column = later.keys() & earlier.keys(), _number(name)
    order, new = _gaps(later, common)
    order_before, gone = _gaps(earlier, common)
    if order != order_before or column not in common:
        return False
    if any(came > went for came, went in zip(new[:-1], gone, strict=False)):
        return False
    place = order.index(column)
    return not gone[place] and not gone[place + 1]


def _gaps(columns: dict[int, bool], common: set[int]) -> tuple[list[int], list[int]]:
    """The common columns in their order, and how many large others stand before each of them, and behind the last."""
    order, gaps = [], [0]
    for column, large in columns.items():
        if column in common:
            order.append(column)
            gaps.append(0)
        else:
            gaps[-1] += large
    return order, gaps


def _large(shape: Shape) -> bool:
    """Whether a value may be left out: not a number, a date, a uuid or an enum."""
    return bool(placeholders(shape)) and not (shape.name or "").startswith(_NEVER_LARGE)


@lru_cache(256)
def _of_names(names: tuple[str, ...]) -> Layout:
    return Layout(b"".join(_pack(name, True) for name in names))


def _pack(name: str, large: bool) -> bytes:
    return (_number(name) | large).to_bytes(_BYTES)


def _number(name: str) -> int:
    return int.from_bytes(sha256(name.encode("utf-8", "surrogatepass")).digest()[:_BYTES]) & ~_LARGE


def _unpack(packed: bytes) -> dict[int, bool]:
    numbers = (int.from_bytes(packed[at : at + _BYTES]) for at in range(0, len(packed), _BYTES))
    return {number & ~_LARGE: bool(number & _LARGE) for number in numbers}
