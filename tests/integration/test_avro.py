"""Avro by the real converter and registry: as fresh as JSON, and a registry that fails loses nothing."""

from __future__ import annotations

import io
import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import fastavro
import pytest
from confluent_kafka import Consumer
from psycopg import sql

from consumer.events import Record
from consumer.local import Stack
from consumer.observe import Metrics
from consumer.operations.telemetry import Telemetry
from consumer.operations.wiring import build_tables, load_model, open_broker, open_store, vector_space
from consumer.pipeline import Pipeline
from consumer.planning import Batch, Planner
from consumer.settings import load_settings
from consumer.source import Access, Reader, SchemaRegistry
from tests.command import CommandProcess
from tests.envelopes import key, row
from tests.registry_standin import StandInRegistry
from tests.world import World

pytestmark = pytest.mark.stack


@pytest.fixture
def avro(avro_stack: Stack, tiny_model: Path, tmp_path: Path) -> Iterator[World]:
    """A world on the stack whose connector writes Avro."""
    world = World.create(avro_stack.endpoints(), tmp_path, model=str(tiny_model))
    world.settings(registry={"url": world.endpoints.registry_url})
    try:
        yield world
    finally:
        world.close()


def chunks(world: World) -> dict[int, tuple[str, Any]]:
    """Text and metadata of every row's one chunk."""
    found = world.store("SELECT source_key, content, metadata FROM chunks")
    return {chunk["source_key"]["id"]: (chunk["content"], chunk["metadata"]) for chunk in found}


def waits(consumer: CommandProcess) -> list[dict[str, Any]]:
    return [line for line in consumer.lines() if line["level"] == "warning" and "registry" in line["event"]]


def tries(consumer: CommandProcess) -> float:
    """How often this process has asked the registry in vain."""
    return consumer.metrics().get(("errors_total", ("registrywait", "decode")), 0)


def first_record(world: World) -> tuple[bytes, bytes]:
    """Key and value of the first record in the table's topic."""
    reader = Consumer(
        {
            "bootstrap.servers": world.endpoints.bootstrap_servers,
            "group.id": f"{world.name}-first",
            "auto.offset.reset": "earliest",
        }
    )
    try:
        reader.subscribe([world.topic()])
        message = world.until(lambda: reader.poll(0.2))
        assert message is not None
        assert message.error() is None
        return message.key() or b"", message.value() or b""
    finally:
        reader.close()


@pytest.mark.semantics("wire forms", "Avro by a registry", "decoded by the writer's schema of each record")
def test_insert_edit_and_delete_reach_the_view(avro: World) -> None:
    avro.migrate()
    insert = "INSERT INTO {} (id, title, body, category, price) VALUES (1, 'Lamp', 'Old brass', 'home', 9.50)"
    avro.source(sql.SQL(insert).format(avro.table()))
    with avro.consumer() as consumer:
        assert avro.until(lambda: chunks(avro)) == {1: ("Lamp\n\nOld brass", {"category": "home", "price": "9.50"})}
        written, value = first_record(avro)
        assert json.loads(written) == {"id": 1}
        assert value[:2] == b"\0\0", "the value is framed Avro"

        avro.source(sql.SQL("UPDATE {} SET body = 'New copper'").format(avro.table()))
        avro.until(lambda: chunks(avro).get(1, ("", 0))[0].endswith("copper"))
        avro.source(sql.SQL("DELETE FROM {}").format(avro.table()))
        avro.until(lambda: not chunks(avro))
        assert avro.until(lambda: avro.store("SELECT * FROM heartbeats")), "heartbeats are Avro too"
        assert waits(consumer) == []
    assert [state["state"] for state in avro.store("SELECT state FROM documents")] == ["deleted"]


