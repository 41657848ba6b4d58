"""Search with provenance, and the status screen: through the real command."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from tests.tiny_model import make_tiny_model
from tests.world import World

pytestmark = pytest.mark.stack


def insert(world: World, number: int, title: str, suffix: str = "a") -> None:
    statement = sql.SQL("INSERT INTO {} VALUES (%s, %s, 'body', 'home', 9.5)").format(world.table(suffix))
    world.source(statement, [number, title])


def status(world: World, code: int = 0) -> dict[str, Any]:
    done = world.command("status", "--json")
    assert done.returncode == code, done.stderr
    if code:
        world.processes.pop()  # it has not died, it said so
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def fresh_and_told(world: World) -> dict[str, Any]:
    """The status once everything is applied and the broker has heard of it, which nobody waits for; else nothing."""
    seen = status(world)
    told = all(row["stored"] == row["end"] == row["committed"] for row in seen["partitions"])
    return seen if told and seen["verdict"] == "fresh" else {}


def test_search_finds_and_tells_where_it_came_from(world: World) -> None:
    world.migrate()
    empty = world.command("search", "anything")
    assert (empty.returncode, empty.stdout) == (0, "")
    assert "No results" in empty.stderr
    insert(world, 1, "brass lamp")
    insert(world, 2, "garden shears")
    insert(world, 1, "brass lamp", suffix="b")
    with world.consumer():
        world.until(lambda: len(world.store("SELECT 1 FROM chunks")) == 3)
    done = world.command("search", "brass lamp\n\nbody", "--top-k", "2", "--json", "--source", world.topic())
    assert done.returncode == 0, done.stderr
    hits = json.loads(done.stdout)
    assert [hit["rank"] for hit in hits] == [1, 2]
    assert {hit["source"] for hit in hits} == {world.topic()}
    best = hits[0]
    assert (best["source_key"], best["content"]) == ({"id": 1}, "brass lamp\n\nbody")
    assert best["score"] == pytest.approx(1.0, abs=1e-4)
    assert best["score"] > hits[1]["score"]
    assert best["metadata"] == {"category": "home", "price": "9.50"}
    (document,) = world.store(
        "SELECT * FROM documents WHERE source = %s AND source_key = '{\"id\": 1}'", [world.topic()]
    )
    assert (best["kafka_topic"], best["kafka_partition"], best["kafka_offset"]) == (
        world.topic(), document["kafka_partition"], document["kafka_offset"],
    )  # fmt: skip
    assert best["model"] == Path(world.model).name

    text = world.command("search", "brass lamp", "--top-k", "3").stdout
    assert text.count("score ") == 3
    assert f"from {world.topic()}[{document['kafka_partition']}]@{document['kafka_offset']}" in text


def test_search_refuses_what_it_cannot_answer(world: World, tmp_path: Path) -> None:
    unmigrated = world.command("search", "anything")
    assert unmigrated.returncode == 4
    assert "migrate" in unmigrated.stderr
    world.processes.clear()
    world.migrate()
    world.model = str(make_tiny_model(tmp_path / "other", seed=5))
    other = world.command("search", "anything")
    assert other.returncode == 4
    assert "other settings" in other.stderr
    assert world.command("search", "  ").returncode == 2


def test_status_tells_fresh_from_behind_and_where_it_waits(world: World) -> None:
    world.settings(slo={"objective": 0.9, "threshold_seconds": 30})
    world.migrate()
    insert(world, 1, "one")
    world.source(sql.SQL("INSERT INTO {} VALUES (2, 'gone', '', '', 1)").format(world.table()))
    world.source(sql.SQL("DELETE FROM {} WHERE id = 2").format(world.table()))
    insert(world, 1, "one", suffix="b")
    with world.consumer():
        world.until(lambda: len(world.store("SELECT 1 FROM documents")) == 3)
        world.until(lambda: world.store("SELECT 1 FROM heartbeats"))
        fresh = world.until(lambda: fresh_and_told(world))
    assert fresh["members"] == 1
    assert fresh["lag_seconds"] == 0
    documents = {row["source"]: (row["embedded"], row["deleted"], row["failed"]) for row in fresh["sources"]}
    assert documents == {world.topic("a"): (1, 1, 0), world.topic("b"): (1, 0, 0)}
    assert fresh["index"]["state"] in ("missing", "building", "ready")

    insert(world, 3, "waits")
    behind = world.until(lambda: (seen := status(world))["lag_seconds"] and seen)
    (waiting,) = (row for row in behind["partitions"] if row["lag"])
    assert waiting["lag"] == 1
    assert 0 < waiting["lag_seconds"] < 60
    assert behind["members"] == 0

    text = world.command("status").stdout
    assert world.topic() in text
    assert "objective 30 s" in text


def test_status_is_read_again_until_it_is_interrupted(world: World) -> None:
    world.migrate()
    insert(world, 1, "one")
    watching = world.spawn("status", "--watch", "--json")
    world.until(lambda: watching.out.read_text(encoding="utf-8").count("\n") >= 2)
    watching.signal(signal.SIGINT)
    assert watching.wait() == 130
    readings = [json.loads(line) for line in watching.out.read_text(encoding="utf-8").splitlines()[:2]]
    assert readings[0].keys() == readings[1].keys() == status(world).keys()
    assert readings[0]["taken_us"] < readings[1]["taken_us"]
    world.processes.remove(watching)  # it has not died, it was asked to end


def test_status_shows_what_is_known_when_a_dependency_is_down(world: World) -> None:
    world.migrate()
    insert(world, 1, "one")
    with world.consumer():
        world.until(lambda: world.store("SELECT 1 FROM documents"))
    world.settings(kafka={"bootstrap_servers": "127.0.0.1:1"})
    blind = status(world, code=3)
    assert blind["verdict"] == "unknown"
    assert [row["embedded"] for row in blind["sources"] if row["source"] == world.topic()] == [1]
    assert blind["stored"]
    assert any("Kafka" in problem for problem in blind["problems"])

    kafka = {"bootstrap_servers": world.endpoints.bootstrap_servers}
    world.settings(kafka=kafka, store={"dsn": "postgresql://nobody@127.0.0.1:1/none", "schema": world.name})
    half = status(world, code=3)
    assert half["verdict"] == "unknown"
    assert any("Postgres" in problem for problem in half["problems"])
    assert [row["end"] for row in half["partitions"] if row["topic"] == world.topic() and row["end"]] == [1]
