"""Offsets outside a batch: taking partitions over, showing and resetting them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import Connection
from psycopg.rows import class_row

from consumer.errors import Stop
from consumer.store.model import Acquired, StoredOffset, TopicPartition, Wanted
from consumer.store.packing import Array
from consumer.store.truncates import lock_key

JOB = "replay:"  # jobs keep their progress under names of their own, beside the schema's group

_OTHER_GROUP = "SELECT group_id FROM offsets WHERE group_id <> %s AND NOT starts_with(group_id, %s) LIMIT 1"

# Waits for a transaction of the former owner that holds the row, so what is returned is what it committed. A job's rows
# go when it is done: its first epoch is a number never given before, for an earlier run may still be on its way.
# Sorted like the fence's lock; a row of another topic id, or one the broker has already deleted past, is not touched.
_ACQUIRE = """
INSERT INTO offsets AS o (group_id, topic, topic_id, partition, epoch, next_offset)
SELECT %(group)s, topic, topic_id, partition,
       CASE WHEN starts_with(%(group)s, %(job)s) THEN pg_current_xact_id()::text::bigint ELSE 1 END, low
FROM unnest(%(topics)s, %(ids)s, %(partitions)s, %(lows)s) AS wanted (topic, topic_id, partition, low)
ORDER BY topic, partition
ON CONFLICT (group_id, topic, partition) DO UPDATE SET epoch = o.epoch + 1, updated_at = now()
WHERE o.topic_id = excluded.topic_id AND o.next_offset >= excluded.next_offset
RETURNING topic, partition, epoch, next_offset
"""

_SHOW = """
SELECT group_id AS "group", topic, topic_id, partition, epoch, next_offset, updated_at FROM offsets
WHERE %s::text IS NULL OR group_id = %s ORDER BY group_id, topic, partition
"""

_RESET = """
INSERT INTO offsets AS o (group_id, topic, topic_id, partition, epoch, next_offset) VALUES (%s, %s, %s, %s, 1, %s)
ON CONFLICT (group_id, topic, partition) DO UPDATE
SET topic_id = excluded.topic_id, epoch = o.epoch + 1, next_offset = excluded.next_offset, updated_at = now()
"""

_FORGET = "DELETE FROM offsets WHERE group_id = %s AND starts_with(group_id, %s)"

_HEARTBEATS = "SELECT topic_prefix, ts_us FROM heartbeats"
_BEHIND = "SELECT topic_prefix, behind_us FROM heartbeats WHERE behind_us <> 0"
_NOTE_BEHIND = "UPDATE heartbeats SET behind_us = %s WHERE topic_prefix = %s"


def acquire(
    connection: Connection[Any], schema: str, group: str, partitions: Sequence[Wanted]
) -> dict[TopicPartition, Acquired]:
    """Take the partitions, all or none."""
    named = {
        "group": group,
        "job": JOB,
        "topics": Array("text", (wanted.topic for wanted in partitions)),
        "ids": Array("text", (wanted.topic_id for wanted in partitions)),
        "partitions": Array("int4", (wanted.partition for wanted in partitions)),
        "lows": Array("int8", (wanted.low_watermark for wanted in partitions)),
    }
    with connection.pipeline():
        connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
        # Two groups that start at once on an empty schema see each other.
        connection.execute("SELECT pg_advisory_xact_lock(%s::bigint)", [lock_key(schema, "groups")])
        other = connection.execute(_OTHER_GROUP, [group, JOB])
        rows = connection.execute(_ACQUIRE, named)
    _refuse(other.fetchone(), group)
    acquired = {TopicPartition(row[0], row[1]): Acquired(row[2], row[3]) for row in rows}
    missing = [wanted for wanted in partitions if TopicPartition(wanted.topic, wanted.partition) not in acquired]
    if missing:
        raise _not_there(missing[0], offsets(connection, group))
    connection.execute("COMMIT")
    return acquired


def refuse_other(connection: Connection[Any], group: str) -> None:
    """`Stop` where the schema belongs to another group."""
    _refuse(connection.execute(_OTHER_GROUP, [group, JOB]).fetchone(), group)


def offsets(connection: Connection[Any], group: str | None) -> list[StoredOffset]:
    """Stored offsets of one group or of all."""
    with connection.cursor(row_factory=class_row(StoredOffset)) as cursor:
        return cursor.execute(_SHOW, [group, group]).fetchall()


def reset(connection: Connection[Any], group: str, topic: str, topic_id: str, partition: int, next_offset: int) -> None:
    """Move one position and take its epoch."""
    connection.execute(_RESET, [group, topic, topic_id, partition, next_offset])


def forget(connection: Connection[Any], job: str) -> None:
    """Remove every position of a job; never those of the group."""
    connection.execute(_FORGET, [job, JOB])


def heartbeats(connection: Connection[Any]) -> dict[str, int]:
    """Topic prefix -> commit time in microseconds."""
    return dict(connection.execute(_HEARTBEATS).fetchall())


def clocks_behind(connection: Connection[Any]) -> dict[str, int]:
    """Topic prefix -> microseconds that its source's clock is behind, where it is."""
    return dict(connection.execute(_BEHIND).fetchall())


def note_clock(connection: Connection[Any], prefix: str, behind_us: int) -> None:
    """The clock of the source is so far behind."""
    connection.execute(_NOTE_BEHIND, [behind_us, prefix])


def _refuse(row: tuple[str] | None, group: str) -> None:
    if row and not group.startswith(JOB):
        raise Stop(
            f"The schema belongs to the group {row[0]}, this is {group}.",
            "Two groups would write over each other.",
            f"Run with --group {row[0]}, or set store.schema to a schema of its own.",
        )


def _not_there(wanted: Wanted, stored: Sequence[StoredOffset]) -> Stop:
    fix = f"Decide with `embed-consumer offsets reset --topic {wanted.topic} --partition {wanted.partition} --to …`."
    place = f"{wanted.topic} [{wanted.partition}]"
    row = next(row for row in stored if (row.topic, row.partition) == (wanted.topic, wanted.partition))
    if row.topic_id != wanted.topic_id:
        return Stop(
            f"The topic of {place} was deleted and created again.",
            f"The stored offset {row.next_offset} is of topic id {row.topic_id}, the broker has {wanted.topic_id}.",
            fix,
        )
    return Stop(
        f"Events of {place} are gone before they were applied.",
        f"The stored offset is {row.next_offset}, the broker begins at {wanted.low_watermark}.",
        fix,
    )
