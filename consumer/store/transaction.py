"""What one transaction does, in order: fence, locks, documents, chunks, failures. COMMIT is the caller's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from psycopg import Connection, sql

from consumer.errors import Stop
from consumer.planning import Advance, DocumentWrite, Plan
from consumer.store import chunks, documents, failed, generations, keys, layouts, moves, truncates
from consumer.store.model import Applied, Conflict, Fenced, Generation, Outcome, TopicPartition
from consumer.store.packing import Array
from consumer.store.session import Session
from consumer.store.truncates import Marker

# Locked in one order by every process, so that a zombie and the new owner never wait for each other crosswise.
_HOLD = """
SELECT topic, partition, epoch, next_offset FROM offsets
WHERE group_id = %s AND (topic, partition) IN (SELECT * FROM unnest(%s, %s))
ORDER BY topic, partition
FOR UPDATE
"""

_UNHURRIED = """
SELECT set_config(name, '0', true) FROM unnest(ARRAY['statement_timeout', 'transaction_timeout']) AS name
WHERE current_setting(name, true) IS NOT NULL
"""

# The fence: only the epoch that acquired the partition moves it, and only from where its batch began.
_ADVANCE = """
UPDATE offsets AS o SET next_offset = a.stop, updated_at = now()
FROM unnest(%s, %s, %s, %s, %s) AS a (topic, partition, epoch, start, stop)
WHERE o.group_id = %s AND o.topic = a.topic AND o.partition = a.partition
  AND o.epoch = a.epoch AND o.next_offset = a.start
