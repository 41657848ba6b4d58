"""Key changes: what the delete of the old key leaves for the insert under the new one, in whatever order they come.

An insert by a key change may leave out an unchanged large column. Its value is known to the old document alone, and
only once every earlier event of it has been applied, which is when its delete is: so the delete hands the fields over,
within a batch directly, else by a row of `moves`. A document that moves on before it got them hands over what it knows,
and what it awaits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

import msgspec

from consumer.events import Columns, Order, is_same, layout_of
from consumer.planning.model import DocumentKey, Move, StoredDetail, StoredDocument

_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder().decode

Details = Mapping[int, StoredDetail]
Moves = Mapping[bytes, Move]  # by id


def move_id(new_key: DocumentKey, old_key: DocumentKey, order: Order) -> bytes:
    """What both halves of one key change have in common: their keys, and one place in the source's order."""
    named = [new_key.source, new_key.key_hash.hex(), old_key.key_hash.hex(), order.sequence, order.ts_us]
    return sha256(_encode(named)).digest()[:16]


@dataclass(slots=True)
class Leaving:
    """A delete by a key change. `fields` are the row's last-known values, those in `holes` still to be taken from
    `origin`; `columns` are all of that row's. `taken`: by an insert of the same batch, so that no row of `moves` is
    needed."""

    id: bytes
    fields: dict[str, Any]
    holes: frozenset[str]
    columns: Columns
    origin: Origin
    taken: bool = False


@dataclass(slots=True)
class Arriving:
    """An insert by a key change, and who may know what it leaves out beside the row of `moves`: its delete in this
    batch, or what is `stored` by an earlier try with this very event or by a snapshot ahead of it. The chunks of the
    old document, as far as it still stands, may lend their vectors."""

    id: bytes
    old_key: DocumentKey
    stored: StoredDocument | None
    old: StoredDocument | None = None
    leaving: Leaving | None = None


Origin = StoredDocument | Arriving | None


def bring_together(
    arrivings: Iterable[Arriving], leavings: Iterable[Leaving], heads: Mapping[DocumentKey, StoredDocument]
) -> None:
    """Tell the inserts of a batch about their deletes in it, and about the documents they were."""
    left = {leaving.id: leaving for leaving in leavings}
    for arriving in arrivings:
        arriving.old = heads.get(arriving.old_key)
        leaving = left.get(arriving.id)
        if leaving is not None and not _goes_back_to(arriving, leaving):
            arriving.leaving = leaving
            leaving.taken = True


def _goes_back_to(arriving: Arriving, leaving: Leaving) -> bool:
    """Whether the delete's row is what this insert made: so it is where both were delivered twice, unrecognised."""
    origin = leaving.origin
    while isinstance(origin, Arriving):
        if origin is arriving:
            return True
        origin = origin.leaving.origin if origin.leaving else None
    return False


def awaited(arrivings: Iterable[Arriving], details: Details) -> set[bytes]:
    """The rows of `moves` that may be of use: of inserts without their deletes, and of documents still incomplete."""
    return {arriving.id for arriving in arrivings if arriving.leaving is None} | {
        detail.awaits for detail in details.values() if detail.awaits is not None
    }


