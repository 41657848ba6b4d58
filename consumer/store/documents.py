"""Document rows: compare-and-set, in key order, a batch in two statements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from psycopg import Connection

from consumer.planning import DocumentKey, DocumentWrite
from consumer.store.packing import Array, Kind

# What an insert and an update both set: column, type, and where it comes from. A gravestone holds no content, whatever
# the plan says.
_WRITTEN: tuple[tuple[str, Kind, Callable[[DocumentWrite], Any]], ...] = (
    ("state", "text", lambda write: write.state),
    ("fields", "json", lambda write: None if write.state == "deleted" else write.fields),
    ("fields_complete", "bool", lambda write: write.fields_complete),
    ("fields_hash", "bytea", lambda write: write.fields_hash if write.state == "embedded" else None),
    ("table_hash", "bytea", lambda write: None if write.state == "deleted" else write.table_hash),
    ("content_hash", "bytea", lambda write: None if write.state == "deleted" else write.content_hash),
    ("metadata", "json", lambda write: None if write.state == "deleted" else write.metadata),
    ("layout", "bytea", lambda write: write.layout),
    ("awaits", "bytea", lambda write: write.awaits),
    ("generation", "int4", lambda write: write.generation),
    ("kafka_topic", "text", lambda write: write.order.topic),
    ("topic_id", "text", lambda write: write.order.topic_id),
    ("kafka_partition", "int4", lambda write: write.order.partition),
    ("kafka_offset", "int8", lambda write: write.order.offset),
    ("sequence_commit", "int8", lambda write: write.order.sequence and write.order.sequence[0]),
    ("sequence_lsn", "int8", lambda write: write.order.sequence and write.order.sequence[1]),
    ("source_ts_us", "int8", lambda write: write.order.ts_us),
    ("snapshot", "bool", lambda write: write.order.snapshot),
)
_NAMES = ", ".join(name for name, _, _ in _WRITTEN)
_ARRAYS = ", ".join(["%s"] * len(_WRITTEN))

# Rows arrive sorted by key and are inserted in that order, so two writers never wait for each other crosswise.
# A key that another writer inserted first is not returned: the caller counts.
_INSERT = f"""
INSERT INTO documents (source, key_hash, source_key, {_NAMES}, version)
SELECT source, key_hash, source_key, {_NAMES}, 1
FROM unnest(%s, %s, %s, {_ARRAYS}) AS incoming (source, key_hash, source_key, {_NAMES})
ON CONFLICT (key_hash, source) DO NOTHING
RETURNING document_id, source, key_hash
"""  # noqa: S608 (names of columns, from the tuple above)

# The version is the compare-and-set token: a row that another writer changed is not returned.
_UPDATE = f"""
UPDATE documents AS d
SET ({_NAMES}, version, updated_at) = ROW ({", ".join(f"i.{name}" for name, _, _ in _WRITTEN)}, d.version + 1, now())
FROM unnest(%s, %s, {_ARRAYS}) AS i (document_id, expected_version, {_NAMES})
WHERE d.document_id = i.document_id AND d.version = i.expected_version
RETURNING d.document_id
"""  # noqa: S608

Ids = dict[DocumentKey, int]


def write_documents(connection: Connection[Any], writes: Sequence[DocumentWrite]) -> tuple[Ids, frozenset[DocumentKey]]:
    """Insert and update the rows; the document id of each key written, and the keys that another writer had first."""
    new = sorted((write for write in writes if write.document_id is None), key=lambda write: write.key)
    known = sorted(
        (write for write in writes if write.document_id is not None), key=lambda write: write.document_id or 0
    )
    ids: Ids = {}
    if new:
        rows = connection.execute(_INSERT, _insert_arrays(new), binary=True).fetchall()
        ids |= {DocumentKey(source, key_hash): document_id for document_id, source, key_hash in rows}
    if known:
        rows = connection.execute(_UPDATE, _update_arrays(known), binary=True).fetchall()
        held = {document_id for (document_id,) in rows}
        ids |= {write.key: write.document_id for write in known if write.document_id and write.document_id in held}
    return ids, frozenset(write.key for write in writes if write.key not in ids)


def _insert_arrays(writes: Sequence[DocumentWrite]) -> list[Array]:
    return [
        Array("text", (write.key.source for write in writes)),
        Array("bytea", (write.key.key_hash for write in writes)),
        Array("jsonb", (write.source_key for write in writes)),
        *_written_arrays(writes),
    ]


def _update_arrays(writes: Sequence[DocumentWrite]) -> list[Array]:
    return [
        Array("int8", (write.document_id for write in writes)),
        Array("int8", (write.expected_version for write in writes)),
        *_written_arrays(writes),
    ]


def _written_arrays(writes: Sequence[DocumentWrite]) -> list[Array]:
    return [Array(kind, map(value, writes)) for _, kind, value in _WRITTEN]
