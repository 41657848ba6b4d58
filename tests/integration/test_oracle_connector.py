"""What the connector does beside streaming: the first snapshot of rows, and delivering again after a crash."""

from __future__ import annotations

import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import psycopg
import pytest

from consumer.local import Stack
from tests.oracle import Oracle
from tests.stacks import Services
from tests.states import read_rows, read_store
from tests.topic_log import read_topics
from tests.workload import Workload
from tests.world import World


def wrong(world: World, oracle: Oracle) -> list[str]:
    """What differs between the store and the source's rows now."""
    world.settle()
    tables = {world.topic(suffix): world.table(suffix) for suffix in ("a", "b")}
    state = read_store(world.endpoints.migrator_dsn, world.name, world.name)
    return oracle.compare(state, read_rows(world.endpoints.source_owner_dsn, tables))


@contextmanager
def own_connector(world: World, stack: Services) -> Iterator[None]:
    """A second connector that captures only this world's tables, which it has to read in a snapshot first."""
    world.prefix = world.slot = world.name
    overrides = {
        "topic.prefix": world.name,
        "slot.name": world.name,
        "table.include.list": ",".join(f"public.{world.name}_{suffix}" for suffix in ("a", "b")),
    }
    stack.register_connector(name=world.name, overrides=overrides)
    try:
        yield
    finally:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        url = f"{world.endpoints.connect_url}/connectors/{world.name}"
        opener.open(urllib.request.Request(url, method="DELETE"), timeout=30).close()
        with psycopg.connect(world.endpoints.admin_source_dsn, autocommit=True) as source:
            slot = "SELECT slot_name FROM pg_replication_slots WHERE slot_name = %s AND NOT active"
            world.until(lambda: source.execute(slot, [world.name]).fetchone())
            source.execute("SELECT pg_drop_replication_slot(%s)", [world.name])


@pytest.mark.semantics(
    "operations",
    "initial snapshot (`r`) while rows change",
    "rows are loaded, changes streamed meanwhile win; the vector index is built afterwards",
)
def test_rows_that_exist_are_loaded_while_they_change(world: World, stack: Services, tiny_model: Path) -> None:
    world.migrate()
    load, stopping = Workload(world, 41), Event()
    load.fill(300)
    load.run(40)
    with ThreadPoolExecutor(1) as player, own_connector(world, stack):
        for table, suffix in zip(world.tables, ("a", "b"), strict=True):
            table["topic"] = world.topic(suffix)
        playing = player.submit(load.run, 10**6, pause=0.02, stopping=stopping)
        try:
            with world.consumer() as consumer:
                world.until(lambda: consumer.applied() > 900)
                stopping.set()
                playing.result()
                assert wrong(world, Oracle(world.tables, tiny_model)) == []
                valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('chunks_1_hnsw')"
                assert world.until(lambda: world.store(valid)) == [{"indisvalid": True}]
        finally:
            stopping.set()
        events = read_topics(world.endpoints.bootstrap_servers, [world.topic("a"), world.topic("b")])
    ops = Counter(event.op for event in events)
    assert ops["r"] > 500
    assert min(ops["c"], ops["u"], ops["d"]) > 20
    assert consumer.applied() == len(events)


@pytest.mark.semantics("order", "events that a restarted connector delivers again")
def test_events_that_are_delivered_again_change_nothing(world: World, mended: Stack, tiny_model: Path) -> None:
    """A connector that dies loses its place and sends again what it sent, old states of rows after newer ones."""
    world.migrate()
    load, stopping = Workload(world, 42), Event()
    load.fill(20)
    with world.consumer() as consumer, ThreadPoolExecutor(1) as player:
        playing = player.submit(load.run, 10**6, pause=0.02, stopping=stopping)
        try:
            for _ in range(2):
                count = consumer.applied()
                world.until(lambda count=count: consumer.applied() > count + 300)  # type: ignore[misc]
                mended.kill("connect")
                mended.up()
                mended.register_connector()
            count = consumer.applied()
            world.until(lambda: consumer.applied() > count + 100)
        finally:
            stopping.set()
        playing.result()
        oracle = Oracle(world.tables, tiny_model)
        assert wrong(world, oracle) == []
        counted = [(labels, value) for (name, labels), value in consumer.metrics().items() if name == "events_total"]
    events = read_topics(world.endpoints.bootstrap_servers, [world.topic("a"), world.topic("b")])
    changes = Counter((event.key, event.op, event.sequence) for event in events if event.sequence)
    again = sum(changes.values()) - len(changes)
    assert again > 20, "the connector delivered nothing again"
    idle = sum(value for labels, value in counted if {"stale", "unchanged"} & set(labels))
    assert idle >= again, "an old event did something"
    assert consumer.embedded() <= oracle.embeds_due(events)
