"""pgai's vectorizer worker: triggers fill a queue in the source's database, the worker polls it and embeds by HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from benchmarks.peers import environments
from benchmarks.peers.contender import Contender, Site, free_port
from benchmarks.peers.environments import Program

PEER = "pgai"
ROOT = Path(__file__).parents[2]


class Pgai(Contender):
    """Its worker has no embedder in its own process: it gets MiniLM by Ollama's interface, served by `server.py`."""

    name = "pgai"
    given = (
        "`pgai.install`, `ai.create_vectorizer` with embedding_ollama, no scheduling (that is TimescaleDB's), no index",
        "recursive character splitter, 1,000 characters, no overlap",
        "batch_size 200 (default 50), concurrency 1 (default)",
        "`pgai vectorizer worker --poll-interval 1s` (default 5m; whole seconds only)",
        "MiniLM by HTTP from a process of its own on the same cores, which stays up when the worker is killed",
    )

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._port = free_port()
        self._counts = site.folder / "embedded"
        self._counts.touch()
        served = [sys.executable, "-m", "benchmarks.peers.server", str(self._port), str(self._counts)]
        server_folder = site.folder / "server"
        server_folder.mkdir()
        self._server = Program(served, server_folder, {"PYTHONPATH": str(ROOT)})
        # Its password in the environment: arguments can be read by everybody.
        secret = conninfo_to_dict(site.admin)
        self._url = f"postgresql://{secret['user']}@{secret['host']}:{secret['port']}/{secret['dbname']}"
        self._secret = {"PGPASSWORD": str(secret["password"])}
        worker: list[str | Path] = [environments.program(PEER, "pgai"), "vectorizer", "worker", "-d", self._url]
        quiet = {"DD_TRACE_ENABLED": "false", **self._secret}
        self._worker = Program([*worker, "--poll-interval", "1s"], site.folder, quiet)
        self._vectorizer = 0

    @property
    def stored(self) -> sql.Composed:
        return sql.SQL("SELECT number AS id, chunk AS content, embedding FROM {}").format(
            sql.Identifier(f"{self.table}_store")
        )

    def prepare(self) -> None:
        self._server.start()
        install = "import sys, pgai; pgai.install(sys.argv[1])"
        done = [str(environments.program(PEER)), "-c", install, self._url]
        subprocess.run(done, check=True, capture_output=True, env={**os.environ, **self._secret})
        create = sql.SQL(
            "SELECT ai.create_vectorizer({}::regclass, destination => ai.destination_table(target_table => {}),"
            " loading => ai.loading_column('body'), parsing => ai.parsing_none(),"
            " embedding => ai.embedding_ollama('minilm', 384, base_url => {}),"
            " chunking => ai.chunking_recursive_character_text_splitter(chunk_size => 1000, chunk_overlap => 0),"
            " indexing => ai.indexing_none(), scheduling => ai.scheduling_none(),"
            " processing => ai.processing_default(batch_size => 200))"
        )
        url = f"http://127.0.0.1:{self._port}"
        with psycopg.connect(self.site.admin, autocommit=True) as connection:
            made = connection.execute(create.format(f"public.{self.table}", f"{self.table}_store", url)).fetchone()
            self._vectorizer = made[0] if made else 0
        _until_served(url)

    def start(self) -> None:
        self._worker.start()

    def kill(self) -> None:
        self._worker.kill()

    def stop(self) -> None:
        self._worker.stop()

    def alive(self) -> bool:
        return self._worker.alive()

    def embedded(self) -> int:
        return sum(map(int, self._counts.read_text(encoding="ascii").split()))

    def close(self) -> None:
        self._worker.kill()
        self._server.kill()
        with psycopg.connect(self.site.admin, autocommit=True) as connection:
            connection.execute("SELECT ai.drop_vectorizer(%s, drop_all => true)", [self._vectorizer])

    @classmethod
    def versions(cls) -> Mapping[str, str]:
        return environments.versions(PEER, ("pgai", "ollama", "psycopg"))

    @classmethod
    def missing(cls) -> str:
        return environments.not_installed(PEER)


def _until_served(url: str) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 120
    while True:
        try:
            opener.open(url, timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
