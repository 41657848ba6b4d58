"""`doctor` on real services: a healthy pipeline passes, and each fault is named with a fix that heals it."""

from __future__ import annotations

import json
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from psycopg import sql
from psycopg.conninfo import make_conninfo

from consumer.local import Endpoints, Stack
from consumer.source import SourceDatabase
from tests.tiny_model import make_tiny_model
from tests.world import World

pytestmark = pytest.mark.stack

APART = f"doctor{os.getpid()}"  # a database, connector, prefix and slot of this module's own
NOWHERE = "postgresql://nobody@127.0.0.1:1/none"


def doctor(world: World, code: int | None = None) -> dict[str, dict[str, Any]]:
    """The findings by check."""
    done = world.command("doctor", "--json")
    world.processes.pop()  # it has not died, it says so by its code
    assert "Traceback" not in done.stderr
    assert done.returncode in ((0, 1, 3) if code is None else (code,)), done.stdout + done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])  # a name may be used again, and its file with it
    assert answer["ok"] is (done.returncode == 0)
    return {finding["check"]: finding for finding in answer["checks"]}


def execute(dsn: str, statement: str) -> None:
    """What a person would paste into psql."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statement.encode())


def insert(world: World) -> None:
    for suffix in ("a", "b"):
        world.source(sql.SQL("INSERT INTO {} VALUES (1, 'lamp', 'brass', 'home', 9.5)").format(world.table(suffix)))


def loaded(world: World) -> None:
    """Wait until the two rows are searchable, the vector index is built, and a heartbeat has come."""
    index = "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass('chunks_1_hnsw') AND indisvalid"
    world.until(lambda: len(world.store("SELECT 1 FROM documents")) == 2)
    world.until(lambda: world.store("SELECT 1 FROM heartbeats") and world.store(index))


@pytest.fixture
def healthy(world: World) -> World:
    """A world whose consumer has done its work and left."""
    world.migrate()
    insert(world)
    with world.consumer():
        loaded(world)
    return world


def test_nothing_is_wrong_with_a_healthy_pipeline(world: World) -> None:
    connector = {"connect_url": world.endpoints.connect_url, "connector": "postgres-json"}
    named = {"slot": "embed_consumer", "publication": "dbz_publication", **connector}
    world.settings(source={"dsn": world.endpoints.source_dsn, **named})
    world.migrate()
    insert(world)
    with world.consumer():
        loaded(world)
        found = doctor(world, code=0)
        text = world.command("doctor").stdout
    unwell = {check: finding for check, finding in found.items() if finding["verdict"] != "pass"}
    assert {check: finding["verdict"] for check, finding in unwell.items()} == {"registry": "skip"}
    expected = {
        "kafka",
        "group",
        "offsets",
        "heartbeat shop",
        "source",
        "slot embed_consumer",
        "connector postgres-json",
        "store",
        "store server",
        "http",
    }
    expected |= {
        "migrations",
        "writer",
        "migrator",
        "stored keys",
        "vector index",
        "failed documents",
        "model",
        "vectors",
        "settings",
    }
    expected |= {"clock of the store", "clock of the source"}
    for suffix in ("a", "b"):
        expected |= {f"{what} {world.topic(suffix)}" for what in ("topic", "publication of", "key of", "columns of")}
    assert found.keys() == expected | {"registry"}
    assert [line.split()[0] for line in text.splitlines() if not line.startswith(" ")].count("PASS") == len(expected)


def test_what_is_wrong_with_the_store_is_named_and_healed(healthy: World, tmp_path: Path) -> None:
    world, name = healthy, healthy.name
    execute(world.endpoints.migrator_dsn, f"REVOKE INSERT, DELETE ON {name}.documents FROM embedder")
    lacking = doctor(world, code=1)
    assert lacking["writer"]["verdict"] == "fail"
    assert lacking["migrations"]["verdict"] == "pass", "one that fails must not hide the others"
    execute(world.endpoints.migrator_dsn, lacking["writer"]["fix"].removeprefix("As the owner: "))
    assert doctor(world, code=0)["writer"]["verdict"] == "pass"

    invalid = f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{name}.chunks_1_hnsw'::regclass"
    execute(world.endpoints.admin_dsn, invalid)
    broken = doctor(world, code=1)["vector index"]
    assert (broken["verdict"], "broken off" in broken["what"]) == ("fail", True)
    execute(world.endpoints.migrator_dsn, f"DROP INDEX {name}.chunks_1_hnsw")
    missing = doctor(world, code=0)["vector index"]
    assert (missing["verdict"], "Start the consumer" in missing["fix"]) == ("warn", True)
    with world.consumer():
        world.until(lambda: doctor(world)["vector index"]["what"].startswith("ready"))

    model, world.model = world.model, str(make_tiny_model(tmp_path / "other", seed=5))
    other = doctor(world, code=1)
    assert (other["model"]["verdict"], other["vectors"]["verdict"]) == ("pass", "fail")
    assert "Restore these settings" in other["vectors"]["fix"]
    world.model = str(tmp_path / "none")
    gone = doctor(world, code=1)
    assert (gone["model"]["verdict"], gone["vectors"]["verdict"]) == ("fail", "skip")
    world.model = model
    assert doctor(world, code=0)["vectors"]["verdict"] == "pass"


def test_what_is_wrong_with_pgvector_and_the_migrator_is_named_and_healed(world: World) -> None:
    """In a database of its own: the extension is missing, then is an old one, and nobody may create a schema."""
    name = f"store{os.getpid()}"
    execute(world.endpoints.admin_dsn, f"CREATE DATABASE {name}")
    own = make_conninfo(world.endpoints.admin_dsn, dbname=name)
    dsns = (world.endpoints.store_dsn, world.endpoints.migrator_dsn)
    writer, migrator = (make_conninfo(dsn, dbname=name) for dsn in dsns)
    world.settings(store={"dsn": writer, "migrator_dsn": migrator, "schema": world.name}, source={})
    try:
        bare = doctor(world, code=1)
        assert bare["store server"]["verdict"] == bare["migrator"]["verdict"] == bare["migrations"]["verdict"] == "fail"
        execute(own, bare["store server"]["fix"].removeprefix("As a superuser: "))
        execute(own, bare["migrator"]["fix"].removeprefix("As a superuser: "))
        execute(own, "UPDATE pg_extension SET extversion = '0.8.3' WHERE extname = 'vector'")
        old = doctor(world, code=1)
        assert "0.8.3" in old["store server"]["what"]
        assert old["migrator"]["verdict"] == "pass"
        execute(own, old["store server"]["fix"].split(", then ")[1])
        for rights in ("USAGE ON SCHEMAS", "SELECT, INSERT, UPDATE, DELETE ON TABLES", "USAGE, SELECT ON SEQUENCES"):
            execute(own, f"ALTER DEFAULT PRIVILEGES FOR ROLE embedding_migrator GRANT {rights} TO embedder")
        world.migrate()
        healed = doctor(world)
        assert {healed[check]["verdict"] for check in ("store server", "migrations", "writer", "vectors")} == {"pass"}
    finally:
        execute(world.endpoints.admin_dsn, f"DROP DATABASE {name} WITH (FORCE)")


def test_a_schema_that_is_not_migrated(world: World) -> None:
    insert(world)
    before = doctor(world, code=1)
    assert {before[check]["verdict"] for check in ("migrations", "writer", "vectors")} == {"fail"}
    assert all("embed-consumer migrate" in before[check]["fix"] for check in ("migrations", "writer", "vectors"))
    assert before["vector index, failed documents"]["verdict"] == "skip"
    world.migrate()
    after = doctor(world)
    assert {after[check]["verdict"] for check in ("migrations", "writer", "vector index", "vectors")} == {"pass"}


def test_what_is_wrong_with_a_topic(healthy: World) -> None:
    world, right = healthy, healthy.topic("a")
    world.tables[0]["topic"] = f"{right}x"
    wrong = doctor(world, code=1)[f"topic {right}x"]
    assert wrong["verdict"] == "fail"
    assert f"Did you mean {right}?" in wrong["fix"]
    world.tables[0]["topic"] = right

    _alter(world, right, "cleanup.policy", "compact")
    risky = doctor(world, code=0)[f"topic {right}"]
    assert (risky["verdict"], "cleanup.policy=delete" in risky["fix"]) == ("warn", True)
    _alter(world, right, "cleanup.policy", "delete")
    assert doctor(world, code=0)[f"topic {right}"]["verdict"] == "pass"


def test_a_dependency_that_is_down_hides_no_other(healthy: World) -> None:
    world, kafka = healthy, {"bootstrap_servers": healthy.endpoints.bootstrap_servers}
    store = {"dsn": world.endpoints.store_dsn, "migrator_dsn": world.endpoints.migrator_dsn, "schema": world.name}
    world.settings(kafka={"bootstrap_servers": "127.0.0.1:1"})
    silent = doctor(world, code=3)
    assert (silent["kafka"]["verdict"], silent["store"]["verdict"]) == ("fail", "pass")
    assert "kafka.bootstrap_servers" in silent["kafka"]["fix"]
    assert [check for check, finding in silent.items() if finding["verdict"] == "fail"] == ["kafka"]

    world.settings(kafka=kafka, store={"dsn": NOWHERE, "schema": world.name})
    silent = doctor(world, code=3)
    assert (silent["kafka"]["verdict"], silent["store"]["verdict"], silent["vectors"]["verdict"]) == (
        "pass",
        "fail",
        "skip",
    )

    world.settings(store=store, source={"dsn": NOWHERE})
    silent = doctor(world, code=3)
    assert [check for check, finding in silent.items() if finding["verdict"] == "fail"] == ["source"]
    world.settings(source={}, registry={"url": "http://127.0.0.1:1"})
    world.tables[0]["format"] = "avro"
    silent = doctor(world, code=3)
    assert [check for check, finding in silent.items() if finding["verdict"] == "fail"] == ["registry"]
    assert "registry.url" in silent["registry"]["fix"]
    del world.tables[0]["format"]
    world.settings(source={"connect_url": "http://127.0.0.1:1"})
    silent = doctor(world, code=3)
    assert [check for check, finding in silent.items() if finding["verdict"] == "fail"] == ["connector"]
    world.settings(source={"connect_url": world.endpoints.connect_url, "connector": "none"})
    assert "source.connector" in doctor(world, code=1)["connector none"]["fix"]
    world.settings(source={})
    assert (unasked := doctor(world, code=0)["source"])["verdict"] == "skip"
    assert "source.dsn" in unasked["fix"]


def test_the_port_of_a_consumer_and_of_somebody_else(healthy: World) -> None:
    world = healthy
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        world.settings(http={"listen": f"127.0.0.1:{port}"})
        assert doctor(world, code=0)["http"]["verdict"] == "warn"
    assert doctor(world, code=0)["http"]["verdict"] == "pass"
    with world.consumer() as consumer:
        world.until(lambda: consumer.lines("ready to join"))
        served = world.until(lambda: (found := doctor(world, code=0)["http"])["verdict"] == "pass" and found)
        assert "is ready" in served["what"]


@pytest.fixture
def apart(stack: Stack, endpoints: Endpoints, world: World) -> Iterator[World]:
    """The world with a source database of its own: no slot, and one table in its publication."""
    with psycopg.connect(endpoints.admin_source_dsn, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {APART}")
    own = make_conninfo(endpoints.admin_source_dsn, dbname=APART)
    execute(
        own, "CREATE TABLE a (id int PRIMARY KEY, title text, body text, category text, price numeric, scores real[])"
    )
    execute(
        own, "CREATE TABLE b (id int PRIMARY KEY, title text, body text, category text, price numeric, status text)"
    )
    execute(own, "ALTER TABLE a ADD COLUMN status text DEFAULT 'published'")
    execute(own, f"CREATE ROLE {APART} LOGIN PASSWORD '{APART}'")
    execute(own, "CREATE PUBLICATION apart FOR TABLE b; GRANT SELECT ON a, b TO debezium")
    for table, name in zip(world.tables, ("a", "b"), strict=True):
        table["topic"] = f"{APART}.public.{name}"
    world.settings(source={"dsn": make_conninfo(endpoints.source_dsn, dbname=APART)})
    try:
        yield world
    finally:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        url = f"{endpoints.connect_url}/connectors/{APART}"
        with suppress(urllib.error.HTTPError):  # the test did not come so far
            opener.open(urllib.request.Request(url, method="DELETE"), timeout=30).close()
        world.until(lambda: _free(endpoints), timeout=60)
        with psycopg.connect(endpoints.admin_source_dsn, autocommit=True) as admin:
            admin.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s", [APART]
            )
            admin.execute(f"DROP DATABASE {APART} WITH (FORCE)")
            admin.execute(f"DROP ROLE {APART}")


def _free(endpoints: Endpoints) -> bool:
    with psycopg.connect(endpoints.admin_source_dsn, autocommit=True) as admin:
        taken = "SELECT 1 FROM pg_replication_slots WHERE database = %s AND active"
        return not admin.execute(taken, [APART]).fetchone()


def test_what_is_wrong_with_the_source_is_named_and_healed(apart: World, stack: Stack) -> None:
    world = apart
    own = make_conninfo(world.endpoints.admin_source_dsn, dbname=APART)
    topic = f"{APART}.public.a"
    world.tables[0]["metadata"] = ["category", "scores"]
    execute(own, "ALTER TABLE b REPLICA IDENTITY NOTHING")
    execute(own, "SELECT pg_create_logical_replication_slot('left_behind', 'pgoutput')")
    sick = doctor(world, code=1)
    verdicts = {check: sick[check]["verdict"] for check in sick if APART in check or "slot" in check}
    assert verdicts["slot left_behind"] == "fail"
    assert verdicts[f"publication of {topic}"] == "fail"
    assert verdicts[f"columns of {topic}"] == "warn"
    assert verdicts[f"key of {APART}.public.b"] == "fail"
    assert verdicts[f"heartbeat {APART}"] == "fail"
    execute(own, "SELECT pg_drop_replication_slot('left_behind')")
    assert doctor(world, code=1)["replication slot"]["verdict"] == "fail"

    for check in (f"publication of {topic}", f"columns of {topic}", f"key of {APART}.public.b"):
        execute(own, sick[check]["fix"])
    overrides = {"topic.prefix": APART, "slot.name": APART, "database.dbname": APART, "publication.name": "apart"}
    stack.register_connector(name=APART, overrides=overrides)  # the fix of the slot and of the heartbeats
    execute(own, "INSERT INTO a VALUES (1, 'lamp', '', '', 1); INSERT INTO b VALUES (1, 'lamp', '', '', 1)")
    world.migrate()

    def healed() -> bool:
        found = doctor(world)
        return all(finding["verdict"] in ("pass", "skip") for finding in found.values())

    world.until(healed, timeout=90)
    looker = make_conninfo(own, user=APART, password=APART)
    with SourceDatabase(looker) as source, SourceDatabase(own) as admin:
        wanted = [("public", "a"), ("public", "b")]
        assert source.tables(wanted) == admin.tables(wanted), "a role that may connect is enough"
        assert source.server() == admin.server()
        assert source.publications() == ["apart"]
        assert [(slot.name, slot.active, slot.wal_status) for slot in source.slots()] == [(APART, True, "reserved")]


def test_the_slot_is_measured_and_the_source_never_waited_for(world: World) -> None:
    world.migrate()
    insert(world)
    with world.consumer() as consumer:
        retained = ("slot_retained_bytes", ("embed_consumer",))
        world.until(lambda: consumer.lines("ready to join"))
        world.until(lambda: (consumer.metrics().get(retained) or 0) > 0)
    world.settings(source={"dsn": NOWHERE})
    with world.consumer() as consumer:
        world.until(lambda: consumer.lines("ready to join"))
        world.until(lambda: consumer.metrics().get(("errors_total", ("retry", "source"))))
        world.source(sql.SQL("INSERT INTO {} VALUES (2, 'shears', '', '', 1)").format(world.table()))
        world.until(lambda: len(world.store("SELECT 1 FROM documents")) == 3)
        assert retained not in consumer.metrics()
        assert NOWHERE not in consumer.output()


def _alter(world: World, topic: str, name: str, value: str) -> None:
    admin = AdminClient({"bootstrap.servers": world.endpoints.bootstrap_servers})
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin.incremental_alter_configs([resource])[resource].result(30)
