"""Failed documents: listed by reason without content, retried, superseded, forgotten, expired."""

from __future__ import annotations

import json
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from tests.world import World

pytestmark = pytest.mark.stack
SECRET = "nobody may read this"


def event(number: int, count: int, title: str = SECRET) -> tuple[bytes, bytes]:
    """A record as the connector writes it, of a table whose text divides by `count`."""
    value = {"op": "c", "after": {"id": number, "title": title, "count": count}, "source": {"ts_us": number}}
    return json.dumps({"id": number}).encode(), json.dumps(value).encode()


@pytest.fixture
def divided(world: World) -> World:
    """A migrated world with one table by hand, whose template fails for a count of 0."""
    world.tables[:] = [{"topic": world.topic(), "text": "{{ title }} {{ 10 // count }}", "metadata": ["count"]}]
    world.migrate()
    world.create_topic()
    return world


def failed(world: World, *arguments: str) -> dict[str, Any]:
    done = world.command("failed", "list", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def by_type(world: World, *arguments: str) -> dict[str, dict[str, Any]]:
    return {row["error_type"]: row for row in failed(world, *arguments)["documents"]}


def rows(world: World) -> dict[str, dict[str, Any]]:
    return {row["error_type"]: row for row in world.store("SELECT * FROM failed_documents")}


def test_reasons_are_listed_and_a_newer_event_supersedes(divided: World) -> None:
    world = divided
    world.produce((b"no json", b"{}"), (b'{"id": 1}', b"no json"), event(2, 0), event(3, 1, "fine"))
    with world.consumer():
        world.until(lambda: len(rows(world)) == 3 and world.store("SELECT 1 FROM chunks"))
        listed = failed(world)
        assert {(r["stage"], r["error_type"], r["documents"]) for r in listed["reasons"]} == {
            ("decode", "key_undecodable", 1), ("decode", "value_undecodable", 1), ("render", "template_error", 1),
        }  # fmt: skip
        keys = {row["error_type"]: row["source_key"] for row in listed["documents"]}
        assert keys == {"key_undecodable": None, "value_undecodable": {"id": 1}, "template_error": {"id": 2}}
        assert {row["attempts"] for row in listed["documents"]} == {1}
        shown = world.command("failed", "list")
        assert "template_error" in shown.stdout
        assert SECRET not in shown.stdout

        world.produce(event(1, 2, "healed"), event(2, 5, "healed"))
        world.until(lambda: set(rows(world)) == {"key_undecodable"})
    assert {row["content"] for row in world.store("SELECT content FROM chunks")} == {"fine 10", "healed 5", "healed 2"}


def test_retry_renders_again_what_settings_have_healed(divided: World) -> None:
    world = divided
    world.produce(event(1, 0), event(2, 0), (b'{"id": 3}', b"no json"))
    with world.consumer():
        world.until(lambda: len(world.store("SELECT 1 FROM failed_documents")) == 3)
    world.tables[0]["text"] = "{{ title }} {{ count }}"
    done = world.command("failed", "retry", "--source", world.topic())
    assert done.stdout == "Failed documents that are due now: 3.\n"
    with world.consumer():
        world.until(lambda: set(rows(world)) == {"value_undecodable"})
        world.until(lambda: rows(world)["value_undecodable"]["attempts"] == 2)
    assert len(world.store("SELECT 1 FROM chunks")) == 2
    (left,) = failed(world)["documents"]
    assert left["state"] == "retrying"
    assert left["error_type"] == "value_undecodable"


def test_an_event_that_can_be_decoded_by_now_is_applied_and_leaves(divided: World) -> None:
    world = divided
    world.produce(event(1, 1, "known"))
    with world.consumer():
        world.until(lambda: world.store("SELECT 1 FROM chunks"))
        world.store(  # as a version that could not read this key would have left it
            """
            INSERT INTO failed_documents (source, kafka_topic, kafka_partition, kafka_offset, stage, error_type, error,
                                          state, next_attempt_at)
            VALUES (%(topic)s, %(topic)s, 0, 0, 'decode', 'key_undecodable', '-', 'retrying', now())
            """,
            {"topic": world.topic()},
        )
        world.until(lambda: not rows(world))
    assert [row["version"] for row in world.store("SELECT version FROM documents")] == [1]


@pytest.mark.semantics("faults", "failed document whose record has expired", "`record_expired`")
def test_a_record_that_expired_says_so_and_dies_by_the_schedule(divided: World) -> None:
    world = divided
    world.produce((b"no json", b"{}"), (b'{"id": 1}', b"no json"), event(2, 1, "fine"))
    with world.consumer():
        world.until(lambda: len(rows(world)) == 2 and world.store("SELECT 1 FROM chunks"))
    admin = AdminClient({"bootstrap.servers": world.endpoints.bootstrap_servers})
    for future in admin.delete_records([TopicPartition(world.topic(), 0, 2)]).values():
        future.result()
    world.store("UPDATE failed_documents SET attempts = 4, next_attempt_at = now()")
    with world.consumer():
        world.until(lambda: {row["error_type"] for row in world.store("TABLE failed_documents")} == {"record_expired"})
    dead = failed(world, "--state", "dead")["documents"]
    assert [(row["stage"], row["attempts"]) for row in dead] == [("read", 5), ("read", 5)]
    assert all("not in the topic any more" in row["error"] for row in dead)


def test_discard_plans_first_and_forgets_only_what_it_was_told(divided: World) -> None:
    world = divided
    world.produce((b"no json", b"{}"), event(1, 0), event(2, 0))
    with world.consumer():
        world.until(lambda: len(world.store("SELECT 1 FROM failed_documents")) == 3)
    number = str(by_type(world)["key_undecodable"]["id"])
    planned = world.command("failed", "discard", "--id", number)
    assert "key_undecodable" in planned.stdout
    assert len(world.store("SELECT 1 FROM failed_documents")) == 3
    assert world.command("failed", "discard", "--id", number, "--execute").returncode == 0
    assert set(by_type(world)) == {"template_error"}
    assert world.command("failed", "discard", "--all", "--execute").returncode == 0
    assert failed(world) == {"reasons": [], "documents": [], "total": 0}
    for act in (("retry",), ("discard",), ("discard", "--execute")):
        unknown = world.command("failed", act[0], "--id", number, *act[1:])
        assert (unknown.returncode, unknown.stdout) == (1, "")
        assert f"no failed document with the id {number}" in unknown.stderr
        world.processes.pop()  # it has not died, it said so
    refused = world.command("failed", "discard", "--all", "--id", "1")
    assert refused.returncode == 2
    assert "exactly one" in refused.stderr


def test_counts_are_of_all_that_is_chosen_and_alike_in_every_answer(divided: World) -> None:
    world = divided
    world.produce((b"no json", b"{}"), event(1, 0), event(2, 0))
    with world.consumer():
        world.until(lambda: len(rows(world)) == 2 and len(world.store("SELECT 1 FROM failed_documents")) == 3)
    listed = failed(world, "--limit", "1")
    assert (listed["total"], len(listed["documents"])) == (3, 1)
    assert [(reason["error_type"], reason["documents"]) for reason in listed["reasons"]] == [
        ("template_error", 2), ("key_undecodable", 1),
    ]  # fmt: skip
    shown = world.command("failed", "list", "--limit", "1")
    assert "2 more" in shown.stderr
    for act, executed in ((("retry",), True), (("discard",), False), (("discard", "--execute"), True)):
        done = world.command("failed", *act, "--all", "--json")
        assert json.loads(done.stdout) == {"reasons": listed["reasons"], "total": 3, "executed": executed}
    assert world.store("SELECT 1 FROM failed_documents") == []


def test_a_source_that_nobody_knows_is_told_from_one_without_failures(divided: World) -> None:
    world = divided
    for act in ("list", "retry", "discard"):
        known = world.command("failed", act, "--source", world.topic())
        assert known.returncode == 0, known.stderr
        unknown = world.command("failed", act, "--source", world.topic()[:-1])
        assert (unknown.returncode, unknown.stdout) == (2, "")
        assert f"The nearest one is {world.topic()}." in unknown.stderr
        world.processes.pop()  # it has not died, it said so
