"""PyDebeziumAI's parts, wired as its documentation draws them: engine -> handler -> SyncManager -> PGVector."""

from __future__ import annotations

import logging
import os
from urllib.parse import urlsplit

from counting import model_path
from langchain_huggingface import HuggingFaceEmbeddings
from pydebeziumai.adapters.pgvector import PGVectorAdapter
from pydebeziumai.ingestion import JsonIngestionHandler
from pydebeziumai.sync.manager import SyncManager
from pydebeziumai.transformation.document_builder import DocumentBuilder
from pydebeziumai.transformation.projection_policy import ProjectionPolicy, TableProjectionPolicy

logging.basicConfig(level=logging.WARNING)
table, address = os.environ["SOURCE_TABLE"], urlsplit(os.environ["DSN"])
settings = {
    "name": table,
    "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
    "database.hostname": address.hostname,
    "database.port": address.port,
    "database.user": address.username,
    "database.password": address.password,
    "database.dbname": address.path.strip("/"),
    "topic.prefix": table,
    "table.include.list": f"public.{table}",
    "plugin.name": "pgoutput",
    "slot.name": table,
    "publication.name": table,
    "publication.autocreate.mode": "disabled",
    "snapshot.mode": "initial",
    "poll.interval.ms": 10,
    "offset.storage": "org.apache.kafka.connect.storage.FileOffsetBackingStore",
    "offset.storage.file.filename": os.path.abspath("offsets.dat"),
    "offset.flush.interval.ms": 1000,
}
embeddings = HuggingFaceEmbeddings(
    model_name=model_path(), model_kwargs={"device": "cpu"}, encode_kwargs={"normalize_embeddings": True}
)
policy = TableProjectionPolicy(include_fields=["body"], content_template="$body", metadata_fields=["number"])
store = PGVectorAdapter(os.environ["DSN"].replace("postgresql://", "postgresql+psycopg://"), table, embeddings)
manager = SyncManager(DocumentBuilder(projection_policy=ProjectionPolicy(default=policy)), store)
handler = JsonIngestionHandler()
handler.add_event_callback(manager.sync)
handler.build_engine({name: str(value) for name, value in settings.items()}).run()
