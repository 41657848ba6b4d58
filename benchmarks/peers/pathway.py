"""Pathway: a dataflow that reads Debezium's topic and keeps a Postgres table as the snapshot of its result."""

from __future__ import annotations

from collections.abc import Mapping

import psycopg
from psycopg import sql

from benchmarks.peers import source
from benchmarks.peers.in_process import InProcess

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
            "TOPIC": source.topic(self.site),
            "GROUP": self.table,
            "COMMIT_MS": str(COMMIT_MS),
        }

    def prepare(self) -> None:
        target = sql.SQL("CREATE TABLE {} (number bigint PRIMARY KEY, content text, embedding vector(384))")
        # Without the former row in an update it ends: "got a second insertion of a row".
        whole = sql.SQL("ALTER TABLE {} REPLICA IDENTITY FULL")
        with psycopg.connect(self.site.admin, autocommit=True) as connection:
            connection.execute(target.format(sql.Identifier(f"{self.table}_pw")))
            connection.execute(whole.format(sql.Identifier(self.table)))
        source.register(self.site, {})

    def close(self) -> None:
        super().close()
        source.unregister(self.site)
