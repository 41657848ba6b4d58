"""Operations that only the connector can produce: messages, transactions, ad-hoc snapshots, tables without a key."""

from __future__ import annotations

import json
import secrets
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from psycopg import sql

from consumer.local import Stack
from consumer.store import Checkup, Phase
from tests.all_types import end, until_slot
from tests.integration.test_oracle_connector import wrong
from tests.oracle import Oracle
from tests.topic_log import read_topics
from tests.workload import Workload
from tests.world import World

RUN = secrets.token_hex(4)
PREFIX = f"operations{RUN}"
BEFORE = f"t{RUN}_before"  # a table whose rows were there before the connector, which never told of them
SIGNALS = f"t{RUN}_signals"  # where an incremental snapshot leaves its marks
MANY_WORDS = "word " * 2000


@pytest.fixture(scope="module")
def captured(stack: Stack) -> Iterator[Stack]:
    """A connector for this module: every table of this run, with transaction metadata, and no first snapshot."""
    endpoints = stack.endpoints()
    with psycopg.connect(endpoints.source_owner_dsn, autocommit=True) as source:
        source.execute(f"CREATE TABLE {BEFORE} (id int PRIMARY KEY, title text, body text)")
        source.execute(f"ALTER TABLE {BEFORE} ALTER COLUMN body SET STORAGE EXTERNAL")
        source.execute(f"CREATE TABLE {SIGNALS} (id varchar(42) PRIMARY KEY, type varchar(32), data varchar(2048))")
        source.execute(f"GRANT INSERT ON {SIGNALS} TO debezium")
        source.execute(f"INSERT INTO {BEFORE} SELECT n, 'Title ' || n, '{MANY_WORDS}' FROM generate_series(1, 3) AS n")
    admin = AdminClient({"bootstrap.servers": endpoints.bootstrap_servers})
    admin.create_topics([NewTopic(f"{PREFIX}-signal", 1)])[f"{PREFIX}-signal"].result(30)
    overrides = {
        "topic.prefix": PREFIX,
        "slot.name": PREFIX,
        "table.include.list": r"public\.t[0-9a-f]{8}_.*",
        "snapshot.mode": "no_data",
        "message.prefix.include.list": "embed-heartbeat,app",
        "provide.transaction.metadata": "true",
        "message.key.columns": r"public\.(.*)_keyed:sku",
        "signal.enabled.channels": "source,kafka",
        "signal.data.collection": f"public.{SIGNALS}",
        "signal.poll.interval.ms": "100",
    }
    stack.register_connector(name=PREFIX, overrides=overrides)
    try:
        yield stack
    finally:
        url = f"{endpoints.connect_url}/connectors/{PREFIX}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        opener.open(urllib.request.Request(url, method="DELETE"), timeout=30).close()
        with psycopg.connect(endpoints.admin_source_dsn, autocommit=True) as source:
            drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s"
            _until_inactive(source)
            source.execute(drop, [PREFIX])


def _until_inactive(source: psycopg.Connection[tuple[object, ...]]) -> None:
    source.execute("SET statement_timeout = '30s'")
    source.execute(
        f"DO $$ BEGIN WHILE EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '{PREFIX}' AND active)"
        " LOOP PERFORM pg_sleep(0.05); END LOOP; END $$"
    )


@pytest.fixture
def operations(world: World, captured: Stack) -> World:
    """The test's world, its tables read through this module's connector."""
    world.prefix = world.slot = PREFIX
    for table, suffix in zip(world.tables, ("a", "b"), strict=True):
        table["topic"] = world.topic(suffix)
    return world


def request_snapshot(world: World, kind: str, *tables: str) -> None:
    """Ask the connector for an ad-hoc snapshot, as docs/mariadb.md says."""
    signal = {"type": "execute-snapshot", "data": {"type": kind, "data-collections": list(tables)}}
    producer = Producer({"bootstrap.servers": world.endpoints.bootstrap_servers})
    producer.produce(f"{PREFIX}-signal", key=PREFIX, value=json.dumps(signal))
    assert producer.flush(30) == 0


def topics(world: World) -> set[str]:
    admin = AdminClient({"bootstrap.servers": world.endpoints.bootstrap_servers})
    return set(admin.list_topics(timeout=10).topics)


