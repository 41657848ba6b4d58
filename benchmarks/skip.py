"""Events that change nothing: a million documents stored, and an update of each that leaves all used columns as is.

The whole product: records in Kafka, real consumer processes, the store in Postgres. The rows' `when` excludes them, so
that loading them needs no model; a skip is decided before `when` is asked. Records are those of `decode.py`: a title of
40 characters and a body of 500, JSON without schemas, two partitions. Rates count from the first progress in the
store to the last; `cpu_us` is the client's processor time of an event, which other load on the machine changes less.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import psutil
from confluent_kafka import Producer

from benchmarks.decode import event_of
from benchmarks.figures import Figure
from consumer.local import Endpoints
from tests.command import CommandProcess
from tests.tiny_model import make_tiny_model
from tests.world import World

DOCUMENTS, PARTITIONS = 1_000_000, 2


def measure(endpoints: Endpoints, folder: Path, documents: int = DOCUMENTS) -> Sequence[Figure]:
    """`skip_events_per_s` of one process and of two, `skip_cpu_us`, and a restart where nothing is left to do."""
    here = folder / "skip"
    here.mkdir()
    world = World.create(endpoints, here, model=str(make_tiny_model(here / "tiny")))
    del world.tables[1:]
    world.tables[0]["when"] = "{{ status == 'never' }}"
    world.create_topic(partitions=PARTITIONS)
    world.migrate()
    try:
        _produce(world, "c", documents, 0)
        load, _ = _work_off(world, 1, documents)
        _produce(world, "u", documents, 1)
        one, cpu_us = _work_off(world, 1, documents)
        _produce(world, "u", documents, 2)
        two, _ = _work_off(world, 2, documents)
        seconds, rows = _restart(world)
    finally:
        world.close()
    return [
        Figure(
            "skip_events_per_s",
            round(one),
            "events/s",
            "the same rows' first load, without chunks",
            round(one / load, 2),
        ),
        Figure("skip_cpu_us", round(cpu_us, 2), "us of client CPU an event"),
        Figure("skip_two_processes_ratio", round(two / one, 2), "times", "one process", round(two / one, 2)),
        Figure("skip_restart_s", round(seconds, 1), "s from start to all partitions at their end"),
        Figure("skip_restart_rows_read", rows, "rows of documents read by it"),
    ]


def _work_off(world: World, processes: int, events: int) -> tuple[float, float]:
    """Start consumers on what lies in the topic: events a second, and microseconds of their CPU an event."""
    before = _applied(world)
    with ExitStack() as running:
        clients = [_measured(running.enter_context(world.consumer())) for _ in range(processes)]
        world.until(lambda: _applied(world) > before, timeout=600)
        began, first, spent = time.perf_counter(), _applied(world), _cpu(clients)
        world.until(lambda: _applied(world) >= before + events, timeout=3600)
        seconds = time.perf_counter() - began
        done = before + events - first
        cpu = _cpu(clients) - spent
    return done / seconds, cpu / done * 1e6


def _restart(world: World) -> tuple[float, int]:
    """Seconds until every partition is held at its end, the model's load included, and documents read for it."""
    before, began = _reads(world), time.perf_counter()
    with world.consumer() as process:
        world.until(lambda: process.lines("ready to join"), timeout=600)
        world.until(lambda: _held(process) == PARTITIONS, timeout=600)
        seconds = time.perf_counter() - began
    return seconds, _reads(world) - before


def _held(process: CommandProcess) -> int:
    return sum(name == "freshness_lag_seconds" for name, _ in process.metrics())


def _reads(world: World) -> int:
    """Rows of documents that the ended sessions have read."""
    counted = (
        "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) AS n FROM pg_stat_user_tables"
        " WHERE schemaname = %s AND relname = 'documents'"
    )
    return int(world.store(counted, [world.name])[0]["n"])


def _applied(world: World) -> int:
    rows = world.store("SELECT sum(next_offset)::bigint AS n FROM offsets WHERE topic = %s", [world.topic()])
    return int(rows[0]["n"] or 0)


def _measured(process: CommandProcess) -> psutil.Process:
    return psutil.Process(process.pid)


def _cpu(clients: Sequence[psutil.Process]) -> float:
    return sum(client.cpu_times().user + client.cpu_times().system for client in clients)


def _produce(world: World, op: str, count: int, change: int) -> None:
    producer = Producer(
        {"bootstrap.servers": world.endpoints.bootstrap_servers, "linger.ms": 20, "compression.type": "lz4"}
    )
    for number in range(count):
        key, value = event_of(number, op, change)
        while True:
            try:
                producer.produce(world.topic(), value=value, key=key, partition=number % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(120) == 0
