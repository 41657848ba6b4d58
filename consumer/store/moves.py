"""Key changes: what the delete of the old key leaves for the insert under the new one, until used or for a week."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from psycopg import Connection, sql

from consumer.planning import DocumentWrite, Move
from consumer.store import truncates
from consumer.store.model import Generation
from consumer.store.packing import Array, vector_from

# One may await another, which was not there yet when it was left.
_FIND = """
WITH RECURSIVE chain AS (
    SELECT move_id, awaits FROM moves WHERE move_id = ANY(%s)
    UNION
    SELECT m.move_id, m.awaits FROM chain JOIN moves AS m ON m.move_id = chain.awaits
)
SELECT m.move_id, m.fields::text, m.awaits, m.layout, m.chunk_hashes, m.vectors, m.generation
FROM chain JOIN moves AS m USING (move_id)
"""

# The vectors are those of the chunks that are about to go. The send functions give pgvector's binary form.
_LEAVE = sql.SQL("""
WITH lent (move_id, chunk_hash, vector) AS (
    SELECT lending.move_id, chunk_hash, {send}(embedding)
    FROM unnest(%s, %s) AS lending (move_id, document_id) JOIN {chunks} USING (document_id) WHERE occurrence = 0
    UNION ALL
    SELECT passing.move_id, passed.chunk_hash, passed.vector
    FROM unnest(%s, %s) AS passing (move_id, earlier)
    JOIN moves AS m ON m.move_id = passing.earlier AND m.generation = {generation}
    CROSS JOIN LATERAL unnest(m.chunk_hashes, m.vectors) AS passed (chunk_hash, vector)
), c AS (
    SELECT move_id, array_agg(chunk_hash) AS hashes, array_agg(vector) AS vectors FROM lent GROUP BY move_id
)
INSERT INTO moves AS m (move_id, fields, awaits, layout, generation, chunk_hashes, vectors)
SELECT leaving.move_id, leaving.fields, leaving.awaits, leaving.layout, {generation},
       coalesce(c.hashes, '{{}}'), coalesce(c.vectors, '{{}}')
FROM unnest(%s, %s, %s, %s) AS leaving (move_id, fields, awaits, layout) LEFT JOIN c USING (move_id)
ON CONFLICT (move_id) DO UPDATE
SET fields = excluded.fields, awaits = excluded.awaits, layout = excluded.layout, left_at = now()
""")

_USED = "DELETE FROM moves WHERE move_id = ANY(%s)"

# A document that came first waits as failed for just this; one that was given up on has a last chance.
_WAKE = """
UPDATE failed_documents AS f SET next_attempt_at = now(), state = 'retrying'
FROM moves AS m JOIN documents AS d ON d.awaits = m.move_id
WHERE m.move_id = ANY(%s) AND f.key_hash = d.key_hash AND f.source = d.source
"""

# As long as Kafka by default keeps the insert: partitions may be days apart in a backlog.
_EXPIRE = "DELETE FROM moves WHERE left_at < now() - interval '7 days'"


def find(connection: Connection[Any], generation: Generation, ids: Collection[bytes]) -> dict[bytes, Move]:
    """What these key changes have left, and what those await; vectors only of this generation."""
    rows = connection.execute(_FIND, [Array("bytea", ids)], binary=True)
    return {row[0]: _move(*row, current=generation) for row in rows}


def leave(connection: Connection[Any], generation: Generation, writes: Sequence[DocumentWrite]) -> None:
    """Keep what the plan's deletes leave. Called while the document rows are held and the chunks still stand."""
    leaving = [(move, write.document_id) for write in writes for move in write.leaves]
    if not leaving:
        return
    statement = _LEAVE.format(
        generation=sql.Literal(generation.number),
        send=sql.Identifier(f"{generation.element}_send"),
        chunks=sql.Identifier(generation.chunk_table),
    )
    lending = [(move.id, document) for move, own in leaving for document in {own, *move.documents}]
    passing = [(move.id, earlier) for move, _ in leaving for earlier in move.earlier]
    arrays = [
        Array("bytea", (move_id for move_id, _ in lending)),
        Array("int8", (document for _, document in lending)),
        Array("bytea", (move_id for move_id, _ in passing)),
        Array("bytea", (earlier for _, earlier in passing)),
        Array("bytea", (move.id for move, _ in leaving)),
        Array("json", (move.fields for move, _ in leaving)),
        Array("bytea", (move.awaits for move, _ in leaving)),
        Array("bytea", (move.layout for move, _ in leaving)),
    ]
    connection.execute(statement, arrays)


def settle(connection: Connection[Any], schema: str, writes: Sequence[DocumentWrite]) -> None:
    """Remove what the plan has used, and wake those that waited. Called last, when everything else is written.

    The lock is for the two halves of a key change that are applied at the same time: the later one sees the other.
    """
    used = [move_id for write in writes for move_id in write.used]
    if used:
        connection.execute(_USED, [Array("bytea", used)])
    waiting = [move.id for write in writes for move in write.leaves]
    waiting += [write.awaits for write in writes if write.awaits is not None]
    if waiting:
        truncates.lock(connection, schema, (), ["moves"])
        connection.execute(_WAKE, [Array("bytea", waiting)])


def expire(connection: Connection[Any]) -> int:
    """Remove what nobody came for within a week; how many."""
    return connection.execute(_EXPIRE).rowcount


def _move(
    move_id: bytes,
    fields: str,
    awaits: bytes | None,
    layout: bytes | None,
    hashes: list[bytes],
    vectors: list[bytes],
    generation: int,
    *,
    current: Generation,
) -> Move:
    lent = zip(hashes, vectors, strict=True) if generation == current.number else ()
    return Move(
        move_id,
        fields.encode(),
        awaits,
        layout,
        {chunk_hash: vector_from(data, current.element) for chunk_hash, data in lent},
    )
