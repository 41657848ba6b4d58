"""Merging segments: many small indexes cost a search more than one large, and deleted rows keep their place in them.

The rows are copied into a segment that nobody sees, its index is built, and it takes the place of those it was made
from in one short transaction. What was written to these meanwhile is brought over: first beside the writers, then once
more, in that transaction, while none of them is under way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import Connection, sql

from consumer.store import generations, segments, truncates
from consumer.store.model import Generation
from consumer.store.segments import Segment

LARGEST = 16  # times the rows after which a segment is sealed: nothing else is done while a merge goes on
BUSY, QUIET = 3.0, 0.5  # how many times the rows of the largest of a merge the others must have

_KEY = ("document_id", "chunk_hash", "occurrence")
_NEVER_CHANGED = ("source", "source_key", "content", "token_count", "embedding", "embedded_at")
# What `chunks.update_chunks` sets.
_CHANGED = ("chunk_no", "metadata", "kafka_topic", "kafka_partition", "kafka_offset", "source_committed_at")

_COPY = sql.SQL("""
INSERT INTO {segment} ({all}, segment) SELECT {all}, {number} FROM {chunks} WHERE segment IN ({sources})
""")
_MERGES = "UPDATE segments SET merges = %s WHERE generation = %s AND segment = %s"
_MERGED = "UPDATE segments SET merges = NULL WHERE generation = %s AND segment = %s"

# What has been done to the sources since, done to the copy. A row of theirs goes, changes in these columns, or comes:
# the last from a transaction that began before they were sealed.
_REMOVE = sql.SQL("""
DELETE FROM {segment} AS m
WHERE NOT EXISTS (SELECT FROM {chunks} AS s WHERE s.segment IN ({sources}) AND ({m_key}) = ({s_key}))
""")
_CHANGE = sql.SQL("""
UPDATE {segment} AS m SET ({changed}) = ROW ({s_changed}) FROM {chunks} AS s
WHERE s.segment IN ({sources}) AND ({m_key}) = ({s_key}) AND ({m_changed}) IS DISTINCT FROM ({s_changed})
""")
_ADD = sql.SQL("""
INSERT INTO {segment} ({all}, segment) SELECT {all}, {number} FROM {chunks} AS s
WHERE s.segment IN ({sources}) AND NOT EXISTS (SELECT FROM {segment} AS m WHERE ({m_key}) = ({s_key}))
""")
_ANY = sql.SQL("SELECT EXISTS (SELECT FROM {segment})")


def chosen(sealed: Sequence[Segment], segment_rows: int, *, quiet: bool) -> list[Segment]:
    """Which of the indexed segments to make one of; none: leave them.

    Those that have lost half of their rows or more. Else the most for which the smaller together weigh enough against
    the largest: so each row is indexed a few times only, however many there are. `quiet`: nobody writes, and fewer
    segments are worth more.
    """
    ordered = sorted(sealed, key=lambda segment: segment.live)
    for end in range(len(ordered), 1, -1):
        weight = sum(segment.live for segment in ordered[: end - 1])
        largest = ordered[end - 1].live
        if weight >= largest * (QUIET if quiet else BUSY) and weight + largest <= LARGEST * segment_rows:
            return ordered[:end]
    return [segment for segment in ordered if 2 * segment.live <= (segment.rows or 0) or not segment.live][:1]


def copy(connection: Connection[Any], generation: Generation, number: int, sources: Sequence[int]) -> None:
    """Make the segment that is to replace `sources`, with their rows and without vector index."""
    with connection.transaction():
        connection.execute(segments.detached(generation.number, generation.chunk_table, number))
        connection.execute(_MERGES, [list(sources), generation.number, number])
        connection.execute(_formatted(_COPY, generation, number, sources))


def replace(
    connection: Connection[Any], schema: str, generation: Generation, number: int, sources: Sequence[int]
) -> None:
    """Let the segment take the place of `sources`, which go.

    For a moment no writer is under way; readers wait for the last step only. Raises psycopg's `LockNotAvailable`, and
    leaves all as it was, where one of them takes longer than two seconds.
    """
    catch_up(connection, generation, number, sources)
    with connection.transaction():
        connection.execute("SET LOCAL lock_timeout = '2s'")
        truncates.lock(connection, schema, (), [generations.SWITCH])
        catch_up(connection, generation, number, sources)
        segments.drop(connection, generation, list(sources))
        connection.execute(_MERGED, [generation.number, number])
        if connection.execute(_formatted(_ANY, generation, number, sources)).fetchone() == (True,):
            segments.attach(connection, generation, number)
        else:
            segments.drop(connection, generation, [number])


def catch_up(connection: Connection[Any], generation: Generation, number: int, sources: Sequence[int]) -> None:
    """Do to the copy what has been done to `sources` since."""
    for statement in (_REMOVE, _CHANGE, _ADD):
        connection.execute(_formatted(statement, generation, number, sources))


def _formatted(statement: sql.SQL, generation: Generation, number: int, sources: Sequence[int]) -> sql.Composed:
    return statement.format(
        segment=segments.identifier(generation, number),
        chunks=sql.Identifier(generation.chunk_table),
        number=sql.Literal(number),
        sources=sql.SQL(", ").join(map(sql.Literal, sources)),
        all=_names((*_KEY, *_NEVER_CHANGED, *_CHANGED)),
        changed=_names(_CHANGED),
        m_key=_names(_KEY, "m"),
        s_key=_names(_KEY, "s"),
        m_changed=_names(_CHANGED, "m"),
        s_changed=_names(_CHANGED, "s"),
    )


def _names(columns: Sequence[str], table: str = "") -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(*filter(None, (table, column))) for column in columns)