@pytest.mark.semantics(
    "operations",
    "logical messages (`m`), transaction topic, heartbeats of the real connector",
    "pass beside the rows and change none",
)
def test_messages_transactions_and_heartbeats_pass_beside_the_rows(operations: World) -> None:
    world = operations
    world.migrate()
    with world.consumer() as consumer, psycopg.connect(world.endpoints.source_owner_dsn) as source:
        insert = sql.SQL("INSERT INTO {} (id, title) VALUES (%s, %s)")
        source.execute(insert.format(world.table("a")), [1, "one"])
        source.execute("SELECT pg_logical_emit_message(true, 'app', 'a message of the transaction')")
        source.execute(insert.format(world.table("b")), [2, "two"])
        source.commit()
        source.execute("SELECT pg_logical_emit_message(false, 'app', 'a message of its own')")
        source.commit()
        world.settle()
        world.until(lambda: f"{PREFIX}.transaction" in topics(world))
        world.until(lambda: {row["content"] for row in world.store("SELECT content FROM chunks")} == {"one", "two"})
        assert consumer.applied() == 2
        beats = "SELECT 1 FROM heartbeats WHERE topic_prefix = %s"
        world.until(lambda: world.store(beats, [PREFIX]))
    read = {row["topic"] for row in world.store("SELECT topic FROM offsets WHERE group_id = %s", [world.name])}
    assert read == {world.topic("a"), world.topic("b"), f"__debezium-heartbeat.{PREFIX}"}
    events = read_topics(world.endpoints.bootstrap_servers, [world.topic("a"), world.topic("b")])
    assert len(events) == 2
    beside = read_topics(world.endpoints.bootstrap_servers, [f"__debezium-heartbeat.{PREFIX}"])
    assert sum('"app"' in event.key for event in beside) == 2, "the messages came, where heartbeats come"


@pytest.mark.semantics("TOAST", "placeholder that nothing can fill")
def test_an_incomplete_row_is_healed_as_its_message_says(operations: World) -> None:
    """An ad-hoc snapshot by the signal topic brings what no event has ever told, of a source at rest."""
    world = operations
    topic = f"{PREFIX}.public.{BEFORE}"
    world.tables = [{"topic": topic, "text": "{{ title }}\n\n{{ body }}"}]
    world.migrate()
    world.source(sql.SQL("UPDATE {} SET title = 'Edited' WHERE id = 1").format(sql.Identifier(BEFORE)))
    with world.consumer():
        (failed,) = world.until(lambda: world.store("SELECT * FROM failed_documents"))
        assert failed["error_type"] == "incomplete"
        assert "ad-hoc snapshot" in failed["error"]
        request_snapshot(world, "blocking", f"public.{BEFORE}")
        world.until(lambda: not world.store("SELECT 1 FROM failed_documents"))
        first = "SELECT DISTINCT content FROM chunks WHERE chunk_no = 0"
        world.until(lambda: len(world.store("SELECT 1 FROM documents WHERE state = 'embedded'")) == 3)
        begun = {row["content"][:7] for row in world.store(first)}
        assert begun == {"Edited\n", "Title 2", "Title 3"}


@pytest.mark.semantics("operations", "incremental and ad-hoc snapshots among changes", "change no row that is newer")
def test_an_incremental_snapshot_among_changes_changes_no_row(operations: World, tiny_model: Path) -> None:
    """It reads the tables in pieces between two marks in the log, which it writes into the signal table."""
    world = operations
    world.migrate()
    load, stopping = Workload(world, 81), Event()
    load.fill(150)
    with world.consumer(), ThreadPoolExecutor(1) as player:
        playing = player.submit(load.run, 10**6, pause=0.02, stopping=stopping)
        try:
            for suffix in ("a", "b"):
                request_snapshot(world, "incremental", f"public.{world.name}_{suffix}")
            world.until(lambda: _ops(world)["r"] > 250)
        finally:
            stopping.set()
        playing.result()
        assert wrong(world, Oracle(world.tables, tiny_model)) == []
    assert min(_ops(world)[op] for op in "ud") > 3


def _ops(world: World) -> Counter[str]:
    names = [world.topic("a"), world.topic("b")]
    return Counter(event.op for event in read_topics(world.endpoints.bootstrap_servers, names))