@dataclass(frozen=True, slots=True)
class Known:
    """Fields, the key change that may bring more of them, the rows of `moves` that some were taken from, and the layout
    of the row that they are of."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    awaits: bytes | None = None
    used: tuple[bytes, ...] = ()
    layout: bytes | None = None


def known(origin: Origin, details: Details, moves: Moves) -> Known:
    """What `origin` can give, through however many key changes of this batch."""
    passed = list(_passed(origin))
    last = passed[-1].origin if passed else origin
    inside = isinstance(last, Arriving) and last.leaving is not None  # all there is to know, or a circle
    given = Known() if inside else _outside(last, details, moves)
    for leaving in reversed(passed):
        given = _filled(leaving.fields, leaving.holes, leaving.columns, given)
    return given


def filled(
    fields: Mapping[str, Any],
    holes: frozenset[str],
    columns: Columns,
    origin: Origin,
    details: Details,
    moves: Moves,
) -> Known:
    """`fields` with the holes taken from `origin`, as far as it can give them: those it cannot are missing.

    It can give none that may have been another column's by then: see events/layout.py.
    """
    return _filled(fields, holes, columns, known(origin, details, moves) if holes else Known())


def left_behind(
    leavings: Iterable[Leaving], details: Details, moves: Moves
) -> Iterator[tuple[Move, tuple[bytes, ...]]]:
    """The rows of `moves` to write, of key changes whose insert is not in this batch; and those that go into them."""
    for leaving in {leaving.id: leaving for leaving in leavings}.values():
        if not leaving.taken:
            last = filled(leaving.fields, leaving.holes, leaving.columns, leaving.origin, details, moves)
            before = list(_arrived(leaving.origin))
            documents = tuple(each.old.document_id for each in before if each.old)
            earlier = tuple(each.id for each in before)
            fields = _encode(last.fields)
            move = Move(leaving.id, fields, last.awaits, last.layout, documents=documents, earlier=earlier)
            yield move, last.used


def lenders(arrivings: Iterable[Arriving], details: Details) -> Iterator[tuple[int, set[bytes]]]:
    """Stored documents that these were, whose vectors may be reused: (document id, its chunk hashes)."""
    for arriving in arrivings:
        for origin in _arrived(arriving):
            if origin.old and (detail := details.get(origin.old.document_id)):
                yield origin.old.document_id, {chunk.chunk_hash for chunk in detail.chunks}


def _arrived(origin: Origin) -> Iterator[Arriving]:
    """The inserts of this batch that lie behind `origin`, itself included, the latest first."""
    for each in [origin, *(leaving.origin for leaving in _passed(origin))]:
        if isinstance(each, Arriving):
            yield each


def _passed(origin: Origin) -> Iterator[Leaving]:
    """The deletes of this batch that lie behind `origin`, the latest first. Where no sequence tells the key changes of
    one moment apart they may form a circle."""
    seen: set[int] = set()
    while isinstance(origin, Arriving) and origin.leaving is not None and id(origin.leaving) not in seen:
        seen.add(id(origin.leaving))
        yield origin.leaving
        origin = origin.leaving.origin


def _filled(fields: Mapping[str, Any], holes: frozenset[str], columns: Columns, given: Known) -> Known:
    layout = layout_of(columns)
    packed = layout.packed if layout is not None else given.layout
    if not holes:
        return Known(fields, layout=packed)
    values = {name: value for name, value in fields.items() if name not in holes}
    values |= {name: value for name, value in _still(given.fields, packed, given.layout).items() if name in holes}
    return Known(values, given.awaits, given.used, packed)


def _outside(origin: Origin, details: Details, moves: Moves) -> Known:
    """What is known outside of this batch: stored, or left in `moves`."""
    if isinstance(origin, StoredDocument):
        detail = details.get(origin.document_id)
        return _over(_fields(detail.fields), detail.layout, detail.awaits, moves) if detail else Known()
    if origin is None:
        return Known()
    if origin.id in moves or origin.stored is None:
        return _over({}, None, origin.id, moves)
    tried = _outside(origin.stored, details, moves)
    return replace(tried, awaits=tried.awaits or origin.id)


def _over(fields: Mapping[str, Any], layout: bytes | None, awaits: bytes | None, moves: Moves) -> Known:
    """`fields` over those of the awaited row of `moves`, and of the rows that this one awaits in its turn."""
    used: list[bytes] = []
    while awaits is not None and (move := moves.get(awaits)) is not None and awaits not in used:
        fields, layout = {**_still(_fields(move.fields), layout, move.layout), **fields}, layout or move.layout
        used.append(awaits)
        awaits = move.awaits
    return Known(fields, awaits, tuple(used), layout)


def _still(fields: Mapping[str, Any], now: bytes | None, before: bytes | None) -> Mapping[str, Any]:
    """Those that are of the same columns in a row of the layout `now` as in the earlier one that they are of."""
    if now == before:
        return fields
    return {name: value for name, value in fields.items() if is_same(name, now, before)}


def _fields(stored: bytes | None) -> Mapping[str, Any]:
    return {} if stored is None else _decode(stored)
