"""The Pathway dataflow: Debezium's topic -> embedder of its xpack -> a Postgres table as snapshot."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import pathway as pw
from counting import model_path
from pathway.xpacks.llm.embedders import SentenceTransformerEmbedder


class Row(pw.Schema):
    number: int = pw.column_definition(primary_key=True)
    body: str | None


address = urlsplit(os.environ["DSN"])
postgres = {
    "host": address.hostname,
    "port": str(address.port),
    "dbname": address.path.strip("/"),
    "user": address.username,
    "password": address.password,
}
kafka = {
    "bootstrap.servers": os.environ["BOOTSTRAP"],
    "group.id": os.environ["GROUP"],
    "session.timeout.ms": "6000",
    "auto.offset.reset": "earliest",
    "fetch.wait.max.ms": "10",
}
embedder = SentenceTransformerEmbedder(
    model_path(), call_kwargs={"show_progress_bar": False, "normalize_embeddings": True}, device="cpu", batch_size=32
)

rows = pw.io.debezium.read(
    kafka, os.environ["TOPIC"], schema=Row, autocommit_duration_ms=int(os.environ["COMMIT_MS"]), name="source"
)
texts = rows.filter(pw.this.body.is_not_none()).select(pw.this.number, content=pw.unwrap(pw.this.body))
vectors = texts.select(pw.this.number, pw.this.content, embedding=embedder(pw.this.content))
pw.io.postgres.write(
    vectors, postgres, f"{os.environ['SOURCE_TABLE']}_pw", output_table_type="snapshot", primary_key=[vectors.number]
)
state = pw.persistence.Config(pw.persistence.Backend.filesystem("state"), snapshot_interval_ms=1000)
pw.run(persistence_config=state, monitoring_level=pw.MonitoringLevel.NONE)
