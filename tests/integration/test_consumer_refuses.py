"""Where going on would be wrong, the consumer ends with a code and says in words what resolves it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.envelopes import change, row, tombstone
from tests.tiny_model import make_tiny_model
from tests.world import World

HALTED, UNREACHABLE, USAGE = 4, 3, 2


def loaded(world: World) -> None:
    """A world whose one topic, made by hand, has been applied."""
    world.tables = world.tables[:1]
    world.create_topic()
    world.produce(*(change(row(number), "c") for number in range(10)))
    world.migrate()
    with world.consumer():
        world.until(lambda: world.caught_up("a"))


def state(world: World) -> list[object]:
    return [world.store(f"SELECT * FROM {name}") for name in ("documents", "chunks", "offsets")]


@pytest.fixture
def nobody() -> Iterator[str]:
    """host:port that nothing listens on, and nothing will."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize("records", [0, 30])
@pytest.mark.semantics("order", "topic deleted and made anew", "the process stops (exit 4) and names `offsets reset`")
def test_a_topic_made_anew(world: World, records: int) -> None:
    """However many records it holds: none of its offsets mean what they meant."""
    loaded(world)
    before = state(world)
    world.delete_topic()
    world.create_topic()
    world.produce(*(change(row(number), "c") for number in range(100, 100 + records)))
    done = world.command("--group", world.name)
    assert done.returncode == HALTED, done.stderr
    assert f"offsets reset --topic {world.topic()}" in done.stderr
    assert "created again" in done.stderr
    assert "Traceback" not in done.stderr
    assert state(world) == before


@pytest.mark.semantics("order", "topic deleted and made anew")
def test_a_topic_made_anew_under_a_running_consumer(world: World) -> None:
    """The new topic grows beyond the old one's offset at once: the client would read on there, as if in the old one."""
    loaded(world)
    consumer = world.start()
    world.until(lambda: consumer.lines("ready to join"))
    world.until(lambda: any(world.topic() in labels for _, labels in consumer.metrics()))
    world.delete_topic()
    world.create_topic()
    world.produce(*(change(row(number), "c") for number in range(100, 130)))
    assert consumer.wait(60) == HALTED
    assert f"offsets reset --topic {world.topic()}" in consumer.output()
    assert "Traceback" not in consumer.output()
    world.processes.remove(consumer)

    # What the message names resolves it: nothing of the new topic is missing afterwards.
    done = world.command("offsets", "reset", "--topic", world.topic(), "--to", "beginning", "--execute")
    assert done.returncode == 0, done.stderr
    with world.consumer():
        world.until(lambda: world.caught_up("a"))
    stored = {chunk["source_key"]["id"] for chunk in world.store("SELECT source_key FROM chunks")}
    assert stored == {*range(10), *range(100, 130)}


@pytest.mark.semantics(
    "order",
    "offset out of range: events expired before they were applied",
    "the process stops (exit 4) and names `offsets reset`",
)
def test_events_that_expired_before_they_were_applied(world: World) -> None:
    loaded(world)
    world.produce(*(tombstone(number) for number in range(10)))
    world.delete_records(15)
    done = world.command("--group", world.name)
    assert done.returncode == HALTED, done.stderr
    assert f"offsets reset --topic {world.topic()}" in done.stderr
    assert len(world.store("SELECT 1 FROM chunks")) == 10


@pytest.mark.semantics(
    "faults",
    "another model, prompt or group than the stored vectors'",
    "refused (exit 4), naming what differs",
)
def test_another_group_model_or_prompt(world: World, tmp_path: Path) -> None:
    loaded(world)
    world.produce(tombstone(1))
    before = state(world)

    done = world.command("--group", "another")
    assert done.returncode == HALTED, done.stderr
    assert f"--group {world.name}" in done.stderr
    assert "loading the model" not in done.stderr, "that is told before the seconds that this takes"

    own = world.model
    world.model = str(make_tiny_model(tmp_path / "other" / "tiny", seed=1))
    done = world.command("--group", world.name)
    assert done.returncode == HALTED, done.stderr
    assert "weights_sha256" in done.stderr
    assert "pooling" not in done.stderr, "that is the same"
    assert "store.schema" in done.stderr

    world.settings(embedding={"model": own, "document_prompt": "passage: "})
    done = world.command("--group", world.name)
    assert done.returncode == HALTED, done.stderr
    assert "document_prompt" in done.stderr
    assert "weights_sha256" not in done.stderr, "those are the same"
    assert state(world) == before


