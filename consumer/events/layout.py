"""Which columns a row had, in its table's order: whether a column left out is the one that is known by its name.

PostgreSQL puts a new column at the end, and lets one that is renamed stay in its place. So a row whose columns begin
with those of an earlier row has the same columns, and perhaps more. In every other row some were renamed, dropped or
made anew, and a name may mean another column than it did: no event tells a drop from a drop and a rename.

Where a schema tells the types, columns that are never left out may come and go: no other is mistaken for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256

import msgspec

from consumer.events.shapes import Shape, placeholders

_NAMES, _TYPES = b"n", b"t"
_MOST = 1600  # columns of a table
_NO_ROW = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
_NEVER_LARGE = ("io.debezium.time.", "io.debezium.data.Uuid", "io.debezium.data.Enum")


class Layout(msgspec.Struct, frozen=True):
    """All columns in their order, as they are stored: how they are known, then two bytes for each column, a hash and
    whether it may be left out. Layouts that are known in two ways are not compared, but taken to be the same.
    """

    packed: bytes

    def continues(self, packed: bytes | None) -> bool:
        """Whether the columns are those of an earlier row's layout, or more; None is one that is not known."""
        if packed is None or packed == self.packed or packed[:1] != self.packed[:1]:
            return True
        before, now = _unpack(packed), _unpack(self.packed)
        kept = [column for column in before if column & 1 or column in now]
        return [column for column in now if column & 1 or column in before][: len(kept)] == kept


def _pack(large: bool, *named: str) -> bytes:
    number = int.from_bytes(sha256(msgspec.json.encode(named)).digest()[:2])
    return (number | 1 if large else number & ~1).to_bytes(2)


def _unpack(packed: bytes) -> list[int]:
    return [int.from_bytes(packed[at : at + 2]) for at in range(1, len(packed), 2)]


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


def continues(later: Columns, earlier: Columns) -> bool:
    """Whether the later row has the columns of the earlier one, or more, as far as both are known."""
    if later is earlier or later is None or earlier is None:
        return True
    now, before = layout_of(later), layout_of(earlier)
    return now is None or before is None or now.continues(before.packed)


def layout_of_shapes(shapes: Sequence[Shape]) -> Layout:
    """The layout of a row whose schema is known."""
    return Layout(_TYPES + b"".join(map(_shaped, shapes[:_MOST])))


def _shaped(shape: Shape) -> bytes:
    """A number, a date or a uuid is never left out: its name is all that counts."""
    name = shape.name or ""
    if not placeholders(shape) or name.startswith(_NEVER_LARGE):
        return _pack(False, shape.field)
    return _pack(True, shape.field, shape.type, name)


@lru_cache(256)
def _of_names(names: tuple[str, ...]) -> Layout:
    return Layout(_NAMES + b"".join(_pack(True, name) for name in names))