@pytest.mark.semantics(
    "wire forms",
    "columns added, dropped, renamed or retyped mid-stream",
    "every record is read by the schema it was written with",
)
def test_columns_come_go_and_change_between_two_events(avro: World) -> None:
    """Every record is read with the schema it was written with, in one batch and one by one."""
    avro.tables = avro.tables[:1]
    avro.tables[0] |= {"text": "{{ title }} {{ body }}", "metadata": ["price"], "when": None}
    avro.migrate()
    changes = [
        "ALTER TABLE {} ADD COLUMN colour text DEFAULT 'red'",
        "ALTER TABLE {} DROP COLUMN category",
        "ALTER TABLE {} RENAME COLUMN status TO state",
        "ALTER TABLE {} ALTER COLUMN price TYPE int",
        'ALTER TABLE {} ADD COLUMN "two words" int',
    ]
    consumer: CommandProcess | None = None
    for number, change in enumerate(["", *changes]):
        if change:
            avro.source(sql.SQL(change).format(avro.table()))
        values = sql.SQL("INSERT INTO {} (id, title, body, price) VALUES (%s, %s, 'same', 3)").format(avro.table())
        avro.source(values, [number, f"row {number}"])
        if number == 2:  # what comes after it is applied as it comes
            consumer = avro.start()
    assert consumer is not None
    expected = {n: (f"row {n} same", {"price": "3.00" if n < 4 else 3}) for n in range(len(changes) + 1)}
    avro.until(lambda: len(chunks(avro)) == len(expected))
    assert chunks(avro) == expected
    assert avro.store("SELECT * FROM failed_documents") == []
    assert consumer.stop() == 0


@pytest.mark.semantics(
    "values",
    "NULL of a column with a default",
    "null in JSON, by our connector files; Apicurio's Avro converter writes the default in its place",
)
def test_apicurios_converter_writes_a_default_in_place_of_null(avro: World) -> None:
    """Nobody behind it can tell: docs/values.md says what to do."""
    avro.tables = avro.tables[:1]
    avro.tables[0] |= {"text": "{{ title }} {{ colour }}", "metadata": [], "when": None}
    avro.source(sql.SQL("ALTER TABLE {} ADD COLUMN colour text DEFAULT 'red'").format(avro.table()))
    insert = "INSERT INTO {} (id, title, colour) VALUES (1, 'Lamp', NULL), (2, 'Vase', 'blue')"
    avro.source(sql.SQL(insert).format(avro.table()))
    avro.migrate()
    with avro.consumer():
        avro.until(lambda: len(chunks(avro)) == 2)
    assert {number: text for number, (text, _) in chunks(avro).items()} == {1: "Lamp red", 2: "Vase blue"}