def told(stderr: str) -> list[str]:
    """The sentences for the person, without the lines of the log."""
    return [line for line in stderr.splitlines() if not line.startswith("{")]


def test_a_schema_that_is_not_migrated(world: World) -> None:
    done = world.command("--group", world.name)
    assert done.returncode == HALTED, done.stderr
    assert "embed-consumer migrate" in done.stderr


def test_a_model_that_is_not_there(world: World) -> None:
    world.migrate()
    world.model = str(world.folder / "nothing")
    done = world.command("--group", world.name)
    assert done.returncode == USAGE, done.stderr
    assert "Traceback" not in done.stderr


def test_no_wait_for_kafka(world: World, nobody: str) -> None:
    world.migrate()
    world.settings(kafka={"bootstrap_servers": nobody})
    done = world.command("--group", world.name, "--no-wait")
    assert done.returncode == UNREACHABLE, done.stderr
    what, why, do = told(done.stderr)
    assert nobody in what
    assert why
    assert "kafka.bootstrap_servers" in do


def test_no_wait_for_postgres(world: World, nobody: str) -> None:
    dsn = f"postgresql://embedder:hidden-word@{nobody}/vectors"
    world.settings(store={"dsn": dsn, "schema": world.name})
    done = world.command("--group", world.name, "--no-wait")
    assert done.returncode == UNREACHABLE, done.stderr
    what, why, do = told(done.stderr)
    assert nobody in what
    assert why
    assert "store.dsn" in do
    assert "hidden-word" not in done.stderr
    assert "loading the model" not in done.stderr, "what is missing is told before the seconds that this takes"


def test_no_wait_for_the_registry_of_a_table_in_avro(world: World, nobody: str) -> None:
    world.migrate()
    world.tables[0]["format"] = "avro"
    world.settings(registry={"url": f"http://{nobody}"})
    done = world.command("--group", world.name, "--no-wait")
    assert done.returncode == UNREACHABLE, done.stderr
    what, why, do = told(done.stderr)
    assert nobody in what
    assert why
    assert "registry.url" in do


@pytest.mark.parametrize("properties", [{"nonsense": 1}, {"session.timeout.ms": "hidden-word"}])
def test_kafka_properties_that_the_client_refuses(world: World, properties: dict[str, Any]) -> None:
    world.migrate()
    kafka = {"bootstrap_servers": world.endpoints.bootstrap_servers, "properties": properties}
    world.settings(kafka=kafka)
    done = world.command("--group", world.name)
    assert done.returncode == USAGE, done.stderr
    assert next(iter(properties)) in done.stderr
    assert "kafka.properties" in done.stderr
    assert "hidden-word" not in done.stderr


def test_status_of_another_group_says_what_stopped_it(world: World) -> None:
    world.migrate()
    world.create_topic()
    with world.consumer() as consumer:
        world.until(lambda: consumer.lines("ready to join") and world.store("SELECT 1 FROM offsets"))
    done = world.command("--group", "another", "status")
    world.processes.clear()  # it has not died, it refused
    assert done.returncode == HALTED, done.stdout + done.stderr


def test_a_password_that_is_wrong(world: World) -> None:
    user, _, rest = world.endpoints.store_dsn.rpartition("@")
    dsn = f"{user.rpartition(':')[0]}:hidden-word@{rest}"
    world.settings(store={"dsn": dsn, "schema": world.name})
    done = world.command("--group", world.name)
    assert done.returncode == UNREACHABLE, done.stderr
    assert "refuses the login" in done.stderr
    assert "hidden-word" not in done.stderr
