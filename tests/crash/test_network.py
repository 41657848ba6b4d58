"""What a network may do to each connection of a consumer under load: nothing is lost, nothing is done twice."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from threading import Event
from urllib.parse import urlsplit

import pytest
from confluent_kafka import Producer

from consumer.source import Broker, Claim, Holdings, KafkaSource
from consumer.store import Acquired
from tests.command import CommandProcess
from tests.fault_proxy import Fault, FaultProxy, Way
from tests.integration.test_avro import Writer
from tests.oracle import Oracle
from tests.registry_standin import StandInRegistry
from tests.states import read_rows, read_store
from tests.topic_log import read_topics
from tests.workload import Workload
from tests.world import World

pytestmark = pytest.mark.timeout(900)  # many faults one after the other, on a machine that may be slow

EVERYWHERE: tuple[Fault, ...] = ("cut", "reset", "half-close", "delay")
WAYS: tuple[Way, ...] = ("request", "reply")
COMMIT = b"COMMIT\0"


@contextmanager
def postgres_proxy(world: World) -> Iterator[tuple[FaultProxy, dict[str, str]]]:
    """A proxy before the store, and the environment of a consumer that goes through it."""
    where = urlsplit(world.endpoints.store_dsn)
    with FaultProxy(str(where.hostname), where.port or 5432) as proxy:
        dsn = world.endpoints.store_dsn.replace(f":{where.port}/", f":{proxy.port}/")
        yield proxy, {"EMBEDDING_STORE__DSN": dsn}


@contextmanager
def kafka_proxy(world: World) -> Iterator[tuple[FaultProxy, dict[str, str]]]:
    """A proxy before the broker, and the environment of a consumer that goes through it."""
    host, port = world.endpoints.bootstrap_servers.split(":")
    with FaultProxy(host, int(port), kafka=True) as proxy:
        yield proxy, {"EMBEDDING_KAFKA__BOOTSTRAP_SERVERS": f"{host}:{proxy.port}"}


@contextmanager
def under_load(world: World, seed: int) -> Iterator[Workload]:
    load, stopping = Workload(world, seed), Event()
    load.fill(20)
    with ThreadPoolExecutor(1) as player:
        playing = player.submit(load.run, 10**6, pause=0.1, stopping=stopping)
        try:
            yield load
        finally:
            stopping.set()
        playing.result()


def survive(world: World, proxy: FaultProxy, consumer: CommandProcess, fault: Fault, way: Way, **at: bytes) -> None:
    """Strike, and see that events are applied again."""
    proxy.strike(fault, way, **at)  # type: ignore[arg-type]
    world.until(lambda: not proxy.armed)
    count = consumer.applied()
    world.until(lambda: consumer.applied() > count)


def judge(world: World, model: Path, consumer: CommandProcess, *, restored: bool = False) -> None:
    """The store is what the source says, each event is on one log line, and no vector was computed twice.

    `restored`: the store has gone back in time, and what it had forgotten was to be done again.
    """
    world.settle(timeout=240)
    state = read_store(world.endpoints.migrator_dsn, world.name, world.name)
    assert consumer.stop() == 0
    oracle = Oracle(world.tables, model)
    tables = {world.topic(suffix): world.table(suffix) for suffix in ("a", "b")}
    events = read_topics(world.endpoints.bootstrap_servers, tables)
    assert oracle.compare(state, read_rows(world.endpoints.source_owner_dsn, tables)) == []
    assert oracle.compare_with_topics(state, events) == []
    if restored:
        assert consumer.applied() > len(events)
    else:
        assert consumer.applied() == len(events)
        assert 0 < consumer.embedded() <= oracle.embeds_due(events)
    assert world.store("SELECT * FROM failed_documents") == []
    assert "Traceback" not in consumer.output()


@pytest.mark.semantics(
    "faults", "connection cut, reset, half-closed, late or swallowed", "opened again; the work is done, and done once"
)
def test_every_fault_between_consumer_and_postgres(world: World, tiny_model: Path) -> None:
    world.settings(batch={"max_events": 50})
    world.migrate()
    with postgres_proxy(world) as (proxy, environment):
        with under_load(world, 61):
            consumer = world.start(environment=environment)
            world.until(lambda: consumer.applied() > 0)
            for way in WAYS:
                for fault in (*EVERYWHERE, "orphan"):
                    survive(world, proxy, consumer, fault, way)
                for fault in EVERYWHERE:  # before the server has it: not done; its reply lost: done, and not again
                    survive(world, proxy, consumer, fault, way, holding=COMMIT)
        judge(world, tiny_model, consumer)


@pytest.mark.semantics("faults", "connection cut, reset, half-closed, late or swallowed")
def test_every_fault_between_consumer_and_kafka(world: World, tiny_model: Path) -> None:
    world.short_sessions(batch={"max_events": 50})
    world.overrides["kafka"]["properties"]["socket.timeout.ms"] = 3000  # how soon a silent broker is given up
    world.migrate()
    with kafka_proxy(world) as (proxy, environment):
        with under_load(world, 62):
            consumer = world.start(environment=environment)
            world.until(lambda: consumer.applied() > 0)
            for way in WAYS:
                for fault in (*EVERYWHERE, "black hole"):
                    survive(world, proxy, consumer, fault, way)
            assert proxy.accepted > 4, "nothing was opened again"
        judge(world, tiny_model, consumer)


@pytest.mark.semantics("faults", "connection cut, reset, half-closed, late or swallowed")
def test_every_fault_between_consumer_and_registry(world: World) -> None:
    """A record of a schema not seen yet for each fault: the registry is asked once for each of them, then never."""
    world.tables = world.tables[:1]
    world.create_topic()
    writer = Writer(world)
    with StandInRegistry() as registry, FaultProxy("127.0.0.1", int(registry.url.rpartition(":")[2])) as proxy:
        world.settings(registry={"url": f"http://127.0.0.1:{proxy.port}"})
        world.migrate()
        with world.consumer() as consumer:
            faults: list[tuple[Fault, Way]] = [(f, way) for way in WAYS for f in (*EVERYWHERE, "black hole", "orphan")]
            for number, (fault, way) in enumerate(faults):
                proxy.strike(fault, way)
                schema = writer.schema()
                world.produce(writer.record(number, schema, registry.register("s", json.dumps(schema))))
                world.until(lambda number=number: len(world.store("SELECT 1 FROM chunks")) == number + 1)  # type: ignore[misc]
                assert not proxy.armed
            assert consumer.applied() == len(faults)
            assert "Traceback" not in consumer.output()
    assert {row["version"] for row in world.store("SELECT version FROM documents")} == {1}
    assert world.store("SELECT * FROM failed_documents") == []


@pytest.mark.semantics("faults", "Postgres or Kafka away")
def test_a_minute_without_a_broker_and_a_database_that_fell_silent(world: World, tiny_model: Path) -> None:
    """Longer than the session lasts, and than a statement may take: no keepalive tells that nobody is there."""
    world.short_sessions(batch={"max_events": 50})
    world.migrate()
    with postgres_proxy(world) as (database, to_database), kafka_proxy(world) as (broker, to_broker):
        with under_load(world, 63) as load:
            consumer = world.start(environment=to_database | to_broker)
            world.until(lambda: consumer.applied() > 0)
            accepted = database.accepted
            database.strike("black hole")
            world.until(lambda: not database.armed)
            broker.refusing = True
            broker.hang_up()
            played, gone = load.played, time.monotonic()
            world.until(lambda: database.accepted > accepted, timeout=180)  # it has given up the silent connection
            world.until(lambda: time.monotonic() > gone + 60, timeout=180)
            assert load.played > played
            assert consumer.alive()
            broker.refusing = False
            count = consumer.applied()
            world.until(lambda: consumer.applied() > count, timeout=120)
        judge(world, tiny_model, consumer)


@pytest.mark.semantics(
    "faults", "partition that goes to another member and comes back", "read on from its stored offset"
)
def test_partitions_that_were_paused_as_they_went_are_read_when_they_come_back(world: World) -> None:
    """A member whose buffer is full pauses what it reads, to keep its membership; a rebalance then takes some."""
    world.create_topic(partitions=2)
    producer = Producer({"bootstrap.servers": world.endpoints.bootstrap_servers})
    for number in range(120):
        producer.produce(world.topic(), key=str(number), value=b"{}", partition=number % 2)
    assert producer.flush(30) == 0
    stored: dict[tuple[str, int], int] = {}
    with closing(member(world, stored)) as first, ExitStack() as later:
        world.until(lambda: full(first))
        first.hold()
        # Not before: a member that joins first and is not polled keeps the other waiting.
        second = later.enter_context(closing(member(world, stored)))
        world.until(lambda: first.hold() or second.poll(0.1) or second.holdings.held)  # type: ignore[func-returns-value]
        assert len(first.holdings.held) == 1
        later.close()
        world.until(lambda: first.hold() or len(first.holdings.held) == 2)  # type: ignore[func-returns-value]

        def finished() -> bool:
            first.poll(0.1)
            if batch := first.take():
                stored.update({place: span.end for place, span in batch.spans.items()})
            return list(stored.values()) == [60, 60]

        world.until(finished)


def full(source: KafkaSource) -> bool:
    source.poll(0.1)
    return source.full


def member(world: World, stored: Mapping[tuple[str, int], int]) -> KafkaSource:
    """One member of the world's group, with a buffer of few records, that begins where `stored` says."""

    def acquire(claims: Sequence[Claim]) -> dict[tuple[str, int], Acquired]:
        places = [(claim.topic, claim.partition) for claim in claims]
        return {place: Acquired(1, stored.get(place, 0)) for place in places}

    broker, holdings = Broker(world.endpoints.bootstrap_servers, {}), Holdings(5, 1 << 20)
    return KafkaSource(broker, world.name, [world.topic()], holdings, acquire, lambda *_, **__: None)
