"""Services that go away: nothing is lost, each outage is told in a clear line, the consumer catches up by itself."""

from __future__ import annotations

from typing import Any

import pytest

from consumer.local import Stack
from tests.command import CommandProcess
from tests.envelopes import change, row
from tests.integration.test_consumer_metrics import health
from tests.oracle import Oracle
from tests.states import read_rows, read_store
from tests.workload import Workload
from tests.world import World

# Only the outage may be on the log, so each test reads a topic of its own; the real connector comes back at the end.


def warnings(consumer: CommandProcess) -> list[dict[str, Any]]:
    return [line for line in consumer.lines() if line["level"] != "info"]


def kafka_of(consumer: CommandProcess) -> list[tuple[bool, str]]:
    """What its page of readiness says of Kafka."""
    _, told = health(consumer, "/readyz")
    return [(check["ok"], check["reason"]) for check in told["checks"] if check["name"] == "kafka"]


def keys(world: World) -> set[int]:
    return {chunk["source_key"]["id"] for chunk in world.store("SELECT source_key FROM chunks")}


def topic_of(world: World, count: int) -> None:
    world.tables = world.tables[:1]
    world.create_topic()
    world.produce(*(change(row(number), "c") for number in range(count)))


@pytest.mark.semantics("faults", "Postgres or Kafka away", "waits, says so, loses nothing, goes on by itself")
def test_postgres_goes_away_and_comes_back(world: World, mended: Stack) -> None:
    topic_of(world, 50)
    world.migrate()
    with world.consumer() as consumer:
        world.until(lambda: keys(world) == set(range(50)))
        mended.kill("postgres")
        world.produce(*(change(row(number), "c") for number in range(50, 100)))
        world.until(lambda: any("not reachable" in line["event"] for line in warnings(consumer)))
        world.until(lambda: len(warnings(consumer)) >= 2)  # tries go on
        assert consumer.alive()
        mended.up()
        world.until(lambda: keys(world) == set(range(100)))
        said = warnings(consumer)
        assert len(said) <= 10, said
        assert all(world.endpoints.store_dsn not in str(line) for line in said)
        assert "Traceback" not in consumer.output()
        world.produce(change(row(200), "c"))
        world.until(lambda: 200 in keys(world))
    assert world.store("SELECT * FROM failed_documents") == []
    assert {document["version"] for document in world.store("SELECT version FROM documents")} == {1}


@pytest.mark.semantics("faults", "Postgres or Kafka away")
def test_kafka_goes_away_and_comes_back(world: World, mended: Stack) -> None:
    topic_of(world, 50)
    world.migrate()
    with world.consumer() as consumer:
        world.until(lambda: keys(world) == set(range(50)))
        mended.stop("kafka")
        world.until(lambda: any("Kafka" in str(line) for line in warnings(consumer)))
        world.until(lambda: (False, "does not answer") in kafka_of(consumer))
        assert consumer.metrics()["errors_total", ("unreachable", "broker")] > 0
        assert consumer.alive()
        mended.up()
        world.produce(*(change(row(number), "c") for number in range(50, 100)))
        world.until(lambda: keys(world) == set(range(100)))
        world.until(lambda: (True, "answers") in kafka_of(consumer))
        assert len(warnings(consumer)) <= 12, warnings(consumer)
        assert "Traceback" not in consumer.output()
    assert {document["version"] for document in world.store("SELECT version FROM documents")} == {1}


def test_everything_is_down_at_the_start(world: World, mended: Stack) -> None:
    topic_of(world, 20)
    world.migrate()
    mended.stop("kafka")
    mended.stop("postgres")
    consumer = world.start()
    world.until(lambda: any("Kafka" in str(line) for line in warnings(consumer)))
    mended.up()
    world.until(lambda: keys(world) == set(range(20)))
    assert consumer.stop() == 0
    assert len(warnings(consumer)) <= 12, warnings(consumer)
    assert "Traceback" not in consumer.output()


def test_sigterm_while_postgres_is_away(world: World, mended: Stack) -> None:
    """It must not wait for the database for ever: what it could not store is read again by the next one."""
    topic_of(world, 50)
    world.migrate()
    consumer = world.start()
    world.until(lambda: keys(world) == set(range(50)))
    mended.stop("postgres")
    world.produce(*(change(row(number), "c") for number in range(50, 100)))
    world.until(lambda: any("not reachable" in line["event"] for line in warnings(consumer)))
    assert consumer.stop(30) == 0
    mended.up()
    with world.consumer():
        world.until(lambda: keys(world) == set(range(100)))


@pytest.mark.semantics("faults", "Postgres or Kafka away")
def test_both_go_away_under_load(world: World, mended: Stack, tiny_model: Any) -> None:
    """The whole path, connector included: afterwards the store is what the oracle says."""
    world.migrate()
    load = Workload(world, 21)
    load.fill(30)
    with world.consumer() as consumer:
        world.until(lambda: consumer.applied() > 0)
        load.run(60)
        mended.kill("kafka")
        mended.kill("postgres")
        mended.up()
        mended.register_connector()
        load.run(60)
        world.settle(timeout=120)
    oracle = Oracle(world.tables, tiny_model)
    state = read_store(world.endpoints.migrator_dsn, world.name, world.name)
    tables = {world.topic(suffix): world.table(suffix) for suffix in ("a", "b")}
    assert oracle.compare(state, read_rows(world.endpoints.source_owner_dsn, tables)) == []