@pytest.mark.semantics(
    "operations",
    "table without a key",
    "each row fails as `key_missing`; a key declared to the connector serves",
)
def test_a_table_without_a_key_is_refused_row_by_row_and_a_declared_key_serves(operations: World) -> None:
    world = operations
    for kind in ("keyless", "keyed"):
        table = sql.Identifier(f"{world.name}_{kind}")
        world.source(sql.SQL("CREATE TABLE {} (sku text, title text)").format(table))
        world.source(sql.SQL("ALTER TABLE {} REPLICA IDENTITY FULL").format(table))
    world.tables = [{"topic": world.topic(kind), "text": "{{ title }}"} for kind in ("keyless", "keyed")]
    world.migrate()
    with world.consumer() as consumer:
        for kind in ("keyless", "keyed"):
            table = sql.Identifier(f"{world.name}_{kind}")
            world.source(sql.SQL("INSERT INTO {} VALUES ('x', 'one'), ('y', 'two')").format(table))
            world.source(sql.SQL("UPDATE {} SET title = 'three' WHERE sku = 'x'").format(table))
            world.source(sql.SQL("UPDATE {} SET sku = 'z' WHERE sku = 'y'").format(table))
            world.source(sql.SQL("DELETE FROM {} WHERE sku = 'x'").format(table))
        world.settle("keyless", "keyed")
        chunks = world.store("SELECT source, source_key, content FROM chunks")
        assert [(chunk["source"], chunk["source_key"], chunk["content"]) for chunk in chunks] == [
            (world.topic("keyed"), {"sku": "z"}, "two")
        ]
        failed = world.store("SELECT * FROM failed_documents")
        assert {(row["source"], row["source_key"], row["error_type"]) for row in failed} == {
            (world.topic("keyless"), None, "key_missing")
        }
        assert all("message.key.columns" in row["error"] for row in failed)
        assert consumer.alive()


@pytest.mark.semantics("operations", "primary key that gets other columns, or values of another kind")
def test_under_another_primary_key_events_fail_until_a_person_accepts_it(operations: World) -> None:
    world = operations
    table, topic = sql.Identifier(f"{world.name}_rekeyed"), world.topic("rekeyed")
    world.source(sql.SQL("CREATE TABLE {} (id int PRIMARY KEY, shop int, title text)").format(table))
    world.source(sql.SQL("INSERT INTO {} SELECT n, 7, 'title' || n FROM generate_series(1, 3) AS n").format(table))
    world.tables = [{"topic": topic, "text": "{{ title }}"}]
    world.migrate()
    with world.consumer():
        world.until(lambda: len(world.store("SELECT 1 FROM chunks")) == 3)
        world.settle("rekeyed")
        key = sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}, ADD PRIMARY KEY (shop, id)")
        world.source(key.format(table, sql.Identifier(f"{world.name}_rekeyed_pkey")))
        world.source(sql.SQL("UPDATE {} SET title = 'edited' WHERE id = 1").format(table))
        world.source(sql.SQL("DELETE FROM {} WHERE id = 2").format(table))
        world.until(lambda: len(world.store("SELECT 1 FROM failed_documents")) == 2)
        failed = world.store("SELECT error_type, error FROM failed_documents")
        assert {row["error_type"] for row in failed} == {"key_changed"}
        assert all("from (id) to (id, shop)" in row["error"] for row in failed)
        assert all(f"rekey --source {topic}" in row["error"] for row in failed)
        with Checkup(world.endpoints.store_dsn, world.name, Phase.WRITE) as checkup:
            assert checkup.key_changes().keys() == {topic}
        for flags, count in (((), 3), (("--execute",), 0)):
            done = world.command("rekey", "--source", topic, "--json", *flags)
            change = {"old": "id", "new": "id, shop", "documents": 5}
            removed = 5 if flags else 0
            assert json.loads(done.stdout) == {"change": change, "removed": removed, "executed": bool(flags)}
            assert len(world.store("SELECT 1 FROM chunks")) == count
        request_snapshot(world, "blocking", f"public.{world.name}_rekeyed")
        wanted = [({"id": 1, "shop": 7}, "edited"), ({"id": 3, "shop": 7}, "title3")]
        asked = "SELECT source_key, content FROM chunks ORDER BY content"
        world.until(lambda: [(row["source_key"], row["content"]) for row in world.store(asked)] == wanted)
        assert world.store("SELECT 1 FROM failed_documents") == []


