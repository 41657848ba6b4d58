"""The nearest chunks of one generation."""

from __future__ import annotations

from typing import Any

import numpy as np
from psycopg import Connection, sql
from psycopg.rows import class_row

from consumer.store.model import Generation, SearchHit

_OPERATOR = {"cosine": "<=>", "l2": "<->", "ip": "<#>"}
_MOST_CANDIDATES = 1000  # the largest hnsw.ef_search

# The index looks at ef_search vectors first, before any filter; old versions that no vacuum has removed are among them.
# Where that leaves fewer than k rows it goes on scanning in order.
_SCAN = "SELECT set_config('hnsw.ef_search', %s, true), set_config('hnsw.iterative_scan', 'strict_order', true)"

_NEAREST = sql.SQL("""
SELECT embedding {operator} %(vector)s::{type} AS distance,
       source, source_key, chunk_no, content, metadata, chunk_hash AS content_hash,
       kafka_topic, kafka_partition, kafka_offset, source_committed_at, embedded_at
FROM {chunks} {filter}
ORDER BY embedding {operator} %(vector)s::{type}
LIMIT %(k)s
""")


def nearest(
    connection: Connection[Any], generation: Generation, vector: np.ndarray, k: int, source: str | None
) -> list[SearchHit]:
    """The k rows of smallest distance, nearest first."""
    statement = _NEAREST.format(
        operator=sql.SQL(_OPERATOR[generation.metric]),
        type=sql.Identifier(generation.element),
        chunks=sql.Identifier(generation.chunk_table),
        filter=sql.SQL("WHERE source = %(source)s" if source is not None else ""),
    )
    # Shortest decimal text that gives the same float32 again.
    text = "[" + ",".join(map(str, np.asarray(vector, dtype=np.float32))) + "]"
    candidates = str(min(max(k, 40), _MOST_CANDIDATES))
    with connection.pipeline(), connection.cursor(row_factory=class_row(SearchHit)) as cursor:
        connection.execute("BEGIN READ ONLY")
        connection.execute(_SCAN, [candidates])
        # Not prepared: a generic plan could not tell a small k from a large one.
        cursor.execute(statement, {"vector": text, "k": k, "source": source}, prepare=False)
        connection.execute("COMMIT")
        return cursor.fetchall()
