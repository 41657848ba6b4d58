"""Starting, leaving and coming back: no work is done twice, and nothing is left half done."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from psycopg import sql

from tests.chaos import held_in_transaction
from tests.topic_log import read_topics, up_to
from tests.workload import Workload
from tests.world import World

# Where each row lies and which transaction wrote it, deleted rows included in the counters.
_ROWS = (
    "SELECT ctid::text, xmin::text, document_id FROM documents ORDER BY document_id",
    "SELECT ctid::text, xmin::text, document_id, chunk_no FROM chunks_1 ORDER BY document_id, chunk_no",
)
_COUNTERS = """
SELECT relname, n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_user_tables
WHERE schemaname = current_schema() AND relname IN ('documents', 'chunks_1') ORDER BY relname
"""
_SESSIONS = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'embed-consumer'"


def written(world: World) -> list[list[dict[str, Any]]]:
    """Every trace that writing a document or chunk leaves; no consumer may run, so that the counters are complete."""
    world.until(lambda: not world.store(_SESSIONS))
    return [world.store(statement) for statement in (*_ROWS, _COUNTERS)]


def heartbeat_offset(world: World) -> int:
    rows = world.store("SELECT max(next_offset) AS at FROM offsets WHERE topic LIKE '\\_\\_debezium-heartbeat%%'", [])
    return rows[0]["at"] or 0


@pytest.mark.semantics("faults", "restart when caught up", "no embedding, no document or chunk row written")
def test_a_restart_when_caught_up_embeds_and_writes_nothing(world: World) -> None:
    assert world.command("migrate").returncode == 0
    Workload(world, 5).run(40)
    with world.consumer():
        world.settle()
    before = written(world)
    assert all(before)
    with world.consumer() as again:
        read = heartbeat_offset(world)
        world.until(lambda: heartbeat_offset(world) >= read + 3)  # it runs, and has nothing to do
        assert sum(v for (name, _), v in again.metrics().items() if name in ("chunks_total", "tokens_total")) == 0
        world.until(lambda: again.metrics().keys() >= {("queue_depth", ("0", world.topic()))})
    assert again.applied() == again.embedded() == 0
    assert written(world) == before


@pytest.mark.semantics("faults", "SIGTERM", "the transaction under way is finished, exit code 0")
def test_sigterm_finishes_the_batch_in_flight_and_the_other_goes_on(world: World) -> None:
    world.migrate()
    load, stopping = Workload(world, 6), Event()
    load.fill(20)
    leaves = world.start(cpu=0)
    world.settle()
    with ThreadPoolExecutor(1) as player:
        playing = player.submit(load.run, 10**6, pause=0.02, stopping=stopping)
        try:
            with held_in_transaction(world, leaves):
                before = world.store("SELECT topic, partition, next_offset FROM offsets")
                leaves.signal(signal.SIGTERM)
                stays = world.start(cpu=1)
                world.until(lambda: stays.lines("ready to join"))
                assert leaves.alive(), "it left its batch behind"
            assert leaves.wait() == 0
            world.until(lambda: stays.applied() > 100)
        finally:
            stopping.set()
        playing.result()
    assert leaves.lines("left the group; what is not stored is read again")
    flown = leaves.batches()[-1]["offsets"]
    assert any(flown.get(f"{row['topic']}[{row['partition']}]", 0) > row["next_offset"] for row in before)
    world.settle()
    assert stays.stop() == 0

    # Without a crash every event is applied exactly once, whoever held its partition.
    events = read_topics(world.endpoints.bootstrap_servers, [world.topic("a"), world.topic("b")])
    assert leaves.applied() + stays.applied() == len(events)


def test_consumers_share_partitions_and_take_over_from_one_that_leaves(world: World) -> None:
    world.migrate()
    load = Workload(world, 8)
    load.fill(20)
    first = world.start(cpu=0)
    world.settle()
    second = world.start(cpu=1)
    held = "queue_depth"  # one series for each partition that the process holds

    def partitions(process: Any) -> set[tuple[str, ...]]:
        found = {labels for (name, labels) in process.metrics() if name == held}
        return {labels for labels in found if world.name in labels[1]}

    world.until(lambda: second.lines("ready to join") and len(partitions(second)) >= 2)
    world.until(lambda: not partitions(first) & partitions(second) and len(partitions(first) | partitions(second)) == 6)
    load.run(60)
    world.settle()
    assert min(first.applied(), second.applied()) > 0
    assert first.stop() == 0
    world.until(lambda: len(partitions(second)) == 6)
    load.run(60)
    world.settle()
    assert second.stop() == 0
    events = read_topics(world.endpoints.bootstrap_servers, [world.topic("a"), world.topic("b")])
    assert first.applied() + second.applied() == len(events)


@pytest.mark.semantics(
    "operations",
    "topic that comes into being while the consumer runs",
    "joined within seconds, read from its beginning",
)
def test_a_topic_that_comes_later_is_joined(world: World) -> None:
    world.migrate()
    Workload(world, 9, ("a",)).run(5)
    with world.consumer() as consumer:
        world.settle("a")
        count = consumer.applied()
        (said, *_) = consumer.lines("a topic of the settings does not exist yet")
        assert world.topic("b") in said["reason"]
        assert not consumer.lines("broker trouble")
        world.source(sql.SQL("INSERT INTO {} (id, title) VALUES (1, 'late')").format(world.table("b")))
        world.until(lambda: world.store("SELECT 1 FROM chunks WHERE source = %s", [world.topic("b")]))
        assert consumer.applied() == count + 1
    events = read_topics(world.endpoints.bootstrap_servers, [world.topic("b")])
    stored = {(r["topic"], r["partition"]): r["next_offset"] for r in world.store("SELECT * FROM offsets")}
    assert up_to(events, stored) == events
