"""SIGKILL of a consumer while it seals, indexes or merges segments: the next goes on, no chunk is lost or twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash_points import VARIABLE
from tests.envelopes import change, row
from tests.oracle import Oracle
from tests.states import read_store
from tests.topic_log import read_topics
from tests.world import World

pytestmark = pytest.mark.timeout(900)  # several processes one after the other, on a machine that may be slow

POINTS = {
    "the next hot one attached": "/store/segments.py:seal:return:1",
    "indexed, not noted": "/store/index.py:create:return:1",
    "copied": "/store/merging.py:copy:return:1",
    "in the transaction that replaces them": "/store/merging.py:catch_up:return:2",
}
ROWS = 110  # more than a segment is sealed at


@pytest.mark.semantics("faults", "kill -9 while segments are sealed, indexed or merged")
def test_a_consumer_killed_while_it_tends_leaves_every_chunk_once(world: World, tiny_model: Path) -> None:
    world.tables = world.tables[:1]
    world.short_sessions(index={"segment_rows": 100})
    world.create_topic()
    world.migrate()
    tables, oracle = {world.topic(): world.table()}, Oracle(world.tables, tiny_model)
    for round_, (name, point) in enumerate(POINTS.items()):
        numbers = range(round_ * ROWS, (round_ + 1) * ROWS)
        world.produce(*(change(row(number, f"title {number}"), "c") for number in numbers))
        victim = world.start(environment={VARIABLE: point})
        assert victim.wait(120) == -9, f"{name}\n{victim.output()[-2000:]}"
        state = read_store(world.endpoints.migrator_dsn, world.name, world.name)
        assert oracle.compare_with_topics(state, read_topics(world.endpoints.bootstrap_servers, tables)) == [], name
    unfinished = (
        "SELECT 1 FROM segments JOIN generations USING (generation)"
        " WHERE merges IS NOT NULL OR (rows IS NULL AND segment <> hot_segment)"
    )
    with world.consumer():
        world.until(lambda: world.caught_up("a") and not world.store(unfinished))
    state = read_store(world.endpoints.migrator_dsn, world.name, world.name)
    assert oracle.compare_with_topics(state, read_topics(world.endpoints.bootstrap_servers, tables)) == []
    assert len(world.store("SELECT 1 FROM chunks")) == len(POINTS) * ROWS