RETURNING o.topic, o.partition
"""

_BEAT = """
INSERT INTO heartbeats AS h (topic_prefix, ts_us)
SELECT prefix, max(ts_us) FROM unnest(%s, %s) AS beat (prefix, ts_us) GROUP BY prefix ORDER BY prefix
ON CONFLICT (topic_prefix) DO UPDATE SET ts_us = greatest(h.ts_us, excluded.ts_us), updated_at = now()
"""


def write(connection: Session, schema: str, plan: Plan, vectors: Mapping[bytes, np.ndarray]) -> Outcome:
    """Begin a transaction and do all of the plan. Left open: commit it if the outcome is `Applied`, else roll back."""
    fenced, generation, tables = _begin(connection, schema, plan)
    if fenced:
        return Fenced(fenced)
    keyed, markers = keys.known_from((row[0], *row[4:6]) for row in tables), truncates.markers_from(tables)
    if learned := keys.unknown(plan.writes, keyed):
        keyed |= keys.learn(connection, learned)
    standing = keys.standing(plan.writes, keyed)
    keys.note(connection, standing.changes)
    streamed = {row[0]: layouts.Streamed(*row[6:]) for row in tables}
    layouts.learn(connection, standing.kept, streamed)
    failing, late = standing.failing, standing.late
    moved = truncates.effective(plan.truncates, markers)
    writes = [*layouts.of_changes(standing.kept, streamed), *failing]
    kept, dropped = truncates.standing(writes, {**markers, **moved})
    kept += [truncates.ended(item) for item in late if item.document_id is not None]
    dropped += tuple(item.key for item in late)
    ids, missed = documents.write_documents(connection, kept)
    if missed:
        return Conflict(missed)
    applied = _write_rest(connection, generation, plan, kept)
    inserted = chunks.insert_chunks(connection, generation, kept, ids, vectors)
    moves.settle(connection, schema, kept)
    refused = {item.key: item.failure for item in failing if item.failure is not None and item.key not in dropped}
    applied = replace(applied, documents=len(kept), chunks_inserted=inserted, dropped=dropped, refused=refused)
    return _empty(connection, generation, moved, applied)


def held_offsets(
    connection: Connection[Any], group: str, advances: Sequence[Advance]
) -> dict[TopicPartition, tuple[int, int]]:
    """(epoch, next_offset) of the partitions; waits for a transaction that still holds them."""
    rows = connection.execute(_HOLD, _hold_arguments(group, advances)).fetchall()
    return {TopicPartition(topic, partition): (epoch, offset) for topic, partition, epoch, offset in rows}


def _begin(connection: Session, schema: str, plan: Plan) -> tuple[frozenset[TopicPartition], Generation, list[Any]]:
    """One round trip: begin, fence, locks, generation, rows of `tables`.

    READ COMMITTED, whatever the default: a statement behind a lock must see what the lock waited for.
    """
    sources = {item.key.source for item in plan.writes}
    emptied = {truncate.source for truncate in plan.truncates}
    shared = {generations.SWITCH, *map(truncates.lock_name, sources)}  # a switch of generations takes the first alone
    connection.hurried = not emptied
    with connection.pipeline():
        connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
        if emptied:  # a million documents may go: as long as it takes
            connection.execute(_UNHURRIED)
        moved = _fence(connection, plan) if plan.advances else None
        truncates.lock(connection, schema, shared, map(truncates.lock_name, emptied))
        generation = generations.select(connection, plan.generation)
        markers = truncates.select_markers(connection, sources | emptied)
    reached = {TopicPartition(*row) for row in moved} if moved else set()
    wanted = {TopicPartition(advance.topic, advance.partition) for advance in plan.advances}
    return frozenset(wanted - reached), _live(generation, plan.generation), markers.fetchall()


def _live(cursor: Any, number: int) -> Generation:
    generation = generations.from_row(cursor.fetchone())
    if generation is None or generation.state != "live":
        raise Stop(
            f"Generation {number} is not live any more.",
            "Another generation took its place while this process ran.",
            "Start the consumer again with the settings of the live generation.",
        )
    return generation


def _fence(connection: Connection[Any], plan: Plan) -> Any:
    connection.execute(_HOLD, _hold_arguments(plan.group, plan.advances))
    advances = plan.advances
    arrays = [
        Array("text", (advance.topic for advance in advances)),
        Array("int4", (advance.partition for advance in advances)),
        Array("int8", (advance.epoch for advance in advances)),
        Array("int8", (advance.start for advance in advances)),
        Array("int8", (advance.end for advance in advances)),
    ]
    return connection.execute(_ADVANCE, [*arrays, plan.group])


def _hold_arguments(group: str, advances: Sequence[Advance]) -> list[Any]:
    topics = Array("text", (advance.topic for advance in advances))
    return [group, topics, Array("int4", (advance.partition for advance in advances))]


def _write_rest(
    connection: Connection[Any], generation: Generation, plan: Plan, kept: Sequence[DocumentWrite]
) -> Applied:
    """One round trip for all that needs no answer before the next statement."""
    with connection.pipeline():
        moves.leave(connection, generation, kept)
        deleted = chunks.delete_chunks(connection, generation, kept)
        updated = chunks.update_chunks(connection, generation, kept)
        failed.record_failures(connection, kept)
        failed.remove_healed(connection, kept)
        failed.record_rejects(connection, plan.rejects)
        if plan.heartbeats:
            prefixes, times = zip(*plan.heartbeats, strict=True)
            connection.execute(_BEAT, [Array("text", prefixes), Array("int8", times)])
    gone = Counter[str]()
    for cursor in deleted:
        gone.update(dict(cursor))
    return Applied(deleted=gone, chunks_updated=sum(cursor.rowcount for cursor in updated))


def _empty(
    connection: Connection[Any], generation: Generation, moved: Mapping[str, Marker], applied: Applied
) -> Applied:
    """Truncate last: what this plan wrote is newer, so it is not taken for old."""
    for source, marker in sorted(moved.items()):
        gone, chunk_count = truncates.empty_source(connection, generation, source, marker)
        applied = replace(
            applied,
            documents=applied.documents + gone,
            deleted=applied.deleted + Counter({source: chunk_count}),
            truncated=(*applied.truncated, source),
        )
    return applied


@contextmanager
def snapshot(connection: Connection[Any], locked: Sequence[str] = ()) -> Iterator[None]:
    """Several reads of one moment, sent in one go; that moment is after these tables could be `locked` for reading."""
    with connection.pipeline():
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        for table in locked:
            connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(sql.Identifier(table)))
        yield
        connection.execute("COMMIT")
