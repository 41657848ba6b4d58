"""From a source row to a searchable vector and back to nothing, through the real command on the real stack."""

from __future__ import annotations

import pytest
from psycopg import sql

from tests.world import World


@pytest.mark.semantics(
    "operations",
    "insert (`c`), update (`u`), delete (`d`) of a row",
    "its chunks are embedded, replaced, and deleted; each step is one transaction with its offset",
)
def test_insert_edit_and_delete_reach_the_view(world: World) -> None:
    world.migrate()
    insert = sql.SQL("INSERT INTO {} (id, title, body, category, price) VALUES (1, 'Lamp', 'Old brass', 'home', 9.50)")
    world.source(insert.format(world.table()))
    with world.consumer():
        row = world.until(lambda: world.store("SELECT * FROM chunks WHERE source = %s", [world.topic()]))[0]
        assert row["source_key"] == {"id": 1}
        assert (row["chunk_no"], row["content"]) == (0, "Lamp\n\nOld brass")
        assert row["metadata"] == {"category": "home", "price": "9.50"}
        assert row["kafka_topic"] == world.topic()

        world.source(sql.SQL("UPDATE {} SET body = 'New copper'").format(world.table()))
        world.until(lambda: world.store("SELECT 1 FROM chunks WHERE content LIKE '%%copper'", []))
        assert len(world.store("SELECT 1 FROM chunks")) == 1

        world.source(sql.SQL("DELETE FROM {}").format(world.table()))
        world.until(lambda: not world.store("SELECT 1 FROM chunks"))
        states = world.store("SELECT state FROM documents")
        assert [state["state"] for state in states] == ["deleted"]
