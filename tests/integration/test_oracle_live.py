"""The heart of the suite: whatever happens to rows and consumers, the store is what a second computation says."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.chaos import kill_in_transaction
from tests.oracle import Oracle
from tests.states import StoreState, read_rows, read_store
from tests.topic_log import read_topics
from tests.workload import Workload
from tests.world import World

EVENTS = 3000
KINDS = 9  # of operations that the workload knows
LOOK_EVERY, LOOKS = 0.5, 10  # seconds between two looks into the store; those that must have found it at another place


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.semantics("operations", "insert (`c`), update (`u`), delete (`d`) of a row")
@pytest.mark.semantics("faults", "kill -9 of a consumer, at any moment")
def test_store_equals_oracle_while_consumers_come_and_go(world: World, tiny_model: Path, seed: int) -> None:
    _tell_tables_apart(world)
    world.short_sessions(batch={"max_events": 200})
    world.migrate()
    load, stopping = Workload(world, seed), threading.Event()
    load.fill(40)
    killed, stays = world.start(cpu=0), world.start(cpu=1)

    states: list[StoreState] = []

    def look() -> None:
        states.append(read_store(world.endpoints.migrator_dsn, world.name, world.name))

    def look_again_and_again() -> None:
        while not stopping.wait(LOOK_EVERY):
            look()

    with ThreadPoolExecutor(2) as pool:
        playing = pool.submit(load.run, 10**6, pause=0.03, stopping=stopping)
        looking = pool.submit(look_again_and_again)
        try:
            world.until(lambda: killed.applied() > 100 and stays.applied() > 100)
            kill_in_transaction(world, killed)
            look()
            joins = world.start(cpu=0)
            world.until(lambda: joins.applied() > 100)
            world.until(lambda: playing.done() or looking.done() or load.played >= EVENTS)
        finally:
            stopping.set()
        playing.result()
        looking.result()
    world.settle()
    look()
    topics = [world.topic("a"), world.topic("b")]
    stored = {place: offset for place, offset in states[-1].offsets.items() if place[0] in topics}
    world.until(lambda: world.committed() == stored)
    assert [process.stop() for process in (stays, joins)] == [0, 0]

    # enough has happened for the comparison to mean something
    assert load.played >= EVENTS
    assert len(load.counts) == KINDS
    assert min(load.counts.values()) > 20, load.counts
    epochs = [row["epoch"] for row in world.store("SELECT epoch FROM offsets WHERE topic = ANY(%s)", [topics])]
    assert len(epochs) == 6
    assert sum(epochs) >= len(epochs) + 3, "partitions did not move between consumers"
    moments = {tuple(sorted(state.offsets.items())) for state in states}
    assert len(moments) >= LOOKS, "the store was looked at too seldom while it changed"

    oracle = Oracle(world.tables, tiny_model)
    events = read_topics(world.endpoints.bootstrap_servers, topics)
    tables = {world.topic(suffix): world.table(suffix) for suffix in ("a", "b")}
    assert oracle.compare(states[-1], read_rows(world.endpoints.source_owner_dsn, tables)) == []
    assert [oracle.compare_with_topics(state, events) for state in states] == [[]] * len(states)
    assert world.store("SELECT * FROM failed_documents") == []
    embedded = sum(process.embedded() for process in (killed, stays, joins))
    assert 0 < embedded <= oracle.embeds_due(events)


def _tell_tables_apart(world: World) -> None:
    """The second table is read with other settings, so that a mix-up would show."""
    world.tables[1] |= {"text": "{{ body }}\n{{ title | default('untitled', true) | upper }}", "metadata": ["status"]}
    world.tables[1]["chunk"] = {"max_tokens": 40, "overlap": 0}
    del world.tables[1]["when"]
