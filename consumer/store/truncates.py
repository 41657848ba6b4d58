"""Truncate: one source's documents go, and nothing older comes back through any partition.

Every writer holds the shared advisory lock of its sources while it reads the marker and writes; the one that read the
truncate holds it exclusively while it writes the marker and empties the source. So a straggler either is written before
the truncate and goes with it, or sees the marker and is dropped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from psycopg import Connection, sql

from consumer.planning import DocumentKey, DocumentWrite, Truncate
from consumer.store.model import Generation
from consumer.store.packing import Array

_MARKERS = """
SELECT source, truncated_ts_us, truncated_commit, truncated_lsn, key_columns, keyed_since_us, last_layout,
       last_layout_ts_us
FROM tables WHERE source = ANY(%s)
"""

_MARK = """
INSERT INTO tables (source, truncated_ts_us, truncated_commit, truncated_lsn) VALUES (%s, %s, %s, %s)
ON CONFLICT (source) DO UPDATE SET truncated_ts_us = excluded.truncated_ts_us,
    truncated_commit = excluded.truncated_commit, truncated_lsn = excluded.truncated_lsn
"""

UNREAD = ("decode", "read")  # stages of failures in which nothing of the event but its place is known

# Gravestones keep their place in the order; their content, chunks and failures go. The same test as `is_older`, on the
# last event that could be read: a document whose last one could not loses what is older, and stays failed.
_EMPTY = sql.SQL("""
WITH gone AS (
    UPDATE documents AS d
    SET state = CASE WHEN EXISTS (
            SELECT FROM failed_documents AS f
            WHERE f.key_hash = d.key_hash AND f.source = d.source AND f.stage IN ('decode', 'read')
        ) THEN 'failed' ELSE 'deleted' END,
        fields = NULL, fields_complete = false, fields_hash = NULL, table_hash = NULL,
        content_hash = NULL, metadata = NULL, awaits = NULL, version = version + 1, updated_at = now()
    WHERE source = %(source)s AND state <> 'deleted' AND source_ts_us <= %(ts_us)s
      AND (%(commit)s::bigint IS NULL OR sequence_commit IS NULL
           OR (sequence_commit, sequence_lsn) < (%(commit)s::bigint, %(lsn)s::bigint))
    RETURNING document_id, key_hash, state
), emptied AS (
    DELETE FROM {chunks} AS c USING gone WHERE c.document_id = gone.document_id RETURNING 1
), forgotten AS (
    DELETE FROM failed_documents AS f USING gone
    WHERE f.key_hash = gone.key_hash AND f.source = %(source)s AND gone.state = 'deleted'
)
SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM emptied)
""")


class Marker(NamedTuple):
    """When a source was last truncated."""

    ts_us: int
    sequence: tuple[int, int] | None


Markers = Mapping[str, Marker]


def lock_key(schema: str, name: str) -> int:
    """The advisory lock of a name in a schema. Two names may share one: that costs waiting, never correctness."""
    digest = hashlib.sha256(f"{schema}\x00{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def lock_name(source: str) -> str:
    """What the advisory lock of a source is called."""
    return f"source {source}"


def lock(connection: Connection[Any], schema: str, shared: Iterable[str], exclusive: Iterable[str]) -> None:
    """Take the transaction locks in one order for all writers, so that none waits crosswise."""
    alone = {lock_key(schema, name) for name in exclusive}
    for key in sorted(alone | {lock_key(schema, name) for name in shared}):
        mode = "pg_advisory_xact_lock" if key in alone else "pg_advisory_xact_lock_shared"
        connection.execute(f"SELECT {mode}(%s::bigint)", [key])


def select_markers(connection: Connection[Any], sources: Iterable[str]) -> Any:
    """Ask for rows of `tables` (the cursor); only what is read under the locks counts."""
    return connection.execute(_MARKERS, [Array("text", sorted(set(sources)))])


def markers_from(rows: Iterable[Any]) -> dict[str, Marker]:
    """The answer to `select_markers`, as far as it is about truncates."""
    return {
        source: Marker(ts_us, None if commit is None or lsn is None else (commit, lsn))
        for source, ts_us, commit, lsn, *_ in rows
        if ts_us is not None
    }


def effective(truncates: Sequence[Truncate], markers: Markers) -> dict[str, Marker]:
    """The truncates that move a marker forward, the last one per source; a redelivered one moves nothing."""
    latest = dict(markers)
    moved: dict[str, Marker] = {}
    for truncate in truncates:
        new, old = Marker(truncate.ts_us, truncate.sequence), latest.get(truncate.source)
        if old is None or not _reached(new, old):
            latest[truncate.source] = moved[truncate.source] = new
    return moved


def standing(writes: Iterable[DocumentWrite], markers: Markers) -> tuple[list[DocumentWrite], tuple[DocumentKey, ...]]:
    """The writes to do, and the keys of those older than a truncate.

    To a stored document such a one is its end, however the events before it were cut into batches.
    """
    kept: list[DocumentWrite] = []
    older = []
    for write in writes:
        if not is_older(write, markers):
            kept.append(write)
            continue
        older.append(write.key)
        if write.document_id is not None:
            kept.append(ended(write))
    return kept, tuple(older)


def ended(write: DocumentWrite) -> DocumentWrite:
    """The write as the end of a stored document."""
    return msgspec.structs.replace(
        write, state="deleted", fields=None, fields_complete=False, fields_hash=None, table_hash=None,
        content_hash=None, metadata=None, insert=(), update=(), delete=(), delete_all=True, failure=None,
        was_failed=True, awaits=None, leaves=(),
    )  # fmt: skip


def is_older(write: DocumentWrite, markers: Markers) -> bool:
    """Whether the write's event happened before its source was truncated.

    An event that could not be read has no time of its own: it may be newer, and must not be lost.
    """
    marker = markers.get(write.key.source)
    order = write.order
    if write.failure is not None and write.failure.stage in UNREAD:
        return False
    if marker is None or order.ts_us is None or order.ts_us > marker.ts_us:
        return False
    if order.sequence is None or marker.sequence is None:
        return True
    return order.sequence < marker.sequence


def empty_source(connection: Connection[Any], generation: Generation, source: str, marker: Marker) -> tuple[int, int]:
    """Write the marker and turn older documents into gravestones; how many documents and chunks went."""
    commit, lsn = marker.sequence or (None, None)
    connection.execute(_MARK, [source, marker.ts_us, commit, lsn])
    statement = _EMPTY.format(chunks=sql.Identifier(generation.chunk_table))
    named = {"source": source, "ts_us": marker.ts_us, "commit": commit, "lsn": lsn}
    row = connection.execute(statement, named).fetchone() or (0, 0)
    return row[0], row[1]


def _reached(new: Marker, old: Marker) -> bool:
    """Whether `new` is the same truncate as `old`, or an earlier one."""
    if new.sequence is not None and old.sequence is not None:
        if new.sequence == old.sequence:
            return True  # MariaDB's has a later time when it is delivered again
        if new.sequence > old.sequence:
            return False
    return new.ts_us <= old.ts_us
