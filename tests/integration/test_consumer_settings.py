"""Settings of a table that change between two runs: stored rows are rendered again, and only new text is embedded."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg import sql

from tests.oracle import Oracle
from tests.states import read_rows, read_store
from tests.workload import Workload
from tests.world import World


def wrong(world: World, oracle: Oracle) -> list[str]:
    tables = {world.topic(suffix): world.table(suffix) for suffix in ("a", "b")}
    state = read_store(world.endpoints.migrator_dsn, world.name, world.name)
    return oracle.compare(state, read_rows(world.endpoints.source_owner_dsn, tables))


@pytest.mark.parametrize(
    ("change", "embeds"),
    [
        ({"metadata": ["price"]}, False),
        ({"text": "{{ body }} {{ title }}"}, True),
        ({"chunk": {"max_tokens": 48, "overlap": 0}}, True),
        ({"when": "{{ status != 'published' }}"}, True),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
@pytest.mark.semantics(
    "operations",
    "settings of a table that change",
    "stored rows are rendered again in the background, without an event; only new text is embedded",
)
def test_changed_settings_are_applied_to_what_is_stored(
    world: World, tiny_model: Path, change: dict[str, object], embeds: bool
) -> None:
    world.migrate()
    Workload(world, 51).run(60)
    with world.consumer():
        world.settle()
    assert wrong(world, Oracle(world.tables, tiny_model)) == []
    before = world.store("SELECT topic, next_offset FROM offsets WHERE topic NOT LIKE '\\_%%' ORDER BY 1, 2", [])
    for table in world.tables:
        table.update(change)
    oracle = Oracle(world.tables, tiny_model)
    assert wrong(world, oracle) != []
    with world.consumer() as consumer:
        world.until(lambda: wrong(world, oracle) == [])
        computed = sum(v for (name, _), v in consumer.metrics().items() if name == "tokens_total")
        assert (computed > 0) == embeds
    after = world.store("SELECT topic, next_offset FROM offsets WHERE topic NOT LIKE '\\_%%' ORDER BY 1, 2", [])
    assert after == before, "no event was needed"


@pytest.mark.semantics(
    "operations",
    "settings that use a column which was not stored",
    "the document stays as it is, counted as stale, until an event or a snapshot brings the column",
)
def test_a_column_that_was_not_stored_waits_for_its_next_event(world: World) -> None:
    world.tables = world.tables[:1]
    world.tables[0] |= {"metadata": ["category"], "text": "{{ title }}"}
    world.migrate()
    Workload(world, 52, ("a",)).fill(3)
    with world.consumer():
        world.settle("a")
    world.tables[0]["metadata"] = ["category", "price"]
    with world.consumer():
        world.source(sql.SQL("UPDATE {} SET title = title").format(world.table()))
        world.settle("a")
    assert all("price" in chunk["metadata"] for chunk in world.store("SELECT metadata FROM chunks"))
