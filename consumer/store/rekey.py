"""Another primary key, accepted by a person: what `keys` noted as writes failed under it becomes what counts."""

from __future__ import annotations

from psycopg import IsolationLevel, sql

from consumer.errors import Stop
from consumer.store import generations, keys, truncates
from consumer.store.faults import Phase, translated
from consumer.store.model import KeyChange
from consumer.store.session import Session, connect, target

_NOTED = """
SELECT t.key_columns, t.next_key_columns,
       (SELECT count(*) FROM documents AS d WHERE d.source = t.source AND d.state <> 'deleted')
FROM tables AS t WHERE t.source = %s AND t.next_key_columns IS NOT NULL
"""

_ACCEPT = """
UPDATE tables SET key_columns = next_key_columns, keyed_since_us = next_keyed_since_us,
                  next_key_columns = NULL, next_keyed_since_us = NULL
WHERE source = %s AND next_key_columns IS NOT NULL
"""

# Under the new key nothing lives but failed documents, which the snapshot brings as well.
_END = sql.SQL("""
WITH gone AS (
    UPDATE documents SET state = 'deleted', fields = NULL, fields_complete = false, fields_hash = NULL,
        table_hash = NULL, content_hash = NULL, metadata = NULL, awaits = NULL, version = version + 1,
        updated_at = now()
    WHERE source = %(source)s AND state <> 'deleted'
    RETURNING document_id, key_hash
), emptied AS (
    DELETE FROM {chunks} AS c USING gone WHERE c.document_id = gone.document_id
), forgotten AS (
    DELETE FROM failed_documents AS f USING gone WHERE f.key_hash = gone.key_hash AND f.source = %(source)s
)
SELECT count(*) FROM gone
""")


def key_change(dsn: str, schema: str, source: str) -> KeyChange | None:
    """The change of a source's key that was noted; None where there is none to decide about."""
    where = target(dsn, schema)
    with translated(where.where, Phase.READ), connect(where, 60) as connection:
        row = connection.execute(_NOTED, [source]).fetchone()
        return keys.described(*row) if row else None


def rekey(dsn: str, schema: str, source: str) -> int:
    """Accept it, in one transaction that waits for the source's writers and takes as long as it takes.

    The source's documents become gravestones and lose their chunks. How many; none where there was no change.
    """
    where = target(dsn, schema)
    with translated(where.where, Phase.WRITE), connect(where, 0) as connection:
        connection.isolation_level = IsolationLevel.READ_COMMITTED  # what is behind the lock must be seen
        return _accept(connection, schema, source)


def _accept(connection: Session, schema: str, source: str) -> int:
    with connection.transaction():
        truncates.lock(connection, schema, [generations.SWITCH], [truncates.lock_name(source)])
        generation = generations.live(connection)
        if generation is None:
            raise Stop("No generation of vectors is there yet.", "", "Run `embed-consumer migrate`.")
        if not connection.execute(_ACCEPT, [source]).rowcount:
            return 0
        statement = _END.format(chunks=sql.Identifier(generation.chunk_table))
        row = connection.execute(statement, {"source": source}).fetchone()
        return int(row[0]) if row else 0
