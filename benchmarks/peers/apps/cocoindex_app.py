"""The CocoIndex flow: its own Postgres source, splitter, embedder and target, refreshed every INTERVAL seconds.

After its examples `postgres_source` and `text_embedding`; the source cannot follow changes, so it is refreshed by
`coco.auto_refresh`, as the documentation says. Runs by `cocoindex update --live --force`.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import asyncpg
import cocoindex as coco
from cocoindex.connectors import postgres
from cocoindex.ops.sentence_transformers import SentenceTransformerEmbedder
from cocoindex.ops.text import RecursiveSplitter
from cocoindex.resources.chunk import Chunk
from counting import model_path
from numpy.typing import NDArray

POOL = coco.ContextKey[asyncpg.Pool]("pool")
EMBEDDER = coco.ContextKey[SentenceTransformerEmbedder]("embedder", detect_change=True)
SPLITTER = RecursiveSplitter()
TABLE = os.environ["SOURCE_TABLE"]


@dataclass
class Row:
    """The columns that are used, and no others: a change of another column is then no change."""

    number: int
    body: str | None


@dataclass
class Vector:
    id: int
    chunk: int
    content: str
    embedding: Annotated[NDArray, EMBEDDER]


@coco.lifespan
async def lifespan(builder: coco.EnvironmentBuilder) -> AsyncIterator[None]:
    builder.settings.db_path = Path("cocoindex.db")
    async with asyncpg.create_pool(os.environ["DSN"]) as pool:
        builder.provide(POOL, pool)
        builder.provide(EMBEDDER, SentenceTransformerEmbedder(model_path(), device="cpu"))
        yield


@coco.fn
async def process_chunk(numbered: tuple[int, Chunk], row: int, table: postgres.TableTarget[Vector]) -> None:
    number, chunk = numbered
    embedding = await coco.use_context(EMBEDDER).embed(chunk.text)
    table.declare_row(row=Vector(row, number, chunk.text, embedding))


@coco.fn(memo=True)
async def process_row(row: Row, table: postgres.TableTarget[Vector]) -> None:
    chunks = SPLITTER.split(row.body or "", chunk_size=1000, chunk_overlap=0)
    await coco.map(process_chunk, list(enumerate(chunks)), row.number, table)


@coco.fn
async def synchronize(table: postgres.TableTarget[Vector]) -> None:
    source = postgres.PgTableSource(coco.use_context(POOL), table_name=TABLE, row_type=Row)
    await coco.mount_each(process_row, source.fetch_rows().items(lambda row: row.number), table)


@coco.fn
async def app_main() -> None:
    schema = await postgres.TableSchema.from_class(Vector, primary_key=["id", "chunk"])
    table = await postgres.mount_table_target(POOL, table_name=f"{TABLE}_coco", table_schema=schema)
    interval = datetime.timedelta(seconds=float(os.environ["INTERVAL"]))
    await coco.mount(coco.auto_refresh(synchronize, interval=interval), table)


app = coco.App(coco.AppConfig(name="peers"), app_main)
