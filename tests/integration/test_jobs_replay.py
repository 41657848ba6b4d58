"""Replay through the real command: beside a live group, between coalesced states, over deletes, after a kill."""

from __future__ import annotations

import json
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from psycopg import sql

from tests.oracle import Oracle
from tests.states import read_rows, read_store
from tests.topic_log import read_topics
from tests.workload import Workload
from tests.world import CommandProcess, World

pytestmark = pytest.mark.stack


def fill(world: World, rows: int, *, partitions: int = 1) -> None:
    """Rows 1 to `rows`, in a topic of so many partitions."""
    world.create_topic(partitions=partitions)
    insert = "INSERT INTO {} SELECT n, 'Title ' || n, 'Body ' || n, 'c' || n %% 3, n FROM generate_series(1, %s) AS n"
    world.source(sql.SQL(insert).format(world.table()), [rows])


def change(world: World, assignment: str, where: str = "true") -> None:
    world.source(sql.SQL(f"UPDATE {{}} SET {assignment} WHERE {where}").format(world.table()))


def apply_all(world: World, events: int) -> None:
    """Wait until the topic has so many events, let a consumer apply them, and end it."""
    world.until(lambda: sum(world.end_offsets("a").values()) == events)
    with world.consumer():
        world.until(lambda: world.caught_up("a"))


def replay(world: World, *arguments: str, code: int = 0) -> dict[str, Any]:
    done = world.command("replay", "--topic", world.topic(), "--json", *arguments)
    assert done.returncode == code, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def documents(world: World) -> dict[int, dict[str, Any]]:
    """Everything stored of every document, chunks included, by the row's id."""
    rows = world.store(
        """
        SELECT d.source_key, d.state, d.version, d.kafka_offset, d.updated_at, c.content, c.metadata,
               c.kafka_offset AS chunk_offset, c.embedding::text
        FROM documents AS d LEFT JOIN chunks AS c ON c.source = d.source AND c.source_key = d.source_key
        WHERE d.source = %s
        """,
        [world.topic()],
    )
    return {row.pop("source_key")["id"]: row for row in rows}


def group_rows(world: World) -> list[dict[str, Any]]:
    return world.store("SELECT * FROM offsets WHERE group_id = %s ORDER BY topic, partition", [world.name])


def wrong(world: World, oracle: Oracle, *suffixes: str) -> list[str]:
    """What the oracle finds wrong with the store, compared with the source's rows."""
    tables = {world.topic(suffix): world.table(suffix) for suffix in suffixes or ("a",)}
    state = read_store(world.endpoints.migrator_dsn, world.name, world.name)
    return oracle.compare(state, read_rows(world.endpoints.source_owner_dsn, tables))


