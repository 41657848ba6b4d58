"""One moment of the store and of the source, read by SQL alone."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from tests.topic_log import Place

Row = Mapping[str, Any]
Name = tuple[str, str]  # source, key as sorted JSON


@dataclass(frozen=True)
class StoreState:
    """One moment of the store: offsets, documents and chunks read in one snapshot."""

    offsets: dict[Place, int]
    documents: dict[Name, dict[str, Any]]
    chunks: dict[Name, list[dict[str, Any]]]
    strays: int  # chunk rows that belong to no document, or whose hash is not that of their text
    config_hash: bytes


def read_store(dsn: str, schema: str, group: str) -> StoreState:
    """Everything the group has stored, as of one moment."""
    with psycopg.connect(dsn, autocommit=True, row_factory=dict_row) as connection:
        connection.execute(sql.SQL("SET search_path = {}, public").format(sql.Identifier(schema)))
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        offsets = connection.execute("SELECT topic, partition, next_offset FROM offsets WHERE group_id = %s", [group])
        documents = connection.execute("SELECT * FROM documents").fetchall()
        chunks = connection.execute("SELECT *, embedding::float4[] AS vector FROM chunks ORDER BY chunk_no").fetchall()
        live = connection.execute("SELECT chunk_table, config_hash FROM generations WHERE state = 'live'").fetchone()
        assert live is not None
        strays = connection.execute(
            sql.SQL(
                "SELECT count(*) FROM {} AS c LEFT JOIN documents AS d USING (document_id) WHERE d.document_id IS NULL"
                " OR (d.source, d.source_key) <> (c.source, c.source_key)"
                " OR c.chunk_hash <> sha256(convert_to(c.content, 'UTF8'))"
            ).format(sql.Identifier(live["chunk_table"]))
        ).fetchone()
        assert strays is not None
        by_name = defaultdict(list)
        for chunk in chunks:
            by_name[name_of(chunk)].append(chunk)
        return StoreState(
            {(row["topic"], row["partition"]): row["next_offset"] for row in offsets},
            {name_of(row): row for row in documents},
            dict(by_name),
            strays["count"],
            live["config_hash"],
        )


def read_rows(dsn: str, tables: Mapping[str, sql.Identifier]) -> dict[Name, Row]:
    """The rows of the source tables now, by source; the primary key is the column `id`."""
    rows: dict[Name, Row] = {}
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        for source, table in tables.items():
            for row in connection.execute(sql.SQL("SELECT * FROM {}").format(table)):
                values = {column: str(v) if isinstance(v, Decimal) else v for column, v in row.items()}
                rows[source, json.dumps({"id": values["id"]})] = values
    return rows


def name_of(row: Row) -> Name:
    """The document that a row of `documents` or `chunks` belongs to."""
    return row["source"], json.dumps(row["source_key"], sort_keys=True)
