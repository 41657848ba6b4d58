"""CocoIndex: rereads the source table at an interval, compares with what it remembers, embeds what changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from psycopg import sql

from benchmarks.peers import environments
from benchmarks.peers.in_process import InProcess

INTERVAL = "0.2"


class CocoIndex(InProcess):
    """Its Postgres source reports no changes (version 1), so it is refreshed as its documentation says."""

    name = "CocoIndex"
    peer = "cocoindex"
    packages = ("cocoindex", "torch", "sentence-transformers", "asyncpg")
    given = (
        f"PgTableSource in `coco.auto_refresh` every {INTERVAL} s, `cocoindex update --live`; number and body only",
        "RecursiveSplitter, 1,000 bytes, no overlap; SentenceTransformerEmbedder on the CPU, in its own batches of 64",
        "no vector index",
    )

    @property
    def stored(self) -> sql.Composed:
        query = sql.SQL("SELECT id::int AS id, content, embedding FROM {}")
        return query.format(sql.Identifier(f"{self.table}_coco"))

    def command(self) -> Sequence[str | Path]:
        run = environments.program(self.peer, "cocoindex")
        return [run, "update", "--live", "--force", "--quiet", environments.APPS / "cocoindex_app.py"]

    def environment(self) -> Mapping[str, str]:
        return {"INTERVAL": INTERVAL, "COCOINDEX_DISABLE_USAGE_TRACKING": "1"}

    def prepare(self) -> None:
        """Nothing: it makes its table and its memory itself when it starts."""
