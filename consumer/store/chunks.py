"""Chunk rows: only what changed is touched, and only while the document row is held."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from psycopg import Connection, sql

from consumer.planning import DocumentWrite
from consumer.store.documents import Ids
from consumer.store.model import Generation
from consumer.store.packing import Array, copy_blocks, elements, vector_elements

_DELETE_ALL = sql.SQL("""
WITH gone AS (DELETE FROM {chunks} WHERE document_id = ANY(%s) RETURNING source)
SELECT source, count(*) FROM gone GROUP BY source
""")

_DELETE = sql.SQL("""
WITH gone AS (
    DELETE FROM {chunks} AS c
    USING unnest(%s, %s, %s) AS named (document_id, chunk_hash, occurrence)
    WHERE (c.document_id, c.chunk_hash, c.occurrence) = (named.document_id, named.chunk_hash, named.occurrence)
    RETURNING c.source
)
SELECT source, count(*) FROM gone GROUP BY source
""")

# A kept row takes metadata and provenance from its document row, which this transaction has just written.
# Nothing it sets is in an index: the update is HOT and the vector index does not grow.
_UPDATE = sql.SQL("""
UPDATE {chunks} AS c
SET chunk_no = kept.chunk_no, metadata = d.metadata::jsonb,
    kafka_topic = d.kafka_topic, kafka_partition = d.kafka_partition, kafka_offset = d.kafka_offset,
    source_committed_at = d.source_committed_at
FROM unnest(%s, %s, %s, %s) AS kept (document_id, chunk_hash, occurrence, chunk_no)
JOIN documents AS d USING (document_id)
WHERE (c.document_id, c.chunk_hash, c.occurrence) = (kept.document_id, kept.chunk_hash, kept.occurrence)
""")

# Straight into the table: the rows cannot exist, because the document's version was the one the difference was made on.
_INSERT = sql.SQL("""
COPY {chunks} (document_id, chunk_hash, occurrence, chunk_no, source, source_key, content, token_count, metadata,
               embedding, kafka_topic, kafka_partition, kafka_offset, source_committed_at{segment})
FROM STDIN (FORMAT binary)
""")


def delete_chunks(connection: Connection[Any], generation: Generation, writes: Sequence[DocumentWrite]) -> list[Any]:
    """Remove the rows that the plan names, or all of a document; the cursors, of rows (source, how many)."""
    whole = [write.document_id for write in writes if _all_go(write) and write.document_id is not None]
    single = [(write.document_id, *chunk) for write in writes if not _all_go(write) for chunk in write.delete]
    cursors = []
    if whole:
        cursors.append(connection.execute(_named(_DELETE_ALL, generation), [Array("int8", whole)]))
    if single:
        cursors.append(connection.execute(_named(_DELETE, generation), _chunk_keys(single)))
    return cursors


def update_chunks(connection: Connection[Any], generation: Generation, writes: Sequence[DocumentWrite]) -> list[Any]:
    """Renumber and restamp the kept rows that the plan names; the cursors, whose `rowcount` tells how many."""
    rows = [(write.document_id, *chunk) for write in writes for chunk in write.update]
    if not rows:
        return []
    arrays = [*_chunk_keys(rows), Array("int4", (row[3] for row in rows))]
    return [connection.execute(_named(_UPDATE, generation), arrays)]


def insert_chunks(
    connection: Connection[Any],
    generation: Generation,
    writes: Sequence[DocumentWrite],
    ids: Ids,
    vectors: Mapping[bytes, np.ndarray],
) -> int:
    """Copy the new rows in, to the hot segment where there are segments; how many.

    `vectors` holds one vector for each chunk hash of the plan.
    """
    rows = [(write, chunk) for write in writes for chunk in write.insert]
    if not rows:
        return 0
    found = [vectors[chunk.chunk_hash] for _, chunk in rows]
    columns: list[list[bytes] | list[memoryview]] = [
        elements("int8", (ids[write.key] for write, _ in rows)),
        elements("bytea", (chunk.chunk_hash for _, chunk in rows)),
        elements("int4", (chunk.occurrence for _, chunk in rows)),
        elements("int4", (chunk.chunk_no for _, chunk in rows)),
        elements("text", (write.key.source for write, _ in rows)),
        elements("jsonb", (write.source_key for write, _ in rows)),
        elements("text", (chunk.content for _, chunk in rows)),
        elements("int4", (len(chunk.token_ids) for _, chunk in rows)),
        elements("jsonb", (write.metadata for write, _ in rows)),
        vector_elements(found, generation.dimension, generation.element),
        elements("text", (write.order.topic for write, _ in rows)),
        elements("int4", (write.order.partition for write, _ in rows)),
        elements("int8", (write.order.offset for write, _ in rows)),
        elements("timestamptz", (write.order.ts_us for write, _ in rows)),
    ]
    hot = generation.hot_segment
    if hot is not None:
        columns.append(elements("int4", itertools.repeat(hot, len(rows))))
    statement = _INSERT.format(
        chunks=sql.Identifier(generation.chunk_table), segment=sql.SQL("" if hot is None else ", segment")
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for block in copy_blocks(columns):
            copy.write(block)
    return len(rows)


def _all_go(write: DocumentWrite) -> bool:
    return write.delete_all or write.state == "deleted"


def _chunk_keys(rows: Sequence[tuple[Any, ...]]) -> list[Array]:
    return [
        Array("int8", (row[0] for row in rows)),
        Array("bytea", (row[1] for row in rows)),
        Array("int4", (row[2] for row in rows)),
    ]


def _named(statement: sql.SQL, generation: Generation) -> sql.Composed:
    return statement.format(chunks=sql.Identifier(generation.chunk_table))
