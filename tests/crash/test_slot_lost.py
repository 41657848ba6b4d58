"""The source's replication slot is gone: what happened without it is told by nobody, and a snapshot must bring it."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.integration.test_doctor import doctor
from tests.integration.test_oracle_connector import own_connector
from tests.stacks import Services
from tests.world import World


def ask(world: World, method: str, what: str) -> Any:
    """Kafka Connect, about the world's own connector."""
    url = f"{world.endpoints.connect_url}/connectors/{world.name}/{what}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, method=method), timeout=30) as reply:
        return json.loads(reply.read() or b"null")


@pytest.fixture
def apart(world: World, stack: Services) -> Iterator[World]:
    """A world with a connector and a slot of its own."""
    with own_connector(world, stack):
        for table, suffix in zip(world.tables, ("a", "b"), strict=True):
            table["topic"] = world.topic(suffix)
        named = {"slot": world.name, "connect_url": world.endpoints.connect_url, "connector": world.name}
        world.settings(source={"dsn": world.endpoints.source_dsn, **named})
        yield world


def titles(world: World) -> dict[int, str]:
    found = world.store("SELECT source_key, content FROM chunks WHERE chunk_no = 0")
    return {chunk["source_key"]["id"]: chunk["content"] for chunk in found}


@pytest.mark.semantics(
    "faults",
    "replication slot dropped on the source",
    "the connector refuses to go on, `doctor` says so; a snapshot brings what was missed, no deleted row comes back; "
    "rows deleted while there was no slot stay until they are deleted again (known limit)",
)
def test_what_a_lost_slot_missed_comes_by_a_snapshot_and_no_deleted_row_does(apart: World) -> None:
    world, table = apart, apart.table("a")
    world.migrate()
    world.source(sql.SQL("INSERT INTO {} (id, title) SELECT n, 'old ' || n FROM generate_series(1, 4) n").format(table))
    with world.consumer(), psycopg.connect(world.endpoints.admin_source_dsn, autocommit=True) as source:
        world.until(lambda: len(titles(world)) == 4)
        world.source(sql.SQL("DELETE FROM {} WHERE id = 3").format(table))
        world.until(lambda: sorted(titles(world)) == [1, 2, 4])

        ask(world, "PUT", "stop")
        idle = "SELECT 1 FROM pg_replication_slots WHERE slot_name = %s AND NOT active"
        world.until(lambda: source.execute(idle, [world.slot]).fetchone())
        source.execute("SELECT pg_drop_replication_slot(%s)", [world.slot])
        world.source(sql.SQL("UPDATE {} SET title = 'new' WHERE id = 1").format(table))
        world.source(sql.SQL("DELETE FROM {} WHERE id = 2").format(table))
        world.source(sql.SQL("INSERT INTO {} (id, title) VALUES (5, 'five')").format(table))
        said = doctor(world)
        assert said[f"slot {world.slot}"]["verdict"] == "fail"
        assert "snapshot" in said[f"slot {world.slot}"]["fix"]

        # The connector makes a slot anew, sees that it begins behind its own position, and refuses to go on.
        ask(world, "PUT", "resume")
        world.until(lambda: "FAILED" in {task["state"] for task in ask(world, "GET", "status")["tasks"]}, timeout=120)
        assert doctor(world)[f"connector {world.name}"]["verdict"] == "fail"
        assert titles(world)[1].startswith("old")

        # What the runbook says: forget the position, and so begin with a snapshot.
        ask(world, "PUT", "stop")
        world.until(lambda: not ask(world, "GET", "status")["tasks"])
        ask(world, "DELETE", "offsets")
        ask(world, "PUT", "resume")
        world.until(lambda: 5 in titles(world), timeout=120)
        world.source(sql.SQL("UPDATE {} SET title = 'streamed' WHERE id = 4").format(table))
        world.until(lambda: titles(world).get(4) == "streamed")
        assert titles(world) == {1: "new", 2: "old 2", 4: "streamed", 5: "five"}, "3 is gone; nobody told of 2"

        world.source(sql.SQL("INSERT INTO {0} (id) VALUES (2); DELETE FROM {0} WHERE id = 2").format(table))
        world.until(lambda: sorted(titles(world)) == [1, 4, 5])
