"""Failed documents: what could not be applied, why, and when it is tried again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from psycopg import Connection
from psycopg.rows import kwargs_row

from consumer.planning import DocumentKey, DocumentWrite, RejectedEvent
from consumer.store.model import FailedDocument, Reason, Selector
from consumer.store.packing import Array

# After attempt n the next one is due in the n-th delay; past the last one the document is dead.
_DELAY = "(ARRAY['5 minutes', '30 minutes', '2 hours', '24 hours']::interval[])"

# The same event failing again keeps its place in the schedule: the claim that led to this attempt has counted it, so
# that one that kills the process counts too. Another event of the key begins the schedule anew.
_RECORD = f"""
INSERT INTO failed_documents AS f (source, key_hash, source_key, kafka_topic, kafka_partition, kafka_offset,
                                   stage, error_type, error, attempts, next_attempt_at, state)
SELECT source, key_hash, source_key, kafka_topic, kafka_partition, kafka_offset, stage, error_type, error,
       1, now() + {_DELAY}[1], 'retrying'
FROM unnest(%s, %s, %s, %s, %s, %s, %s, %s, %s) AS incoming (source, key_hash, source_key, kafka_topic,
     kafka_partition, kafka_offset, stage, error_type, error)
ON CONFLICT (key_hash, source) WHERE key_hash IS NOT NULL DO UPDATE
SET stage = excluded.stage, error_type = excluded.error_type, error = excluded.error,
    kafka_topic = excluded.kafka_topic, kafka_partition = excluded.kafka_partition,
    kafka_offset = excluded.kafka_offset,
    (attempts, next_attempt_at, state) = (
        SELECT CASE WHEN same THEN f.attempts ELSE excluded.attempts END,
               CASE WHEN same THEN f.next_attempt_at ELSE excluded.next_attempt_at END,
               CASE WHEN same THEN f.state ELSE excluded.state END
        FROM (SELECT (f.kafka_topic, f.kafka_partition, f.kafka_offset)
                     = (excluded.kafka_topic, excluded.kafka_partition, excluded.kafka_offset)) AS event (same)
    )
"""  # noqa: S608 (a constant)

# An event without a readable key is known by its coordinates. Of one that has no key at all no reading makes a row.
_RECORD_EVENT = f"""
INSERT INTO failed_documents AS f (source, kafka_topic, kafka_partition, kafka_offset,
                                   stage, error_type, error, attempts, next_attempt_at, state)
SELECT source, kafka_topic, kafka_partition, kafka_offset, stage, error_type, error, 1,
       CASE WHEN error_type <> 'key_missing' THEN now() + {_DELAY}[1] END,
       CASE WHEN error_type <> 'key_missing' THEN 'retrying' ELSE 'dead' END
FROM unnest(%s, %s, %s, %s, %s, %s, %s) AS incoming (source, kafka_topic, kafka_partition, kafka_offset,
     stage, error_type, error)
ON CONFLICT (kafka_topic, kafka_partition, kafka_offset) WHERE key_hash IS NULL DO UPDATE
SET source = excluded.source, stage = excluded.stage, error_type = excluded.error_type, error = excluded.error
"""  # noqa: S608

_REMOVE = """
DELETE FROM failed_documents AS f
USING unnest(%s, %s) AS healed (source, key_hash)
WHERE f.key_hash = healed.key_hash AND f.source = healed.source
"""

# Claiming counts the attempt and moves the row on in the schedule. That is the lease too: a worker that dies with the
# claim loses one attempt, and a document that kills every worker ends up dead instead of killing them for ever.
_CLAIM = f"""
WITH due AS (
    SELECT failure_id FROM failed_documents
    WHERE state = 'retrying' AND next_attempt_at <= now() AND (%s::text[] IS NULL OR source = ANY(%s))
    ORDER BY next_attempt_at LIMIT %s
    FOR UPDATE SKIP LOCKED
)
UPDATE failed_documents AS f
SET attempts = f.attempts + 1,
    next_attempt_at = now() + {_DELAY}[f.attempts + 1],
    state = CASE WHEN {_DELAY}[f.attempts + 1] IS NULL THEN 'dead' ELSE 'retrying' END
FROM due WHERE f.failure_id = due.failure_id
RETURNING f.failure_id, f.source, f.key_hash, f.source_key::text, f.kafka_topic, f.kafka_partition, f.kafka_offset,
          f.stage, f.error_type, f.error, f.attempts, f.first_failed_at, f.next_attempt_at, f.state
"""  # noqa: S608

# A condition that is not asked for is NULL.
_SELECTED = """
(%(failure_id)s::bigint IS NULL OR failure_id = %(failure_id)s)
AND (%(source)s::text IS NULL OR source = %(source)s)
AND (%(error_type)s::text IS NULL OR error_type = %(error_type)s)
AND (%(state)s::text IS NULL OR state = %(state)s)
"""

_LIST = f"""
SELECT failure_id, source, key_hash, source_key::text, kafka_topic, kafka_partition, kafka_offset,
       stage, error_type, error, attempts, first_failed_at, next_attempt_at, state
