"""Which columns a row had, in its table's order: whether a column left out is the one that is known by its name.

PostgreSQL puts a new column at the end, and lets one that is renamed stay in its place. So where the columns that two
rows share stand in another order, or one that is new stands before them with none gone from there, names have changed
hands. And where a column is gone from beside another, it may be there under the other's name: no event tells a drop
from a drop and a rename. One that has a new name in its place is no such one. Every other change leaves a column what
it was.

Where a schema tells the types, only columns that may be left out count as gone or new: no other is mistaken for them.
A snapshot reads columns that the stream never has (generated ones, and those that the publication leaves out): what
only it has says nothing, unless the stream had it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256

import msgspec

from consumer.events.shapes import Shape, placeholders

_MOST = 1600  # columns of a table
_BYTES, _LARGE, _READ = 3, 1, 2
_FLAGS = _LARGE | _READ
_SMALL = 2000  # bytes of an event whose row PostgreSQL would not move values out of, for it is below 2 kB
_LONGEST = 2**16  # characters of all names that are remembered
_NEVER_LARGE = ("io.debezium.time.", "io.debezium.data.Uuid", "io.debezium.data.Enum")
_NO_ROW = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


class Layout(msgspec.Struct, frozen=True):
    """All columns in their order. `packed`, as it is stored, has three bytes for each: a hash of its name, and in the
    lowest bits whether the column may be left out, and whether only a snapshot is known to have it."""

    packed: bytes

    @property
    def of_read(self) -> Layout:
        """The same of a row that a snapshot read."""
        return _of_read(self)


Columns = Layout | bytes | None
"""A row's layout; or the event's JSON, in which `layout_of` finds the names; None where nothing tells them."""


class _Row(msgspec.Struct):
    op: str | None = None
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
    row = row.payload or row
    names = tuple(row.after or ())
    if row.after is None or len(names) > _MOST or sum(map(len, names)) > _LONGEST:
        return None
    return _of_names(names).of_read if row.op == "r" else _of_names(names)


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
    column, later, earlier = _number(name), _unpack(now), _unpack(before)
    later, earlier = _without_read(later, earlier), _without_read(earlier, later)
    common = later.keys() & earlier.keys()
    order, new = _gaps(later, common)
    order_before, gone = _gaps(earlier, common)
    if order != order_before or column not in common:
        return False
    if any(came > went for came, went in zip(new[:-1], gone, strict=False)):
        return False
    new[-1] = 0  # they may have come to the end
    place = order.index(column)
    return all(went <= came for came, went in zip(new[place : place + 2], gone[place : place + 2], strict=True))


def is_another(now: Columns, before: bytes | None, *, large: bool = False) -> bool:
    """Whether a row has other columns than an earlier one of the layout `before`, and may have large ones.

    `large`: it certainly has. An event that changes nothing else tells so: the next one may leave out a column that has
    come under an old name.
    """
    if before is None or (isinstance(now, bytes) and len(now) < _SMALL and not large):
        return False
    layout = layout_of(now)
    return layout is not None and _plain(layout.packed) != _plain(before)


@lru_cache(256)
def as_streamed(packed: bytes | None, streamed: bytes | None) -> bytes | None:
    """The layout of a row that a snapshot read, once it is known which columns a change has: told once, it stands."""
    if packed is None or streamed is None:
        return packed
    columns, known = _unpack(packed), _unpack(streamed)
    if not all(flags & _READ for flags in columns.values()):
        return packed
    return _packed({each: flags & ~_READ if each in known else flags for each, flags in columns.items()})


def _without_read(columns: Mapping[int, int], others: Mapping[int, int]) -> dict[int, int]:
    """Less those that only a snapshot is known to have, where the other row has not got them."""
    return {column: flags for column, flags in columns.items() if not flags & _READ or column in others}


def _gaps(columns: Mapping[int, int], common: set[int]) -> tuple[list[int], list[int]]:
    """The common columns in their order, and how many large others stand before each of them, and behind the last."""
    order, gaps = [], [0]
    for column, flags in columns.items():
        if column in common:
            order.append(column)
            gaps.append(0)
        else:
            gaps[-1] += flags & _LARGE
    return order, gaps


def _large(shape: Shape) -> bool:
    """Whether a value may be left out: not a number, a date, a uuid or an enum."""
    return bool(placeholders(shape)) and not (shape.name or "").startswith(_NEVER_LARGE)


@lru_cache(256)
def _of_names(names: tuple[str, ...]) -> Layout:
    return Layout(b"".join(_pack(name, True) for name in names))


@lru_cache(256)
def _of_read(layout: Layout) -> Layout:
    return Layout(_packed({column: flags | _READ for column, flags in _unpack(layout.packed).items()}))


@lru_cache(256)
def _plain(packed: bytes) -> bytes:
    """Whoever read them."""
    return _packed({column: flags & ~_READ for column, flags in _unpack(packed).items()})


def _pack(name: str, large: bool) -> bytes:
    return (_number(name) | large).to_bytes(_BYTES)


def _number(name: str) -> int:
    return int.from_bytes(sha256(name.encode("utf-8", "surrogatepass")).digest()[:_BYTES]) & ~_FLAGS


def _packed(columns: Mapping[int, int]) -> bytes:
    return b"".join((column | flags).to_bytes(_BYTES) for column, flags in columns.items())


def _unpack(packed: bytes) -> dict[int, int]:
    """Columns in their order, with their flags."""
    numbers = (int.from_bytes(packed[at : at + _BYTES]) for at in range(0, len(packed), _BYTES))
    return {number & ~_FLAGS: number & _FLAGS for number in numbers}
