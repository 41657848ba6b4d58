"""Which columns are a source's key. Under another one its rows would be documents twice, the old for ever.

The columns under which a source is first written are remembered. A write under others stops the writer before anything
happens, and both are noted: `rekey` is how a person accepts the new ones. From then on these count, and what was
committed before the first event under them is dropped, through whichever partition it comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
from psycopg import Connection

from consumer.errors import Stop
from consumer.events import Order
from consumer.planning import DocumentWrite
from consumer.store.model import KeyChange
from consumer.store.packing import Array
from consumer.store.truncates import UNREAD

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
    """Nothing was written: an event at `order` has another key than its source."""

    source: str
    old: Columns
    new: Columns
    order: Order

    @property
    def stop(self) -> Stop:
        """What ends the process."""
        at = f"topic {self.order.topic}, partition {self.order.partition}, offset {self.order.offset}"
        change = described(self.old, self.new)
        return Stop(
            f"The key of source {self.source} has changed from ({change.old}) to ({change.new}) ({at}).",
            "Its documents are stored under the old key: no change or delete of their rows would reach them any more.",
            f"Run `embed-consumer rekey --source {self.source}`, which removes them with --execute, then start the "
            "consumer and take a snapshot of the table (docs/snapshots.md). If a router brings tables with different "
            "keys into the topic, give each a topic of its own.",
        )


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


def standing(
    writes: Iterable[DocumentWrite], keyed: Mapping[str, Keyed]
) -> tuple[list[DocumentWrite], list[DocumentWrite], Rekeyed | None]:
    """The writes under their source's key, those from before it had this one, and the first that is neither.

    What could not be read proves nothing: under another key it is a failed document, and no more.
    """
    kept: list[DocumentWrite] = []
    late: list[DocumentWrite] = []
    change: Rekeyed | None = None
    for write in writes:
        known, columns = keyed.get(write.key.source), columns_of(write.source_key)
        if known is None or not _was_read(write) or _alike(columns, known.columns):
            kept.append(write)
        elif known.since_us is not None and (write.order.ts_us is None or write.order.ts_us <= known.since_us):
            late.append(write)
        elif change is None or _time(write.order) < _time(change.order):
            change = Rekeyed(write.key.source, known.columns, columns, write.order)
    return kept, late, change


def known_from(rows: Iterable[tuple[str, Columns | None, int | None]]) -> dict[str, Keyed]:
    """Rows of `tables`, as far as they know a key."""
    return {source: Keyed(columns, since_us) for source, columns, since_us in rows if columns is not None}


def learn(connection: Connection[Any], learned: Mapping[str, Columns]) -> dict[str, Keyed]:
    """Keep the keys of new sources; what counts from now on, for another writer may have been quicker."""
    sources = sorted(learned)
    arrays = [Array("text", sources), Array("jsonb", (_encode(learned[source]) for source in sources))]
    return known_from(connection.execute(_LEARN, arrays))


def note(connection: Connection[Any], change: Rekeyed) -> None:
    """Remember a change that stops this process, for the person who decides about it."""
    old, new = _encode(change.old).decode(), _encode(change.new).decode()
    connection.execute(_NOTE, [change.source, old, new, change.order.ts_us])


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
