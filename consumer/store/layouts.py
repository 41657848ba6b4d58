"""Which columns the changes of a source have, so that those which only its snapshots have are known as such.

The last change tells it when a snapshot's row is written. Where none has come yet, as in a first snapshot, the first
one tells it later (lookup.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from psycopg import Connection

from consumer.events import as_streamed
from consumer.planning import DocumentWrite
from consumer.store.packing import Array

# Partitions are not read in the order of time, and another writer may be ahead.
_LEARN = """
UPDATE tables AS t
SET first_layout = coalesce(t.first_layout, learned.layout), last_layout = learned.layout, last_layout_ts_us = ts_us
FROM unnest(%s, %s, %s) AS learned (source, layout, ts_us)
WHERE t.source = learned.source AND coalesce(t.last_layout_ts_us < ts_us, true)
"""


class Streamed(NamedTuple):
    """The layout of a source's last change, and when that was committed, in microseconds since 1970."""

    layout: bytes | None
    ts_us: int | None


def learn(connection: Connection[Any], writes: Sequence[DocumentWrite], known: Mapping[str, Streamed]) -> None:
    """Remember the last change's layout. Called before documents are held, when each source has its row of `tables`."""
    learned: dict[str, DocumentWrite] = {}
    for write in writes:
        source, ts_us = write.key.source, write.order.ts_us
        last = known.get(source) or Streamed(None, None)
        if write.order.snapshot or ts_us is None or write.layout in (None, last.layout):
            continue
        before = learned[source].order.ts_us if source in learned else last.ts_us
        if before is None or before < ts_us:
            learned[source] = write
    if learned:
        sources = sorted(learned)
        layouts = Array("bytea", (learned[source].layout for source in sources))
        times = Array("int8", (learned[source].order.ts_us for source in sources))
        connection.execute(_LEARN, [Array("text", sources), layouts, times])


def of_changes(writes: Sequence[DocumentWrite], known: Mapping[str, Streamed]) -> list[DocumentWrite]:
    """The writes, a snapshot's told which of its columns the last change has."""
    return [
        msgspec.structs.replace(write, layout=as_streamed(write.layout, last.layout))
        if write.order.snapshot and (last := known.get(write.key.source)) is not None
        else write
        for write in writes
    ]
