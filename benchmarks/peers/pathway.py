"""Pathway: a dataflow that reads Debezium's topic and keeps a Postgres table as the snapshot of its result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from benchmarks.peers.contender import DATABASE
from benchmarks.peers.in_process import InProcess
from consumer.local import connect, resource

COMMIT_MS = 20


class Pathway(InProcess):
    """`pw.io.debezium.read`, because its own reader of the WAL, `pw.io.postgres.read`, wants a licence key."""

    name = "Pathway"
    services = frozenset({"kafka", "connect"})
    peer = "pathway"
    packages = ("pathway", "torch", "sentence-transformers")
    given = (
        "`pw.io.debezium.read` (its WAL reader wants a licence key, free by signing up)",
        "a Debezium connector with our settings, JSON with schemas; REPLICA IDENTITY FULL, which it needs",
        f"autocommit every {COMMIT_MS} ms (default 1,500)",
        "SentenceTransformerEmbedder on the CPU, batches of 32 (default 1,024)",
        "`pw.io.postgres.write` as a snapshot table; persistence on disk every second, so that a restart goes on",
        "no splitter (its token splitter downloads its vocabulary), no vector index",
    )

    @property
    def stored(self) -> sql.Composed:
        return sql.SQL("SELECT number::int AS id, content, embedding FROM {}").format(
            sql.Identifier(f"{self.table}_pw")
        )

    def environment(self) -> Mapping[str, str]:
        return {
            "BOOTSTRAP": self.site.endpoints.bootstrap_servers,
            "TOPIC": f"{self.table}.public.{self.table}",
            "GROUP": self.table,
            "COMMIT_MS": str(COMMIT_MS),
        }

    def prepare(self) -> None:
        target = sql.SQL("CREATE TABLE {} (number bigint PRIMARY KEY, content text, embedding vector(384))")
        publication = sql.SQL("CREATE PUBLICATION {} FOR TABLE {}")
        # Without the former row in an update it ends: "got a second insertion of a row".
        whole = sql.SQL("ALTER TABLE {} REPLICA IDENTITY FULL")
        with psycopg.connect(self.site.admin, autocommit=True) as connection:
            connection.execute(target.format(sql.Identifier(f"{self.table}_pw")))
            connection.execute(whole.format(sql.Identifier(self.table)))
            connection.execute(publication.format(sql.Identifier(self.table), sql.Identifier(self.table)))
        login = conninfo_to_dict(self.site.admin)
        config = json.loads(resource("connectors/postgres-json.json").read_text(encoding="utf-8"))
        changed = {
            "database.dbname": DATABASE,
            "database.user": str(login["user"]),
            "database.password": str(login["password"]),
            "topic.prefix": self.table,
            "slot.name": self.table,
            "publication.name": self.table,
            "value.converter.schemas.enable": "true",
            "key.converter.schemas.enable": "true",
            "topic.creation.default.partitions": "1",
        }
        connect.register(self.site.endpoints.connect_url, self.table, config | changed, self._log)

    def close(self) -> None:
        super().close()
        connect.unregister(self.site.endpoints.connect_url, self.table, self._log)
        drop_slot(self.site.admin, self.table)
        with psycopg.connect(self.site.admin, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP PUBLICATION IF EXISTS {}").format(sql.Identifier(self.table)))

    @property
    def _log(self) -> Path:
        return self.site.stack.layout.log("connect")


def drop_slot(dsn: str, name: str) -> None:
    """Ends who reads it, and drops it."""
    ended = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s AND active"
    drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s AND NOT active"
    with psycopg.connect(dsn, autocommit=True) as connection:
        while connection.execute("SELECT 1 FROM pg_replication_slots WHERE slot_name = %s", [name]).fetchone():
            connection.execute(ended, [name])
            connection.execute(drop, [name])
