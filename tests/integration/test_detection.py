"""A measurement that is dead must not say 0: what no event tells of shows in the gauge."""

from __future__ import annotations

import os
import signal
import time

import psycopg
import pytest
from confluent_kafka import Consumer, TopicPartition
from psycopg import sql

from consumer.observe import FRESH_HEARTBEAT_SECONDS
from tests.command import CommandProcess
from tests.stacks import local_only
from tests.world import World

TIMER = "__debezium-timer.shop"  # what beats by the connector's clock alone


def lags(world: World, consumer: CommandProcess) -> list[float]:
    """The gauge of each partition of the world's first table."""
    source = world.topic("a")
    return [
        v for (name, labels), v in consumer.metrics().items() if name == "freshness_lag_seconds" and source in labels
    ]


def end_of(world: World, topic: str) -> int:
    reader = Consumer({"bootstrap.servers": world.endpoints.bootstrap_servers, "group.id": "ends"})
    try:
        return int(reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=30)[1])
    finally:
        reader.close()


@local_only
@pytest.mark.semantics(
    "faults",
    "replication slot that does not move while its connector runs",
    "the gauge rises after 30 s, though nothing waits in Kafka; `stage_seconds` names the connector",
)
def test_a_slot_that_does_not_move_shows_though_the_connector_beats(world: World) -> None:
    """The source's process that sends the log is held still: no connection breaks, nobody complains."""
    world.tables = world.tables[:1]
    world.migrate()
    insert = sql.SQL("INSERT INTO {} (id, title) VALUES (%s, 'x')").format(world.table("a"))
    world.source(insert, [1])
    with world.consumer() as consumer, psycopg.connect(world.endpoints.admin_source_dsn, autocommit=True) as source:
        world.settle("a")
        world.until(lambda: lags(world, consumer) and max(lags(world, consumer)) == 0)
        reads = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s AND active"
        (walsender,) = world.until(lambda: source.execute(reads, [world.slot]).fetchall())[0]
        os.kill(walsender, signal.SIGSTOP)
        try:
            beats = end_of(world, TIMER)
            world.source(insert, [2])
            committed = time.time()
            world.until(lambda: min(lags(world, consumer)) > FRESH_HEARTBEAT_SECONDS, timeout=120)
            assert end_of(world, TIMER) > beats, "the connector's own heartbeat goes on"
            assert sum(world.end_offsets("a").values()) == 1, "nothing waits in Kafka"
            held = time.time() - committed
        finally:
            os.kill(walsender, signal.SIGCONT)
        world.settle("a")
        world.until(lambda: max(lags(world, consumer)) == 0)
        assert consumer.metrics()["stage_seconds_sum", ("connector",)] >= held
