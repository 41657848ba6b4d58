"""From a row of MariaDB to a searchable vector: what holds for Postgres holds here.

What differs: a commit's time has whole seconds, and the order of events is a place in the binary log.
"""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from consumer.local import Stack, resource
from consumer.observe.freshness import FRESH_HEARTBEAT_SECONDS
from tests.command import CommandProcess
from tests.integration.mariadb import DATABASE, MariaDb, throwaway_mariadb
from tests.integration.mariadb_types import COLUMNS, TABLE, insert
from tests.stacks import local_only
from tests.world import World

pytestmark = local_only  # Connect must reach a MariaDB that runs on this machine

PREFIX = f"mariadb{os.getpid()}"
BIGGEST = 18446744073709551615  # what BIGINT UNSIGNED holds
SAME_SECOND = "SET TIMESTAMP = floor(unix_timestamp());"  # for all statements that follow
EXISTING = f"""
CREATE TABLE products (id bigint unsigned PRIMARY KEY, title varchar(99), body text, price decimal(9,2));
INSERT INTO products VALUES (1, 'Lamp', 'Old brass', 9.50), ({BIGGEST}, 'Größe 👩\u200d🚀', NULL, NULL);
{TABLE}
{insert(1)}
INSERT INTO kinds (id) VALUES (2);
"""


class Shop(World):
    """A world whose tables are those of a MariaDB."""

    def topic(self, suffix: str = "products") -> str:
        return f"{self.prefix}.{DATABASE}.{suffix}"

    def texts(self) -> dict[int, str]:
        """What is indexed, by key."""
        return {row["source_key"]["id"]: row["content"] for row in self.store("SELECT source_key, content FROM chunks")}


@pytest.fixture(scope="module")
def server(stack: Stack) -> Iterator[MariaDb]:
    """A MariaDB with rows in it, read by the connector of the connector file."""
    with throwaway_mariadb() as running:
        running.run(EXISTING)
        signals = f"{PREFIX}-signal"
        admin = AdminClient({"bootstrap.servers": stack.endpoints().bootstrap_servers})
        admin.create_topics([NewTopic(signals, 1)])[signals].result(30)
        overrides = {
            **running.connector(),
            "topic.prefix": PREFIX,
            "schema.history.internal.kafka.topic": f"{PREFIX}-history",
            "signal.poll.interval.ms": "100",
            "connect.keep.alive.interval.ms": "1250",
        }
        stack.register_connector(resource("connectors/mariadb-json.json"), name=PREFIX, overrides=overrides)
        try:
            yield running
        finally:
            connector(stack, "DELETE")


@pytest.fixture
def shop(stack: Stack, server: MariaDb, tiny_model: Path, tmp_path: Path) -> Iterator[Shop]:
    made = Shop(stack.endpoints(), tmp_path, str(tiny_model), f"t{os.getpid()}_{tmp_path.name}"[:40], [], prefix=PREFIX)
    made.tables.append({"topic": made.topic(), "text": "{{ title }}\n\n{{ body }}", "metadata": ["price"]})
    try:
        yield made
    finally:
        made.close()


def connector(stack: Stack, method: str, path: str = "", body: object = None) -> Any:
    """One request about the connector."""
    return request(method, f"{stack.endpoints().connect_url}/connectors/{PREFIX}{path}", body)


def request(method: str, url: str, body: object) -> Any:
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=30) as reply:
        return json.loads(reply.read() or b"null")


def request_snapshot(world: World, kind: str, *tables: str) -> None:
    """Ask the connector for an ad-hoc snapshot, as docs/mariadb.md says."""
    data = {"type": kind, "data-collections": list(tables)}
    producer = Producer({"bootstrap.servers": world.endpoints.bootstrap_servers})
    producer.produce(f"{PREFIX}-signal", key=PREFIX, value=json.dumps({"type": "execute-snapshot", "data": data}))
    assert producer.flush(30) == 0


def rewind(world: World, stack: Stack, offsets: Any) -> None:
    """Let the connector deliver again all that came after `offsets`, as one does that lost its place."""
    connector(stack, "PUT", "/stop")
    world.until(lambda: not connector(stack, "GET", "/status")["tasks"])
    connector(stack, "PATCH", "/offsets", offsets)
    connector(stack, "PUT", "/resume")


def outcomes(consumer: CommandProcess) -> dict[tuple[str, str], float]:
    """How many events ended how, by op and outcome."""
    counts = {labels: value for (name, labels), value in consumer.metrics().items() if name == "events_total"}
    return {(op, outcome): value for (op, outcome, _), value in counts.items()}


def test_every_property_of_the_connector_is_known_to_debezium(stack: Stack, server: MariaDb) -> None:
    config = json.loads(resource("connectors/mariadb-json.json").read_text()) | server.connector() | {"name": PREFIX}
    url = f"{stack.endpoints().connect_url}/connector-plugins/{config['connector.class']}/config/validate"
    answer = request("PUT", url, config)
    assert [entry["value"]["errors"] for entry in answer["configs"] if entry["value"]["errors"]] == []
    known = {entry["definition"]["name"] for entry in answer["configs"]}
    # Clients, converters and stores have properties of their own, which are passed on.
    passed_on = "producer.override. key.converter. value.converter. topic.creation. signal.kafka. schema.history."
    unlisted = {"read.only"}  # which Debezium obeys all the same
    assert not [name for name in config.keys() - known - unlisted if not name.startswith(tuple(passed_on.split()))]


