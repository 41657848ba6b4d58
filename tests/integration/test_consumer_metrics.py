"""What /metrics says of a run is what the topics hold and the store got."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections import Counter
from typing import Any

import psycopg
from psycopg import sql

from tests.command import CommandProcess
from tests.topic_log import read_topics
from tests.workload import Workload
from tests.world import World


def total(consumer: CommandProcess, name: str, *labels: str) -> float:
    """The sum over all series of this name that carry these label values."""
    return sum(value for (n, values), value in consumer.metrics().items() if n == name and {*labels} <= {*values})


def health(consumer: CommandProcess, page: str) -> tuple[int, dict[str, Any]]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(consumer.lines("ready to join")[0]["http"] + page, timeout=10) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_counters_agree_with_the_topics_and_the_store(world: World) -> None:
    world.migrate()
    load = Workload(world, 61)
    load.fill(20)
    with world.consumer() as consumer:
        world.settle()
        load.run(60)
        world.settle()
        events = read_topics(world.endpoints.bootstrap_servers, [world.topic("a"), world.topic("b")])
        ops = Counter((event.topic, event.op) for event in events)
        # A transaction is told a moment after it is committed, and on the log last.
        world.until(lambda: {each: total(consumer, "events_total", *each) for each in ops} == ops)
        timed = sum(event.ts_us is not None for event in events)  # a tombstone has no commit time
        stale = sum(
            total(consumer, "events_total", op, outcome) for op in "cud" for outcome in ("stale", "rejected", "ignored")
        )
        assert stale == 0
        world.until(lambda: total(consumer, "freshness_seconds_count") == timed)
        world.until(lambda: total(consumer, "chunks_total", "embedded") == consumer.embedded())
        assert total(consumer, "clock_skew_total") == 0
        world.until(lambda: total(consumer, "queue_depth") <= 1)  # a heartbeat may be on its way
        world.until(lambda: len(_lags(consumer)) >= 6)
        world.until(lambda: max(_lags(consumer)) < 5)
        assert health(consumer, "/healthz")[0] == health(consumer, "/readyz")[0] == 200


def test_lag_grows_while_nothing_can_be_written(world: World) -> None:
    """The gauge rises in a stall, where a histogram falls silent."""
    world.migrate()
    load = Workload(world, 62)
    load.fill(5)
    with world.consumer() as consumer:
        world.settle()
        with psycopg.connect(world.endpoints.migrator_dsn) as holder:
            holder.execute(sql.SQL("SELECT FROM {}.offsets FOR UPDATE").format(sql.Identifier(world.name)))
            load.fill(5)
            world.until(lambda: max(_lags(consumer)) > 4)
            assert total(consumer, "queue_depth") > 0
        world.until(lambda: max(_lags(consumer)) < 3)


def test_it_is_told_what_kafka_has_of_each_topic_and_that_one_is_missing(world: World) -> None:
    """Else nobody could tell a table that is measured from one that nobody looks at."""
    world.migrate()
    world.create_topic("a", partitions=2)

    def told(suffix: str) -> list[float]:
        metrics, topic = consumer.metrics(), world.topic(suffix)
        return [value for (name, labels), value in metrics.items() if name == "topic_partitions" and topic in labels]

    with world.consumer() as consumer:
        world.until(lambda: consumer.lines("ready to join"))
        world.until(lambda: (told("a"), told("b")) == ([2], [0]))
        world.until(lambda: len(_lags(consumer)) == 2)
        world.create_topic("b")
        world.until(lambda: told("b") == [1])
        world.until(lambda: len(_lags(consumer)) == 3)


def _lags(consumer: CommandProcess) -> list[float]:
    return [value for (name, _), value in consumer.metrics().items() if name == "freshness_lag_seconds"]
