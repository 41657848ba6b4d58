"""embed-consumer itself: Debezium -> Kafka -> the real command, as its connector file and defaults say."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import version

from psycopg import sql

from benchmarks.peers.contender import MODEL_PACKAGE, THREADS, Contender, Site
from consumer.embedding.processor import computes_natively
from consumer.local import connect
from consumer.local.versions import CONNECTOR
from tests.command import CommandProcess
from tests.world import World


class Ours(Contender):
    """The source is in the database that its connector captures, the target in the store."""

    name = "embed-consumer"
    dtype = "float32"
    services = frozenset({"kafka", "connect"})
    given = (
        "its connector file as it is (connectors/postgres-json.json), default settings, torch CPU float32",
        "chunks of at most 256 tokens, no overlap; HNSW is built after the first load",
        "session timeout 6 s (Kafka: 45 s), which only matters after a kill",
        "Kafka and Connect run beside it on the same cores",
    )

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._world = World(site.endpoints, site.folder, f"package:{MODEL_PACKAGE}", site.name, [], suffixes=("a",))
        chunk = {"max_tokens": 256, "overlap": 0}
        self._world.tables.append({"topic": self._world.topic("a"), "text": "{{ body }}", "chunk": chunk})
        self._process: CommandProcess | None = None

    @property
    def source_dsn(self) -> str:
        return self.site.endpoints.source_owner_dsn

    @property
    def table(self) -> str:
        return f"{self.site.name}_a"

    @property
    def target_dsn(self) -> str:
        return self.site.endpoints.migrator_dsn

    @property
    def stored(self) -> sql.Composed:
        query = sql.SQL("SELECT (source_key->>'number')::int AS id, content, embedding FROM {}")
        return query.format(sql.Identifier(self.site.name, "chunks"))

    def prepare(self) -> None:
        self.site.stack.register_connector()
        self._world.settings(embedding={"model": self._world.model, "dtype": self.dtype})
        self._world.migrate()

    def start(self) -> None:
        # A member that was killed is waited for by the group; 6 s is what the tests use, 45 s is Kafka's default.
        self._world.short_sessions()
        self._process = self._world.start(environment={"OMP_NUM_THREADS": str(THREADS)})

    def kill(self) -> None:
        if self._process:
            self._process.kill()

    def stop(self) -> None:
        if self._process and self._process.alive():
            self._process.stop()

    def alive(self) -> bool:
        return self._process is not None and self._process.alive()

    def embedded(self) -> int:
        return sum(process.embedded() for process in self._world.processes)

    def close(self) -> None:
        self._world.close()
        # Another contender's connector must not share the broker with this one.
        connect.unregister(self.site.endpoints.connect_url, CONNECTOR, self.site.stack.layout.log("connect"))

    @classmethod
    def versions(cls) -> Mapping[str, str]:
        names = ("embed-consumer", "torch", "sentence-transformers", "confluent-kafka")
        return {name: version(name) for name in names} | {"cores": str(len(os.sched_getaffinity(0)))}


class OursInBfloat16(Ours):
    """With the one setting that makes the model faster where the processor computes in bfloat16, and less exact."""

    dtype = "bfloat16"
    given = ("embedding.dtype bfloat16, which nobody has by default", *Ours.given[1:])

    @classmethod
    def missing(cls) -> str:
        return "" if computes_natively(cls.dtype) else "this processor does not compute in bfloat16"