FROM failed_documents WHERE {_SELECTED} ORDER BY first_failed_at, failure_id LIMIT %(limit)s
"""  # noqa: S608

_REASONS = f"""
SELECT source, stage, error_type, state, count(*) FROM failed_documents WHERE {_SELECTED}
GROUP BY source, stage, error_type, state ORDER BY count(*) DESC, source, stage, error_type, state
"""  # noqa: S608

_RETRY = f"UPDATE failed_documents SET next_attempt_at = now(), state = 'retrying' WHERE {_SELECTED}"  # noqa: S608
_DISCARD = f"DELETE FROM failed_documents WHERE {_SELECTED}"  # noqa: S608
_COUNTS = "SELECT source, state, count(*) FROM failed_documents GROUP BY source, state"


def record_failures(connection: Connection[Any], writes: Sequence[DocumentWrite]) -> None:
    """Keep why these documents failed. Called while their document rows are held."""
    failing = sorted((write for write in writes if write.failure), key=lambda write: write.key)
    failures = [write.failure for write in failing if write.failure]
    if not failing:
        return
    arrays = [
        Array("text", (write.key.source for write in failing)),
        Array("bytea", (write.key.key_hash for write in failing)),
        Array("jsonb", (write.source_key for write in failing)),
        Array("text", (write.order.topic for write in failing)),
        Array("int4", (write.order.partition for write in failing)),
        Array("int8", (write.order.offset for write in failing)),
        Array("text", (failure.stage for failure in failures)),
        Array("text", (failure.error_type for failure in failures)),
        Array("text", (_storable(failure.error) for failure in failures)),
    ]
    connection.execute(_RECORD, arrays)


def record_rejects(connection: Connection[Any], rejects: Sequence[RejectedEvent]) -> None:
    """Keep events whose key could not be decoded."""
    if not rejects:
        return
    arrays = [
        Array("text", (reject.source for reject in rejects)),
        Array("text", (reject.topic for reject in rejects)),
        Array("int4", (reject.partition for reject in rejects)),
        Array("int8", (reject.offset for reject in rejects)),
        Array("text", (reject.failure.stage for reject in rejects)),
        Array("text", (reject.failure.error_type for reject in rejects)),
        Array("text", (_storable(reject.failure.error) for reject in rejects)),
    ]
    connection.execute(_RECORD_EVENT, arrays)


def remove_healed(connection: Connection[Any], writes: Sequence[DocumentWrite]) -> None:
    """A document that was failed and no longer is leaves the table."""
    healed = [write.key for write in writes if write.was_failed and write.failure is None]
    if healed:
        arrays = [Array("text", (key.source for key in healed)), Array("bytea", (key.key_hash for key in healed))]
        connection.execute(_REMOVE, arrays)


def claim(connection: Connection[Any], limit: int, sources: Collection[str] | None) -> list[FailedDocument]:
    """Due rows, counted and moved on in the schedule: no other process gets them before then."""
    wanted = None if sources is None else list(sources)
    with connection.cursor(row_factory=kwargs_row(_row)) as cursor:
        return cursor.execute(_CLAIM, [wanted, wanted, limit]).fetchall()


def listed(connection: Connection[Any], selector: Selector, limit: int) -> list[FailedDocument]:
    """Selected rows, oldest first."""
    with connection.cursor(row_factory=kwargs_row(_row)) as cursor:
        return cursor.execute(_LIST, {**vars(selector), "limit": limit}).fetchall()


def reasons(connection: Connection[Any], selector: Selector) -> list[Reason]:
    """Selected rows grouped by reason, the most frequent first."""
    return [Reason(*row) for row in connection.execute(_REASONS, vars(selector))]


def make_due(connection: Connection[Any], selector: Selector) -> int:
    """Selected rows become due now, the dead ones for one attempt; how many."""
    return connection.execute(_RETRY, vars(selector)).rowcount


def discard(connection: Connection[Any], selector: Selector) -> int:
    """Selected rows go; how many."""
    return connection.execute(_DISCARD, vars(selector)).rowcount


def counts(connection: Connection[Any]) -> dict[tuple[str, str], int]:
    """(source, state) -> rows."""
    return {(source, state): count for source, state, count in connection.execute(_COUNTS)}


def _row(failure_id: int, source: str, key_hash: bytes | None, source_key: str | None, **rest: Any) -> FailedDocument:
    key = DocumentKey(source, key_hash) if key_hash else None
    names = {"kafka_topic": "topic", "kafka_partition": "partition", "kafka_offset": "offset"}
    renamed = {names.get(name, name): value for name, value in rest.items()}
    return FailedDocument(failure_id, source, key, source_key.encode() if source_key else None, **renamed)


def _storable(error: str) -> str:
    """The reason must always be storable: what UTF-8 or the text type cannot carry is replaced."""
    return error.encode("utf-8", "replace").decode().replace("\x00", "\N{REPLACEMENT CHARACTER}")
