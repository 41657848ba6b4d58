"""Which columns are a source's key. Under another one its rows would be documents twice, the old for ever.

The columns under which a source is first written are remembered. A write under others becomes a failed document, while
its neighbours go on, and both keys are noted: `rekey` is how a person accepts the new ones. From then on these count,
and what was committed before the first event under them is dropped, through whichever partition it comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
from psycopg import Connection

from consumer.events import Order
from consumer.planning import DocumentWrite, Failure
from consumer.store.model import KeyChange
from consumer.store.packing import Array
from consumer.store.truncates import UNREAD, ended

Columns = Mapping[str, str | None]
"""Names of key columns, each with the kind of its values, None where that is not known."""

_KINDS: Mapping[type, str] = {
    int: "number",
    float: "number",
    str: "text",
    bool: "boolean",
    dict: "object",
    list: "list",
}
KEY_CHANGED = "key_changed"

_NO_NUMBERS = ("NaN", "Infinity", "-Infinity")  # texts in a column of numbers

# Waits for another writer that learns the same source at this moment, and gives what that one has written.
_LEARN = """
INSERT INTO tables AS t (source, key_columns) SELECT * FROM unnest(%s, %s) AS learned (source, key_columns)
ON CONFLICT (source) DO UPDATE SET key_columns = coalesce(t.key_columns, excluded.key_columns)
RETURNING source, key_columns, keyed_since_us
"""

_NOTE = """
INSERT INTO tables AS t (source, key_columns, next_key_columns, next_keyed_since_us)
VALUES (%s, %s::jsonb, %s::jsonb, %s)
ON CONFLICT (source) DO UPDATE
SET key_columns = coalesce(t.key_columns, excluded.key_columns), next_key_columns = excluded.next_key_columns,
    next_keyed_since_us = least(excluded.next_keyed_since_us,
        CASE WHEN t.next_key_columns = excluded.next_key_columns THEN t.next_keyed_since_us END)
WHERE t.key_columns IS DISTINCT FROM excluded.next_key_columns
"""

_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Keyed(NamedTuple):
    """A source's key. `since_us`: when the first event under it was committed; None where it never had another."""

    columns: Columns
    since_us: int | None = None


@dataclass(frozen=True)
class Rekeyed:
    """A source's key, and the one of the earliest write that has another; `order` is that write's."""

    source: str
    old: Columns
    new: Columns
    order: Order

    @property
    def failure(self) -> Failure:
        """Why a write under the other key fails."""
        change = described(self.old, self.new)
        return Failure(
            "write",
            KEY_CHANGED,
            f"The key of {self.source} has changed from ({change.old}) to ({change.new}). If the table has another "
            f"primary key now, run `embed-consumer rekey --source {self.source}` and take a snapshot of it. If a "
            "router brings tables with different keys into the topic, give each a topic of its own.",
        )


@dataclass(slots=True)
class Standing:
    """Writes under their source's key, those `late` from before it had this one, and those under `other` keys."""

    kept: list[DocumentWrite] = field(default_factory=list)
    late: list[DocumentWrite] = field(default_factory=list)
    other: list[DocumentWrite] = field(default_factory=list)
    changes: dict[str, Rekeyed] = field(default_factory=dict)

    @property
    def failing(self) -> list[DocumentWrite]:
        """Those under other keys as failed documents: of the event only its place is kept, and it is read again."""
        failures = {source: change.failure for source, change in self.changes.items()}
        return [
            msgspec.structs.replace(
                ended(write), state="failed", delete_all=False, was_failed=False, generation=None, layout=None,
                kept=0, used=(), failure=failures[write.key.source],
            )
            for write in self.other
        ]  # fmt: skip


def columns_of(source_key: bytes) -> dict[str, str | None]:
    """The columns of a canonical key. NULL has no kind."""
    return {
        name: None if value in _NO_NUMBERS else _KINDS.get(type(value)) for name, value in _decode(source_key).items()
    }


def unknown(writes: Sequence[DocumentWrite], keyed: Mapping[str, Keyed]) -> dict[str, Columns]:
    """The keys of sources that had none so far, each by its earliest event."""
    found: dict[str, DocumentWrite] = {}
    for write in writes:
        source = write.key.source
        if (
            source not in keyed
            and _was_read(write)
            and (source not in found or _time(write.order) < _time(found[source].order))
        ):
            found[source] = write
    return {source: columns_of(write.source_key) for source, write in found.items()}


def standing(writes: Iterable[DocumentWrite], keyed: Mapping[str, Keyed]) -> Standing:
    """Sort writes by whether they are under their source's key.

    What could not be read proves nothing: under another key it is a failed document anyway.
    """
    found = Standing()
    for write in writes:
        source, columns = write.key.source, columns_of(write.source_key)
        known = keyed.get(source)
        if known is None or not _was_read(write) or _alike(columns, known.columns):
            found.kept.append(write)
        elif known.since_us is not None and (write.order.ts_us is None or write.order.ts_us <= known.since_us):
            found.late.append(write)
        else:
            found.other.append(write)
            change = found.changes.get(source)
            if change is None or _time(write.order) < _time(change.order):
                found.changes[source] = Rekeyed(source, known.columns, columns, write.order)
    return found


def known_from(rows: Iterable[tuple[str, Columns | None, int | None]]) -> dict[str, Keyed]:
    """Rows of `tables`, as far as they know a key."""
    return {source: Keyed(columns, since_us) for source, columns, since_us in rows if columns is not None}


def learn(connection: Connection[Any], learned: Mapping[str, Columns]) -> dict[str, Keyed]:
    """Keep the keys of new sources; what counts from now on, for another writer may have been quicker."""
    sources = sorted(learned)
    arrays = [Array("text", sources), Array("jsonb", (_encode(learned[source]) for source in sources))]
    return known_from(connection.execute(_LEARN, arrays))


def note(connection: Connection[Any], changes: Mapping[str, Rekeyed]) -> None:
    """Remember them for the person who decides about them."""
    for source, change in sorted(changes.items()):
        old, new = _encode(change.old).decode(), _encode(change.new).decode()
        connection.execute(_NOTE, [source, old, new, change.order.ts_us])


def described(old: Columns, new: Columns, documents: int = 0) -> KeyChange:
    """Both keys in words, with the kinds of their values where the names are the same."""
    with_kinds = old.keys() == new.keys()

    def said(columns: Columns) -> str:
        return ", ".join(f"{name}: {kind}" if with_kinds else name for name, kind in sorted(columns.items()))

    return KeyChange(said(old), said(new), documents)


def _alike(one: Columns, other: Columns) -> bool:
    return one == other or (
        one.keys() == other.keys()
        and all(kind is None or other[name] is None or kind == other[name] for name, kind in one.items())
    )


def _was_read(write: DocumentWrite) -> bool:
    return write.failure is None or write.failure.stage not in UNREAD


def _time(order: Order) -> tuple[bool, int]:
    """An event without a time comes last."""
    return order.ts_us is None, order.ts_us or 0
