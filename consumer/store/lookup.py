"""What is stored of a batch's documents: the read half of the hot path."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from psycopg import Connection, sql

from consumer.events import Order, as_streamed
from consumer.planning import DocumentKey, StoredChunk, StoredDetail, StoredDocument
from consumer.store.model import Generation, StaleDocument, StalePage
from consumer.store.packing import Array, vector_from
from consumer.store.transaction import snapshot

_LOOKUP = """
SELECT d.source, d.key_hash, d.document_id, d.version, d.state, d.kafka_topic, d.topic_id, d.kafka_partition,
       d.kafka_offset, d.sequence_commit, d.sequence_lsn, d.source_ts_us, d.snapshot, d.fields_hash, d.fields_complete,
       d.table_hash, d.generation, d.layout
FROM unnest(%s, %s) AS wanted (source, key_hash)
JOIN documents AS d ON d.key_hash = wanted.key_hash AND d.source = wanted.source
"""

_DETAIL = """
SELECT d.document_id, d.version, d.fields::text, d.content_hash, d.metadata::text, d.awaits, d.layout,
       CASE WHEN d.snapshot THEN t.first_layout END
FROM documents AS d LEFT JOIN tables AS t USING (source) WHERE d.document_id = ANY(%s)
"""

_CHUNKS = sql.SQL("""
SELECT document_id, chunk_hash, occurrence, chunk_no FROM {chunks}
WHERE document_id = ANY(%s) ORDER BY document_id, chunk_no
""")

# The send functions give pgvector's binary form, whatever types the driver knows.
_VECTORS = sql.SQL("""
SELECT c.chunk_hash, {send}(c.embedding)
FROM unnest(%s, %s) AS wanted (document_id, chunk_hash)
JOIN {chunks} AS c ON c.document_id = wanted.document_id AND c.chunk_hash = wanted.chunk_hash
""")

_STALE = """
SELECT document_id, key_hash, source_key::text FROM documents
WHERE document_id > %s AND document_id <= %s AND source = %s AND state = 'embedded'
  AND (table_hash IS DISTINCT FROM %s OR generation IS DISTINCT FROM %s)
ORDER BY document_id LIMIT %s
"""

# How far a page of documents goes, and for each source how many of them are stale.
_STALE_PAGE = """
WITH page AS (
    SELECT document_id, source, state, table_hash, generation FROM documents
    WHERE document_id > %s ORDER BY document_id LIMIT %s
)
SELECT max(p.document_id), p.source, count(current.source) FILTER (
    WHERE p.state = 'embedded'
      AND (p.table_hash IS DISTINCT FROM current.table_hash OR p.generation IS DISTINCT FROM %s)
)
FROM page AS p LEFT JOIN unnest(%s, %s) AS current (source, table_hash) ON current.source = p.source
GROUP BY p.source
"""

_COUNTS = "SELECT source, state, count(*) FROM documents GROUP BY source, state"


def lookup(connection: Connection[Any], pieces: Iterable[Collection[DocumentKey]]) -> dict[DocumentKey, StoredDocument]:
    """Stored state by key; a key without a row is absent. Answers are read once the last piece is asked for."""
    with connection.pipeline():
        cursors = [connection.execute(_LOOKUP, _wanted(keys), binary=True) for keys in pieces if keys]
    return dict(_found(*row) for cursor in cursors for row in cursor.fetchall())


def details(
    connection: Connection[Any], generation: Generation, document_ids: Sequence[int]
) -> dict[int, StoredDetail]:
    """Fields and chunk rows of one moment, by document id."""
    ids = [Array("int8", document_ids)]
    # Segments that are merged in between would take their rows out of this snapshot's sight.
    locked = (generation.chunk_table,) if generation.segment_rows else ()
    with snapshot(connection, locked):
        documents = connection.execute(_DETAIL, ids, binary=True)
        rows = connection.execute(_CHUNKS.format(chunks=sql.Identifier(generation.chunk_table)), ids, binary=True)
    chunks: dict[int, list[StoredChunk]] = {}
    for document_id, chunk_hash, occurrence, chunk_no in rows:
        chunks.setdefault(document_id, []).append(StoredChunk(chunk_hash, occurrence, chunk_no))
    return {
        document_id: StoredDetail(
            version,
            _encoded(fields),
            content_hash,
            _encoded(metadata),
            tuple(chunks.get(document_id, ())),
            awaits,
            as_streamed(layout, first),
        )
        for document_id, version, fields, content_hash, metadata, awaits, layout, first in documents
    }


def vectors(
    connection: Connection[Any], generation: Generation, chunks: Sequence[tuple[int, bytes]]
) -> dict[bytes, np.ndarray]:
    """Stored vectors by chunk hash."""
    send = sql.Identifier(f"{generation.element}_send")
    statement = _VECTORS.format(chunks=sql.Identifier(generation.chunk_table), send=send)
    arrays = [Array("int8", (chunk[0] for chunk in chunks)), Array("bytea", (chunk[1] for chunk in chunks))]
    rows = connection.execute(statement, arrays, binary=True)
    return {chunk_hash: vector_from(data, generation.element) for chunk_hash, data in rows}


def stale(
    connection: Connection[Any],
    source: str,
    table_hash: bytes,
    generation: Generation,
    limit: int,
    after: int,
    last: int,
) -> list[StaleDocument]:
    """Embedded documents of another table hash or generation, by document id, of those beyond `after` up to `last`."""
    rows = connection.execute(_STALE, [after, last, source, table_hash, generation.number, limit])
    return [StaleDocument(row[0], DocumentKey(source, row[1]), row[2].encode()) for row in rows]


def stale_page(
    connection: Connection[Any], table_hashes: Mapping[str, bytes], generation: Generation, after: int, limit: int
) -> StalePage:
    """A page of documents by id, all sources' together."""
    arrays = [Array("text", table_hashes), Array("bytea", table_hashes.values())]
    rows = connection.execute(_STALE_PAGE, [after, limit, generation.number, *arrays]).fetchall()
    found = {source: count for _, source, count in rows if count}
    return StalePage(max((row[0] for row in rows), default=None), found)


def counts(connection: Connection[Any]) -> dict[tuple[str, str], int]:
    """(source, state) -> documents."""
    return {(source, state): count for source, state, count in connection.execute(_COUNTS)}


def _wanted(keys: Collection[DocumentKey]) -> list[Array]:
    return [Array("text", (key.source for key in keys)), Array("bytea", (key.key_hash for key in keys))]


def _found(
    source: str, key_hash: bytes, document_id: int, version: int, state: Any, topic: str, topic_id: str, partition: int,
    offset: int, commit: int | None, lsn: int | None, ts_us: int | None, snapshot: bool, fields_hash: bytes | None,
    complete: bool, table_hash: bytes | None, generation: int | None, layout: bytes | None,
) -> tuple[DocumentKey, StoredDocument]:  # fmt: skip
    sequence = None if commit is None or lsn is None else (commit, lsn)
    order = Order(topic, topic_id, partition, offset, sequence, ts_us, snapshot)
    stored = StoredDocument(document_id, version, state, order, fields_hash, complete, table_hash, generation, layout)
    return DocumentKey(source, key_hash), stored


def _encoded(value: str | None) -> bytes | None:
    return None if value is None else value.encode()
