"""Offsets for a person: shown, moved only while nobody reads, and onto a topic that was made anew."""

from __future__ import annotations

import json
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from tests.world import World

pytestmark = pytest.mark.stack


def event(number: int, title: str) -> tuple[bytes, bytes]:
    """A record as the connector writes it."""
    row = {"id": number, "title": title, "body": "b", "category": "c", "price": "1.00", "status": "published"}
    value = {"op": "c", "after": row, "source": {"ts_us": 1_700_000_000_000_000 + number}, "ts_us": 1}
    return json.dumps({"id": number}).encode(), json.dumps(value).encode()


def shown(world: World) -> dict[str, Any]:
    done = world.command("offsets", "show", "--json")
    assert done.returncode == 0, done.stderr
    (row,) = (row for row in json.loads(done.stdout) if row["topic"] == world.topic())
    return dict(row)


def reset(world: World, to: str, *arguments: str, code: int = 0) -> tuple[list[dict[str, Any]], str]:
    done = world.command("offsets", "reset", "--topic", world.topic(), "--to", to, "--json", *arguments)
    assert done.returncode == code, done.stderr
    if code:
        world.processes.pop()  # it has not died, it refused
        return [], done.stderr
    return json.loads(done.stdout.splitlines()[-1])["moves"], done.stderr


def made_again(world: World) -> bool:
    """Whether the topic could be created; not before the broker has forgotten the old one."""
    try:
        world.create_topic()
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise
        return False
    return True


def titles(world: World) -> set[str]:
    return {row["content"].split()[0] for row in world.store("SELECT content FROM chunks")}


def test_refused_while_live_then_skips_and_replay_brings_back_what_was_skipped(world: World) -> None:
    world.short_sessions()
    world.migrate()
    world.create_topic()
    world.produce(*(event(number, f"first{number}") for number in range(3)))
    with world.consumer():
        world.until(lambda: len(titles(world)) == 3)
        _, why = reset(world, "beginning", "--execute", code=4)
        assert "live member" in why
    world.produce(*(event(number, f"second{number}") for number in range(10, 14)))

    (move,), _ = reset(world, "end")
    assert (move["stored"], move["to"]) == (3, 7)
    assert "skips 4" in move["consequence"]
    assert shown(world)["stored"] == 3  # a plan changes nothing
    reset(world, "end", "--execute")
    after = shown(world)
    assert (after["stored"], after["committed"], after["end"], after["lag"]) == (7, 7, 7, 0)
    world.produce(event(20, "third"))
    with world.consumer():
        world.until(lambda: "third" in titles(world))
    assert titles(world) == {"first0", "first1", "first2", "third"}

    done = world.command("replay", "--topic", world.topic(), "--from-offset", "3", "--execute", "--json")
    assert json.loads(done.stdout)["result"]["applied"] == 4
    assert len(titles(world)) == 8


def test_positions_outside_the_topic_and_unknown_topics_are_refused(world: World) -> None:
    world.migrate()
    world.create_topic()
    world.produce(event(1, "one"))
    assert "0 to 1" in reset(world, "2", code=2)[1]
    assert "no offset" in reset(world, "yesterday", code=2)[1]
    done = world.command("offsets", "reset", "--topic", "no.such", "--to", "end")
    assert done.returncode == 2
    assert world.topic() in done.stderr


@pytest.mark.semantics("order", "topic deleted and made anew")
def test_a_topic_made_anew_stops_the_consumer_until_a_reset_decides(world: World) -> None:
    world.migrate()
    world.create_topic()
    world.produce(event(1, "old"), event(2, "older"))
    with world.consumer():
        world.until(lambda: len(titles(world)) == 2)
    world.delete_topic()
    world.until(lambda: made_again(world))
    world.produce(event(1, "new"), event(3, "newer"), event(4, "newest"))

    stopped = world.start()
    assert stopped.wait() == 4
    assert "offsets reset" in stopped.output()
    world.processes.clear()
    assert shown(world)["recreated"]
    refused = world.command("replay", "--topic", world.topic(), "--from-beginning", "--execute")
    assert refused.returncode == 4
    assert "offsets reset" in refused.stderr

    world.processes.clear()
    (move,), _ = reset(world, "beginning", "--execute")
    assert "made anew" in move["consequence"]
    after = shown(world)
    assert (after["recreated"], after["stored"], after["committed"]) == (False, 0, 0)
    with world.consumer():
        world.until(lambda: titles(world) == {"new", "older", "newer", "newest"})