@pytest.mark.semantics(
    "operations",
    "replay of a range beside a running group",
    "nothing newer changes, nothing is lost",
)
def test_beside_a_live_group_under_load_nothing_is_lost_and_nothing_goes_back(world: World, tiny_model: Path) -> None:
    world.migrate()
    load, stopping, oracle = Workload(world, seed=7), Event(), Oracle(world.tables, tiny_model)
    load.fill(40)
    with world.consumer(), ThreadPoolExecutor(1) as player:
        world.until(lambda: world.store("SELECT 1 FROM documents HAVING count(*) = 80"))
        playing = player.submit(load.run, 10**6, pause=0.05, stopping=stopping)
        try:
            (_, partition), end = max(world.end_offsets("a").items(), key=lambda item: item[1])
            for arguments in (
                ("--from-beginning",),
                ("--partition", str(partition), "--from-offset", "5", "--to-offset", str(end // 2)),
                ("--from-datetime", "2020-01-01T00:00:00Z", "--to-offset", str(end // 2), "--force"),
            ):
                result = replay(world, *arguments, "--execute")["result"]
                assert result["finished"]
                assert result["stale"] > 0
                assert (result["failed"], result["left_alone"]) == (0, 0)
        finally:
            stopping.set()
        playing.result()
        world.until(lambda: not wrong(world, oracle, "a", "b"))
        world.until(world.caught_up)
    state = read_store(world.endpoints.migrator_dsn, world.name, world.name)
    events = read_topics(world.endpoints.bootstrap_servers, [world.topic("a"), world.topic("b")])
    found = oracle.compare_with_topics(state, events)
    assert [what for what in found if " times for " not in what] == []  # a forced replay writes more often
    assert world.store("SELECT * FROM failed_documents") == []


def test_it_prints_its_plan_and_touches_neither_the_group_nor_the_broker(world: World) -> None:
    world.migrate()
    fill(world, 10, partitions=3)
    apply_all(world, 10)
    before, group = documents(world), group_rows(world)

    planned = replay(world, "--from-beginning")
    assert planned["result"] is None
    events = planned["plan"]["events"]
    assert events == 10
    assert all(part["from"] == 0 and part["to"] == part["group_offset"] for part in planned["plan"]["parts"])
    assert world.store("SELECT 1 FROM offsets WHERE group_id <> %s", [world.name]) == []

    done = replay(world, "--from-beginning", "--execute")
    assert done["plan"]["name"] == planned["plan"]["name"]
    assert done["result"] == {
        "finished": True, "applied": 0, "unchanged": 0, "stale": events, "failed": 0, "ignored": 0,
        "left_alone": 0,
    }  # fmt: skip
    assert documents(world) == before
    assert group_rows(world) == group
    assert world.store("SELECT 1 FROM offsets WHERE group_id <> %s", [world.name]) == []

    shown = json.loads(world.command("offsets", "show", "--json").stdout)
    assert {row["group"] for row in shown} == {world.name}
    assert all(row["committed"] == row["stored"] for row in shown if row["topic"] == world.topic())


@pytest.mark.semantics("order", "replay that ends between two states of a row", "changes nothing")
def test_an_end_between_two_coalesced_states_changes_nothing(world: World) -> None:
    world.migrate()
    fill(world, 5)
    apply_all(world, 5)
    change(world, "body = 'first'", "id = 3")
    change(world, "body = 'second'", "id = 3")
    change(world, "body = 'third'", "id = 3")
    apply_all(world, 8)
    before = documents(world)
    last = before[3]["kafka_offset"]
    assert before[3]["content"] == "Title 3\n\nthird"
    for end in (last - 1, last):
        answer = replay(world, "--from-beginning", "--to-offset", str(end), "--execute")
        assert answer["result"]["finished"]
        assert documents(world) == before
    forced = replay(world, "--from-beginning", "--to-offset", str(last), "--force", "--execute")
    assert forced["result"]["applied"] == 4  # the other four rows stand at their insert
    after = documents(world)
    assert after[3] == before[3]
    assert {number: (row["content"], row["embedding"]) for number, row in after.items()} == {
        number: (row["content"], row["embedding"]) for number, row in before.items()
    }


@pytest.mark.semantics("order", "replay that ends before a row's last state, and the row is not stored", "left alone")
def test_an_early_end_leaves_documents_alone_whose_last_state_lies_beyond_it(world: World, tiny_model: Path) -> None:
    world.tables[0]["metadata"] = ["category"]
    world.migrate()
    fill(world, 4)
    apply_all(world, 4)
    change(world, "body = 'newest'", "id = 1")
    change(world, "price = 10", "id = 2")  # the price is no part of the document yet: both are skipped
    change(world, "price = 20", "id = 2")
    apply_all(world, 7)
    newest = documents(world)
    assert newest[2]["kafka_offset"] < newest[1]["kafka_offset"]

    world.store("DELETE FROM chunks_1 WHERE source_key = '{\"id\": 1}'")
    world.store("DELETE FROM documents WHERE source_key = '{\"id\": 1}'")
    world.tables[0]["metadata"] = ["category", "price"]
    early = ("--from-beginning", "--to-offset", str(newest[1]["kafka_offset"] + 2))
    answer = replay(world, *early, "--execute")
    assert answer["result"]["applied"] == 0
    assert answer["result"]["left_alone"] == 6  # four inserts, the edit of id 1, the first price of id 2
    assert 1 not in documents(world)
    assert documents(world)[2]["metadata"] == {"category": "c2"}
    text = world.command("replay", "--topic", world.topic(), *early)
    assert "left alone" in " ".join(text.stderr.split())

    answer = replay(world, "--from-beginning", "--execute")
    assert answer["result"]["left_alone"] == 0
    assert documents(world)[1]["content"] == "Title 1\n\nnewest"
    assert documents(world)[2]["metadata"] == {"category": "c2", "price": "20.00"}
    assert wrong(world, Oracle(world.tables[:1], tiny_model)) == []


@pytest.mark.semantics("order", "replay over a delete", "the row stays deleted")
def test_deleted_rows_stay_deleted(world: World, tiny_model: Path) -> None:
    world.migrate()
    oracle = Oracle(world.tables[:1], tiny_model)
    fill(world, 6)
    world.source(sql.SQL("DELETE FROM {} WHERE id IN (2, 3)").format(world.table()))
    world.source(sql.SQL("INSERT INTO {} VALUES (3, 'Back', 'again', 'c', 1)").format(world.table()))
    apply_all(world, 11)  # a delete is two: the event and its tombstone
    ends = [row["kafka_offset"] for row in documents(world).values()]
    for arguments in (
        ("--from-beginning",),
        ("--from-beginning", "--force"),
        ("--from-beginning", "--to-offset", str(min(ends) + 2), "--force"),
        ("--from-beginning", "--to-offset", "3"),
    ):
        assert replay(world, *arguments, "--execute")["result"]["finished"]
        assert documents(world)[2]["state"] == "deleted"
        assert wrong(world, oracle) == []


def test_an_interrupted_and_a_killed_replay_go_on_where_they_were(world: World) -> None:
    rows = 300
    world.overrides["batch"] = {"max_events": 5}
    world.migrate()
    fill(world, rows)
    apply_all(world, rows)
    before, group = documents(world), group_rows(world)
    arguments = ("replay", "--topic", world.topic(), "--from-beginning", "--force", "--execute")

    def progress() -> int:
        found = world.store("SELECT sum(next_offset) AS at FROM offsets WHERE group_id LIKE 'replay:%%'", [])
        return int(found[0]["at"] or 0)

    def run_until(offset: int) -> CommandProcess:
        process = world.spawn(*arguments)
        world.until(lambda: progress() >= offset)
        return process

    interrupted = run_until(20)
    interrupted.signal(signal.SIGINT)
    assert interrupted.wait() == 130
    world.processes.remove(interrupted)  # it has not died, it was told to
    assert "goes on from there" in interrupted.output()
    at = progress()
    assert 20 <= at < rows

    killed = run_until(at + 20)
    killed.kill()
    assert progress() < rows

    planned = replay(world, "--from-beginning", "--force")
    assert planned["plan"]["resumes"]
    assert planned["plan"]["parts"][0]["next"] == progress()
    assert replay(world, "--from-beginning", "--force", "--execute")["result"]["finished"]
    # Every event once, whatever the interruptions: document and progress are one transaction.
    after = documents(world)
    assert {row["version"] for row in after.values()} == {2}
    assert {number: row["content"] for number, row in after.items()} == {
        number: row["content"] for number, row in before.items()
    }
    assert group_rows(world) == group
    assert not replay(world, "--from-beginning", "--force")["plan"]["resumes"]
    assert world.store("SELECT 1 FROM offsets WHERE group_id <> %s", [world.name]) == [], "it is done"


def test_what_cannot_be_replayed_is_refused_with_a_reason(world: World) -> None:
    world.migrate()
    fill(world, 3, partitions=2)
    apply_all(world, 3)

    def refused(*arguments: str) -> str:
        done = world.command("replay", *arguments)
        assert done.returncode == 2, done.stderr
        return done.stderr

    assert world.topic() in refused("--topic", "no.such.topic", "--from-beginning")
    assert "exactly one" in refused("--topic", world.topic())
    assert "exactly one" in refused("--topic", world.topic(), "--from-beginning", "--from-offset", "1")
    assert "no date" in refused("--topic", world.topic(), "--from-datetime", "yesterday")
    assert "partition" in refused("--topic", world.topic(), "--partition", "99", "--from-beginning")
    other = world.command("replay", "--topic", world.topic(), "--from-beginning", "--group", "other")
    assert other.returncode == 4
    assert f"--group {world.name}" in other.stderr
    many = refused("--topic", world.topic(), "--from-offset", "1")
    assert "--partition" in many
    assert "has no offset 99 yet" in refused("--topic", world.topic(), "--partition", "0", "--from-offset", "99")
    early = replay(world, "--from-datetime", "1969-12-31T23:59:59.999Z")["plan"]
    assert (early["events"], [part["from"] for part in early["parts"]]) == (3, [0, 0])
    nothing = replay(world, "--from-datetime", "2999-01-01", "--execute")
    assert (nothing["plan"]["events"], nothing["result"]) == (0, None)


def test_a_port_of_the_metrics_that_is_taken_is_news_to_a_consumer_and_none_to_a_replay(world: World) -> None:
    world.settings(log={"format": "json", "level": "warning"})
    world.migrate()
    fill(world, 3)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wanted = f"127.0.0.1:{taken.getsockname()[1]}"
        world.settings(http={"listen": wanted})
        with world.consumer() as consumer:
            world.until(lambda: consumer.lines("the port is taken, the next free one is used"))
            world.until(lambda: len(world.store("SELECT 1 FROM documents")) == 3)
        (said,) = consumer.lines("the port is taken, the next free one is used")
        assert (said["wanted"], said["url"].startswith("http://127.0.0.1:")) == (wanted, True)
        done = world.command("replay", "--topic", world.topic(), "--from-beginning", "--execute")
    assert done.returncode == 0, done.stderr
    assert "stale 3" in done.stdout
    assert "port" not in done.stderr
