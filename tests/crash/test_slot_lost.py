"""The source's replication slot is gone: what happened without it is told by nobody, and a snapshot must bring it."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from psycopg import sql

from tests.integration.test_oracle_connector import own_connector
from tests.stacks import Services
from tests.world import World


def ask(world: World, method: str, what: str) -> Any:
    """Kafka Connect, about the world's own connector."""
    url = f"{world.endpoints.connect_url}/connectors/{world.name}/{what}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, method=method), timeout=30) as reply:
        return json.loads(reply.read() or b"null")


def doctor(world: World) -> dict[str, Any]:
    done = world.command("doctor", "--json")
    world.processes.pop()
    return {finding["check"]: finding for finding in json.loads(done.stdout)["findings"]}


@pytest.fixture
def apart(world: World, stack: Services) -> Iterator[World]:
    """A world with a connector, a slot and a signal topic of its own."""
    admin = AdminClient({"bootstrap.servers": world.endpoints.bootstrap_servers})
    admin.create_topics([NewTopic(f"{world.name}-signal", 1)])[f"{world.name}-signal"].result(30)
    with own_connector(world, stack):
        for table, suffix in zip(world.tables, ("a", "b"), strict=True):
            table["topic"] = world.topic(suffix)
        named = {"slot": world.name, "connect_url": world.endpoints.connect_url, "connector": world.name}
        world.settings(source={"dsn": world.endpoints.source_dsn, **named})
        yield world


def titles(world: World) -> dict[int, str]:
    found = world.store("SELECT source_key, content FROM chunks WHERE chunk_no = 0")
    return {chunk["source_key"]["id"]: chunk["content"] for chunk in found}


def snapshot(world: World) -> None:
    """As docs/snapshots.md says."""
    signal = {"type": "execute-snapshot", "data": {"type": "blocking", "data-collections": [f"public.{world.name}_a"]}}
    producer = Producer({"bootstrap.servers": world.endpoints.bootstrap_servers})
    producer.produce(f"{world.name}-signal", key=world.name, value=json.dumps(signal))
    assert producer.flush(30) == 0


@pytest.mark.semantics(
    "faults",
    "replication slot dropped on the source",
    "`doctor` fails and says so; a snapshot brings what was missed, and no deleted row comes back; rows deleted while "
    "there was no slot stay until they are deleted again (known limit)",
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
        told = doctor(world)
        print(json.dumps(told, indent=1))
        ask(world, "PUT", "resume")
        import time

        for _ in range(20):
            time.sleep(1)
            print(
                json.dumps(ask(world, "GET", "status"))[:1500],
                source.execute("select slot_name, active, confirmed_flush_lsn from pg_replication_slots").fetchall(),
                titles(world),
            )
        print(json.dumps(doctor(world), indent=1))
        assert 0