@pytest.mark.semantics(
    "operations",
    "MariaDB: snapshot, changes, second delivery",
    "as with PostgreSQL: the row stays right",
)
def test_a_row_stays_right_from_the_snapshot_to_a_second_delivery(shop: Shop, server: MariaDb, stack: Stack) -> None:
    shop.migrate()
    with shop.consumer() as consumer:
        shop.until(lambda: shop.texts() == {1: "Lamp\n\nOld brass", BIGGEST: "Größe 👩\u200d🚀"})
        beginning = connector(stack, "GET", "/offsets")

        server.run("INSERT INTO products VALUES (2, 'Κύπελλο', 'it''s \\\\ \"new\"', 1.00)")
        server.run("UPDATE products SET body = 'New copper' WHERE id = 1")
        shop.until(lambda: shop.texts().items() >= {1: "Lamp\n\nNew copper", 2: 'Κύπελλο\n\nit\'s \\ "new"'}.items())
        vectors = consumer.embedded()
        server.run("UPDATE products SET price = 19.99 WHERE id = 1")
        price = "SELECT 1 FROM chunks WHERE source_key = '{\"id\": 1}' AND metadata->>'price' = '19.99'"
        shop.until(lambda: shop.store(price))
        assert consumer.embedded() == vectors == 4

        server.run(f"UPDATE products SET id = 3 WHERE id = 2; DELETE FROM products WHERE id = {BIGGEST}")
        shop.until(lambda: shop.texts().keys() == {1, 3})
        server.run(f"{SAME_SECOND} TRUNCATE products; INSERT INTO products VALUES (1, 'After', 'all', 0)")
        shop.until(lambda: shop.texts() == {1: "After\n\nall"})

        shop.until(lambda: shop.caught_up("products"))
        stored, ends = shop.store("SELECT * FROM chunks"), shop.end_offsets("products")
        before, vectors = outcomes(consumer), consumer.embedded()
        rewind(shop, stack, beginning)
        again = sum(ends.values()) * 2 - 2  # everything but the two rows of the snapshot
        shop.until(lambda: sum(shop.end_offsets("products").values()) == again and shop.caught_up("products"))
        assert shop.store("SELECT * FROM chunks") == stored
        assert consumer.embedded() == vectors
        did = {what for what, count in outcomes(consumer).items() if count != before.get(what)}
        assert did == {("c", "stale"), ("u", "stale"), ("d", "stale"), ("t", "deleted"), ("tombstone", "ignored")}


@pytest.mark.semantics("values", "every MariaDB type, from snapshot and stream", "one canonical value")
def test_every_type_has_one_value_from_snapshot_and_stream(shop: Shop, server: MariaDb) -> None:
    shop.tables = [{"topic": shop.topic("kinds"), "text": "{{ id }} {{ name }}", "metadata": list(COLUMNS)}]
    shop.migrate()
    server.run(f"{insert(3)} INSERT INTO kinds (id) VALUES (4);")
    with shop.consumer() as consumer:
        shop.until(lambda: shop.texts().keys() == {1, 2, 3, 4})
        rows = {
            row["source_key"]["id"]: row["metadata"] for row in shop.store("SELECT source_key, metadata FROM chunks")
        }
        assert rows[1] == rows[3] == {name: column.value for name, column in COLUMNS.items()}
        defaults = {"nothing": "something", "defaulted": "something"}
        assert rows[2] == rows[4] == {name: defaults.get(name) for name in COLUMNS}

        shop.until(lambda: shop.caught_up("kinds"))
        vectors = consumer.embedded()
        request_snapshot(shop, "incremental", f"{DATABASE}.kinds")
        shop.until(lambda: outcomes(consumer).get(("r", "unchanged")) == 4)
        assert consumer.embedded() == vectors


def test_a_truncate_that_waited_takes_rows_stamped_after_it(shop: Shop, server: MariaDb) -> None:
    """A statement is stamped with the second in which it began, before rows that stand before it in the binary log."""
    shop.migrate()
    with shop.consumer():
        server.run("INSERT INTO products VALUES (50, 'Gone', 'before', NULL)")
        shop.until(lambda: shop.texts().keys() >= {50})
        # What a wait of five seconds for a metadata lock gives, without the wait.
        back = "SET TIMESTAMP = floor(unix_timestamp()) - 5"
        server.run(f"{back}; TRUNCATE products; INSERT INTO products (id, title) VALUES (51, 'Stays')")
        shop.until(lambda: shop.texts().keys() >= {51} and shop.caught_up("products"))
        assert shop.texts() == {51: "Stays"}


def test_freshness_is_never_negative_and_an_idle_server_stays_fresh(shop: Shop, server: MariaDb) -> None:
    shop.migrate()
    beat = "SELECT ts FROM heartbeats WHERE topic_prefix = %s"
    with shop.consumer() as consumer:
        shop.until(lambda: shop.caught_up("products"))
        for number in range(20):
            server.run(f"INSERT INTO products VALUES ({100 + number}, 'Beat', '{number}', NULL)")
        shop.until(lambda: len([text for text in shop.texts().values() if text.startswith("Beat")]) == 20)
        (first,) = shop.until(lambda: shop.store(beat, [PREFIX]))
        shop.until(lambda: shop.store(beat, [PREFIX])[0]["ts"] > first["ts"])  # though nothing happens
        metrics = consumer.metrics()
        source = (shop.topic(),)
        assert metrics["clock_skew_total", ()] == 0
        mean = metrics["freshness_seconds_sum", source] / metrics["freshness_seconds_count", source]
        assert metrics["freshness_seconds_count", source] >= 20
        assert 0 < mean < 60
        assert all(0 <= value < 60 for (name, _), value in metrics.items() if name == "freshness_lag_seconds")
    file = json.loads(resource("connectors/mariadb-json.json").read_text())
    between = 0.8 * int(file["connect.keep.alive.interval.ms"]) / 1000  # how often an idle server tells the connector
    assert between * 3 < FRESH_HEARTBEAT_SECONDS
