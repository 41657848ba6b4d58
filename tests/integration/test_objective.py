"""The objective's ratio is the truth: compared with one made from the topics and the log alone."""

from __future__ import annotations

from datetime import datetime
from threading import Event, Timer

import psycopg
from psycopg import sql

from tests.command import CommandProcess
from tests.topic_log import Place, read_topics
from tests.workload import Workload
from tests.world import World


def committed_at(consumer: CommandProcess) -> dict[Place, list[tuple[int, float]]]:
    """Per partition (end offset, seconds since 1970) of each transaction, as the log has them."""
    ends: dict[Place, list[tuple[int, float]]] = {}
    for line in consumer.batches():
        when = datetime.fromisoformat(line["timestamp"]).timestamp()
        for place, end in line["offsets"].items():
            topic, number = place.rstrip("]").split("[")
            ends.setdefault((topic, int(number)), []).append((end, when))
    return ends


def _told(committed: dict[Place, list[tuple[int, float]]], ends: dict[Place, int]) -> bool:
    """Whether the log has the transactions up to these positions."""
    return all(end <= max((e for e, _ in committed.get(place, ())), default=0) for place, end in ends.items())


def ratio_and_truth(world: World, threshold: float, calm: int, stalls: int, spread: float) -> tuple[float, float, int]:
    """(the consumer's share of good events, that by source commits and transactions, events).

    `calm` transactions come while it keeps up, then more in `stalls` of twice the threshold each, during the first
    `spread` of it: with 1 they are applied at any age from nothing to twice the threshold, with less than a half all
    late.
    """
    world.migrate()
    world.settings(slo={"objective": 0.9, "threshold_seconds": threshold})
    load = Workload(world, 81)
    with world.consumer() as consumer:
        load.fill(5)
        world.settle()
        load.run(calm, pause=0.02)
        world.settle()
        for _ in range(stalls):
            _stall(world, load, 2 * threshold, spread)
            world.settle()
        world.until(lambda: _told(committed_at(consumer), world.end_offsets()))  # the log is behind the database
        ends = committed_at(consumer)
        seconds = [
            next(when for end, when in ends[event.topic, event.partition] if end > event.offset) - event.ts_us / 1e6
            for event in read_topics(world.endpoints.bootstrap_servers, [world.topic("a"), world.topic("b")])
            if event.ts_us is not None
        ]
        counted = {labels: value for (name, labels), value in consumer.metrics().items() if name == "slo_events_total"}
    good = sum(value for labels, value in counted.items() if "good" in labels)
    assert sum(counted.values()) == len(seconds) > calm
    return good / len(seconds), sum(value <= threshold for value in seconds) / len(seconds), len(seconds)


def _stall(world: World, load: Workload, seconds: float, spread: float) -> None:
    """Nothing can be applied for so long, while changes come, or until they have come for a while."""
    enough, over = Event(), Event()
    with psycopg.connect(world.endpoints.migrator_dsn) as holder:
        holder.execute(sql.SQL("SELECT FROM {}.offsets FOR UPDATE").format(sql.Identifier(world.name)))
        for happens, after in ((enough, spread * seconds), (over, seconds)):
            Timer(after, happens.set).start()
        load.run(10**6, pause=0.2, stopping=enough)
        over.wait()


def test_the_ratio_is_that_of_source_commits_and_transactions(world: World) -> None:
    """Many changes wait in a stall; the error allowed is a tenth of a percentage point. None is applied at an age so
    near the threshold that the log, which is milliseconds behind the database, could not tell."""
    ratio, truth, events = ratio_and_truth(world, threshold=2.0, calm=150, stalls=1, spread=0.25)
    print(f"{events} events, ratio {ratio:.5f}, truth {truth:.5f}")
    assert 0 < truth < 1, "the stall made a difference"
    assert abs(ratio - truth) <= 0.001
