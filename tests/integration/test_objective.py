"""The objective's ratio is the truth: compared with one made from the topics and the log alone."""

from __future__ import annotations

from datetime import datetime

import psycopg
from psycopg import sql

from tests.command import CommandProcess
from tests.topic_log import Place, read_topics
from tests.workload import Workload
from tests.world import World

THRESHOLD = 1.0


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


def ratio_and_truth(world: World) -> tuple[float, float, int]:
    """(the consumer's share of good events, that by source commits and transactions, events), half of them in a stall
    of seconds."""
    world.migrate()
    world.settings(slo={"objective": 0.9, "threshold_seconds": THRESHOLD})
    load = Workload(world, 81)
    with world.consumer() as consumer:
        load.fill(5)
        world.settle()
        load.run(200, pause=0.01)
        world.settle()
        with psycopg.connect(world.endpoints.migrator_dsn) as holder:
            holder.execute(sql.SQL("SELECT FROM {}.offsets FOR UPDATE").format(sql.Identifier(world.name)))
            load.run(200, pause=0.02)
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
    assert sum(counted.values()) == len(seconds) > 1000
    return good / len(seconds), sum(value <= THRESHOLD for value in seconds) / len(seconds), len(seconds)


def test_the_ratio_is_that_of_source_commits_and_transactions(world: World) -> None:
    """Half the changes wait for seconds in a stall; the error allowed is a tenth of a percentage point."""
    ratio, truth, events = ratio_and_truth(world)
    print(f"{events} events, ratio {ratio:.5f}, truth {truth:.5f}")
    assert 0 < truth < 1, "the stall made a difference"
    assert abs(ratio - truth) <= 0.001