@pytest.mark.semantics("TOAST", "placeholder after columns swapped names or were made anew")
def test_columns_that_swap_their_names_give_no_wrong_text_and_an_added_one_changes_nothing(operations: World) -> None:
    world = operations
    table = sql.Identifier(f"{world.name}_swapped")
    texts = {"title": "alpha " * 700, "body": "omega " * 700}
    world.source(sql.SQL("CREATE TABLE {} (id int PRIMARY KEY, title text, body text, n int)").format(table))
    for column in texts:
        world.source(
            sql.SQL("ALTER TABLE {} ALTER COLUMN {} SET STORAGE EXTERNAL").format(table, sql.Identifier(column))
        )
    world.source(sql.SQL("INSERT INTO {} VALUES (1, %s, %s, 1)").format(table), list(texts.values()))
    world.tables = [{"topic": world.topic("swapped"), "text": "{{ title }}", "metadata": ["n"]}]
    world.migrate()

    def shown() -> set[tuple[str, int]]:
        return {
            (row["content"][:5], row["metadata"]["n"]) for row in world.store("SELECT content, metadata FROM chunks")
        }

    with world.consumer():
        world.until(lambda: shown() == {("alpha", 1)})
        world.source(sql.SQL("ALTER TABLE {} ADD COLUMN note text").format(table))
        world.source(sql.SQL("UPDATE {} SET n = 2, note = 'x'").format(table))
        world.until(lambda: shown() == {("alpha", 2)})
        for old, new in (("title", "old"), ("body", "title"), ("old", "body")):
            rename = sql.SQL("ALTER TABLE {} RENAME {} TO {}")
            world.source(rename.format(table, sql.Identifier(old), sql.Identifier(new)))
        world.source(sql.SQL("UPDATE {} SET n = 3").format(table))
        (failed,) = world.until(lambda: world.store("SELECT error_type FROM failed_documents"))
        assert failed["error_type"] == "incomplete"
        assert shown() == {("alpha", 2)}, "the last good vectors stay, and no others came"
        request_snapshot(world, "blocking", f"public.{world.name}_swapped")
        world.until(lambda: shown() == {("omega", 3)})
        world.until(lambda: not world.store("SELECT 1 FROM failed_documents"))


@pytest.mark.semantics(
    "TOAST", "placeholder after a snapshot, whose rows have generated columns and others that the stream never has"
)
def test_a_generated_column_that_only_a_snapshot_has_makes_no_row_incomplete(world: World, stack: Stack) -> None:
    """Of a connector that begins with a snapshot. No publication has a virtual column."""
    name, table = f"{world.name}_searched", sql.Identifier(f"{world.name}_searched")
    columns = "body text, search text GENERATED ALWAYS AS (upper(body)) VIRTUAL, n int"
    world.source(sql.SQL("CREATE TABLE {} (id int PRIMARY KEY, " + columns + ")").format(table))
    world.source(sql.SQL("ALTER TABLE {} ALTER COLUMN body SET STORAGE EXTERNAL").format(table))
    world.source(sql.SQL("INSERT INTO {} (id, body, n) VALUES (1, %s, 1), (2, %s, 1)").format(table), [MANY_WORDS] * 2)
    world.prefix = name
    world.tables = [{"topic": world.topic("searched"), "text": "{{ body }}", "metadata": ["n"]}]
    world.migrate()

    def told(one: int, other: int) -> bool:
        rows = world.store("SELECT DISTINCT source_key->>'id' AS id, metadata->'n' AS n FROM chunks")
        return {row["id"]: row["n"] for row in rows} == {"1": one, "2": other}

    own = {"topic.prefix": name, "slot.name": name, "table.include.list": f"public.{name}"}
    stack.register_connector(name=name, overrides=own)
    try:
        with world.consumer():
            world.until(lambda: told(1, 1))
            events = read_topics(world.endpoints.bootstrap_servers, [world.topic("searched")])
            assert all("search" in (event.after or {}) for event in events)
            until_slot(world.endpoints, name, active=True)
            world.source(sql.SQL("UPDATE {} SET n = 2 WHERE id = 1").format(table))
            world.until(lambda: told(2, 1))
            world.source(sql.SQL("UPDATE {} SET n = 2 WHERE id = 2").format(table))
            world.until(lambda: told(2, 2))
            assert world.store("SELECT 1 FROM failed_documents") == []
    finally:
        end(world.endpoints, name)