class Writer:
    """Writes envelopes as Avro by hand; each one's schema has another name, so that its id is its own."""

    def __init__(self, world: World) -> None:
        self.world, self._count = world, 0

    def schema(self) -> dict[str, Any]:
        """A schema that nobody has registered."""
        self._count += 1
        columns = [
            {"name": "id", "type": "int"},
            *({"name": name, "type": "string"} for name in row(0) if name != "id"),
        ]
        after = {"type": "record", "name": "Value", "fields": columns}
        source = [{"name": "ts_us", "type": "long"}, {"name": "sequence", "type": ["null", "string"]}]
        return {
            "type": "record",
            "name": "Envelope",
            "namespace": f"{self.world.name}.n{self._count}",
            "fields": [
                {"name": "op", "type": "string"},
                {"name": "before", "type": ["null", after]},
                {"name": "after", "type": ["null", "Value"]},
                {"name": "source", "type": {"type": "record", "name": "Source", "fields": source}},
                {"name": "ts_ms", "type": ["null", "long"]},
            ],
        }

    def register(self, schema: dict[str, Any]) -> int:
        """Give it to the registry; its id is the next free one."""
        request = urllib.request.Request(
            f"{self.world.endpoints.registry_url}/subjects/{schema['namespace']}/versions",
            json.dumps({"schema": json.dumps(schema)}).encode(),
            {"Content-Type": "application/vnd.schemaregistry.v1+json"},
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as reply:
            return int(json.loads(reply.read())["id"])

    def record(self, number: int, schema: dict[str, Any], schema_id: int) -> tuple[bytes, bytes]:
        """The insert of a row, written with `schema` and saying that it was written with `schema_id`."""
        now_us = time.time_ns() // 1000
        source = {"ts_us": now_us, "sequence": None}
        value = {"op": "c", "before": None, "after": row(number), "source": source, "ts_ms": now_us // 1000}
        body = io.BytesIO()
        fastavro.schemaless_writer(body, fastavro.parse_schema(schema), value)
        return key(number), b"\0" + schema_id.to_bytes(4, "big") + body.getvalue()


@pytest.fixture
def writer(avro: World) -> Writer:
    """A migrated world with one table, whose topic is written by hand; no heartbeats of a connector come between."""
    avro.prefix = "byhand"
    avro.tables = [avro.tables[0] | {"topic": avro.topic()}]
    avro.migrate()
    avro.create_topic()
    return Writer(avro)


@pytest.mark.semantics("faults", "registry away", "waited for; nothing is lost, the member stays in its group")
def test_the_registry_stops_and_comes_back(avro: World, writer: Writer, avro_stack: Stack) -> None:
    """What is known goes on, what is not waits: nothing is lost, and the member stays in its group."""
    known, other = writer.schema(), writer.schema()
    first, second = writer.register(known), writer.register(other)
    avro.produce(writer.record(1, known, first))
    avro.short_sessions()
    avro.overrides["kafka"]["properties"]["max.poll.interval.ms"] = 6000
    with avro.consumer() as consumer:
        avro.until(lambda: set(chunks(avro)) == {1})
        avro_stack.kill("registry")
        try:
            avro.produce(writer.record(2, known, first))
            avro.until(lambda: set(chunks(avro)) == {1, 2})
            assert waits(consumer) == []
            avro.produce(writer.record(3, other, second), writer.record(4, known, first))
            # Six tries take longer than a member is missed that does not poll.
            avro.until(lambda: tries(consumer) >= 6)
            assert "does not answer" in waits(consumer)[0]["event"]
            assert len(waits(consumer)) <= 2
            assert open_broker(load_settings(avro.settings()).settings).members(avro.name) == 1
            assert set(chunks(avro)) == {1, 2}
        finally:
            avro_stack.up()
        avro.until(lambda: set(chunks(avro)) == {1, 2, 3, 4})
        assert "Traceback" not in consumer.output()
    assert {row["epoch"] for row in avro.store("SELECT epoch FROM offsets")} == {1}, "it was never reassigned"
    assert avro.store("SELECT * FROM failed_documents") == []


@pytest.fixture
def numbered(avro: World) -> Iterator[StandInRegistry]:
    """A registry whose next id is known, for the connector registers nothing in between."""
    with StandInRegistry() as registry:
        avro.settings(registry={"url": registry.url})
        yield registry


def test_an_id_that_is_registered_late_is_applied_as_any_other(
    avro: World, writer: Writer, numbered: StandInRegistry
) -> None:
    late = writer.schema()
    with avro.consumer() as consumer:
        avro.produce(writer.record(1, late, 1))
        avro.until(lambda: waits(consumer))
        assert "does not know the schema id 1 (yet)" in waits(consumer)[0]["event"]
        assert numbered.register("late", json.dumps(late)) == 1
        avro.until(lambda: set(chunks(avro)) == {1})
    assert avro.store("SELECT * FROM failed_documents") == []


@pytest.mark.semantics(
    "wire forms",
    "schema id that the registry does not know",
    "waited for up to a minute, then the document fails alone and is tried again later",
)
def test_an_id_unknown_for_too_long_fails_its_document_alone(
    avro: World, writer: Writer, numbered: StandInRegistry
) -> None:
    known, lost = writer.schema(), writer.schema()
    number = numbered.register("known", json.dumps(known))
    avro.produce(writer.record(1, known, number), writer.record(2, lost, number + 1), writer.record(3, known, number))
    settings = load_settings(avro.settings()).settings
    broker, engine = open_broker(settings), load_model(settings)
    tables = build_tables(settings, engine)
    registry = SchemaRegistry(Access(settings.registry.url), unknown_seconds=0.5)
    with open_store(settings) as store, Reader(broker, lambda *_, **__: None) as reader:
        generation = store.live_generation(vector_space(settings, engine))
        pipeline = Pipeline(
            Planner(tables.values(), generation.number, engine.tokenizer), engine, store, registry,
            Telemetry(Metrics(60), tables), Event(), generation=generation, tables=tables,
            group=settings.group, max_events=1000, max_seconds=1.0,
        )  # fmt: skip
        records = [reader.read_one(avro.topic(), 0, offset) for offset in range(3)]
        batch = [record for record in records if isinstance(record, Record)]
        pipeline.process([Batch(tuple(batch), {})])
        assert set(chunks(avro)) == {1, 3}
        (failed,) = avro.store("SELECT * FROM failed_documents")
        assert (failed["stage"], failed["error_type"], failed["source_key"]) == ("decode", "schema_unknown", {"id": 2})
        assert failed["state"] == "retrying"
        assert f"id {number + 1}," in failed["error"]

        assert numbered.register("lost", json.dumps(lost)) == number + 1
        pipeline.reapply(batch[1:2])
        assert set(chunks(avro)) == {1, 2, 3}
    assert avro.store("SELECT * FROM failed_documents") == []
