"""A consumer that is frozen, loses its partitions, and wakes up with a batch in its hands: it may write none of it."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from consumer.operations.telemetry import TAKEN_OVER
from tests.chaos import held_in_transaction
from tests.oracle import Oracle
from tests.states import read_rows, read_store
from tests.topic_log import read_topics
from tests.workload import Workload
from tests.world import World


@pytest.mark.parametrize("moment", ["at any time", "in a transaction"])
@pytest.mark.semantics(
    "faults",
    "consumer that wakes up after its partitions have gone",
    "writes nothing and says so: its epoch is refused",
)
def test_a_frozen_consumer_wakes_up_after_its_partitions_have_gone(world: World, tiny_model: Path, moment: str) -> None:
    world.short_sessions(batch={"max_events": 100})
    world.migrate()
    load, stopping = Workload(world, 31), Event()
    load.fill(30)
    frozen, other = world.start(cpu=0), world.start(cpu=1)
    with ThreadPoolExecutor(1) as player:
        playing = player.submit(load.run, 10**6, pause=0.08, stopping=stopping)
        try:
            world.until(lambda: frozen.applied() > 50 and other.applied() > 50)
            if moment == "in a transaction":
                with held_in_transaction(world, frozen):
                    frozen.signal(signal.SIGSTOP)
            else:
                frozen.signal(signal.SIGSTOP)
            mine = _partitions(frozen.batches())
            before = len(other.batches())
            # All it had is taken over: at once, or when the server ends the transaction that holds the offset rows.
            world.until(lambda: mine <= _partitions(other.batches()[before:]), timeout=100)
            count = frozen.applied()
            frozen.signal(signal.SIGCONT)
            world.until(lambda: frozen.applied() > count + 50)  # back in the group, and at work
            if moment == "in a transaction":  # it woke up with a batch in its hands
                assert frozen.metrics()["fenced_total", ()] > 0
                assert frozen.lines(TAKEN_OVER), "it was refused, and did not say so"
        finally:
            frozen.signal(signal.SIGCONT)
            stopping.set()
        playing.result()
    world.settle()
    state = read_store(world.endpoints.migrator_dsn, world.name, world.name)
    assert [process.stop() for process in (frozen, other)] == [0, 0]

    oracle = Oracle(world.tables, tiny_model)
    tables = {world.topic(suffix): world.table(suffix) for suffix in ("a", "b")}
    events = read_topics(world.endpoints.bootstrap_servers, tables)
    assert oracle.compare(state, read_rows(world.endpoints.source_owner_dsn, tables)) == []
    assert oracle.compare_with_topics(state, events) == []
    # Nobody was killed, so every event is on exactly one log line.
    assert frozen.applied() + other.applied() == len(events)
    assert frozen.embedded() + other.embedded() <= oracle.embeds_due(events)


def _partitions(batches: list[dict[str, dict[str, int]]]) -> set[str]:
    """The tables' partitions that these batches moved."""
    return {place for batch in batches for place in batch["offsets"] if not place.startswith("__")}
