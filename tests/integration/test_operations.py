"""Operations as the log of a topic gives them: transactions, added partitions, truncates and their policies."""

from __future__ import annotations

import re
import shlex
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]
from psycopg import sql

from tests.envelopes import Raw, change, key, row, tombstone
from tests.integration.test_oracle_connector import wrong
from tests.oracle import Oracle
from tests.workload import Workload
from tests.world import World


def titles(world: World) -> dict[int, str]:
    """The first line of every indexed row, by key."""
    chunks = world.store("SELECT source_key, content FROM chunks")
    return {chunk["source_key"]["id"]: chunk["content"].split("\n")[0] for chunk in chunks}


def transact(world: World, *records: Raw, commit: bool) -> None:
    """Write records in one transaction, which leaves a control record behind them."""
    servers = world.endpoints.bootstrap_servers
    producer = Producer({"bootstrap.servers": servers, "transactional.id": world.name})
    producer.init_transactions(30)
    producer.begin_transaction()
    for key_bytes, value in records:
        producer.produce(world.topic(), key=key_bytes, value=value, partition=0)
    producer.flush(30)
    producer.commit_transaction(30) if commit else producer.abort_transaction(30)


@pytest.mark.semantics("order", "control records, aborted transactions, compaction gaps")
def test_aborted_transactions_are_never_applied_and_leave_no_lag(world: World) -> None:
    world.tables = world.tables[:1]
    world.create_topic()
    world.migrate()
    transact(world, change(row(1, "one"), "c"), change(row(2, "two"), "c"), commit=True)
    transact(world, change(row(1, "never")), change(row(3, "never"), "c"), commit=False)
    with world.consumer() as consumer:
        world.until(lambda: world.caught_up("a"))
        assert titles(world) == {1: "one", 2: "two"}
        assert consumer.applied() == 2
        transact(world, change(row(4, "four"), "c"), tombstone(2), commit=True)
        transact(world, tombstone(1), change(row(4, "never")), commit=False)
        world.until(lambda: world.caught_up("a"))  # though nothing but the end of an aborted transaction stands there
        assert titles(world) == {1: "one", 4: "four"}
        depth = ("queue_depth", ("0", world.topic()))
        world.until(lambda: consumer.metrics()[depth] == 0)
        valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('chunks_1_hnsw')"
        assert world.until(lambda: world.store(valid)) == [{"indisvalid": True}]
        world.until(lambda: set(world.committed("a").values()) == set(world.end_offsets("a").values()) == {12})


def produce(world: World, partition: int, *records: Raw) -> None:
    producer = Producer({"bootstrap.servers": world.endpoints.bootstrap_servers, "linger.ms": 0})
    for key_bytes, value in records:
        producer.produce(world.topic(), key=key_bytes, value=value, partition=partition)
    assert producer.flush(30) == 0


def test_the_vector_index_is_built_when_the_last_process_has_loaded_and_not_the_first(world: World) -> None:
    world.prefix = "index"  # no connector's: the partition of its heartbeats would make shares uneven
    world.tables = world.tables[:1]
    world.tables[0]["topic"] = world.topic()
    world.create_topic(partitions=2)
    world.migrate()
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('chunks_1_hnsw')"
    with world.consumer() as first, world.consumer() as last:
        world.until(lambda: first.lines("ready to join") and last.lines("ready to join"))
        world.until(lambda: first.held() == last.held() == 1)
        last.signal(signal.SIGSTOP)
        try:
            for partition in (0, 1):
                produce(world, partition, change(row(partition, "text"), "c"))
            world.until(lambda: first.lines("the vector index waits for partitions of other processes"))
            assert world.store(valid) == []
        finally:
            last.signal(signal.SIGCONT)
        world.until(lambda: world.store(valid) == [{"indisvalid": True}])
        assert titles(world) == {0: "text", 1: "text"}


def at(number: int, title: str, place: int, op: str = "u") -> Raw:
    """A change at a place of the source's log, committed `place` microseconds after the others."""
    return change(row(number, title), op, sequence=f'["{place}","{place}"]', ts_us=1_700_000_000_000_000 + place)


def deleted(number: int, place: int) -> Raw:
    _, value = at(number, "", place, "d")
    return key(number), value


@pytest.mark.semantics("order", "partitions added to a topic, so that keys move", "nothing is lost, no row comes back")
def test_partitions_that_are_added_move_keys_and_neither_lose_nor_revive_a_row(world: World) -> None:
    world.tables = world.tables[:1]
    world.create_topic()
    world.migrate()
    kafka = {
        "bootstrap_servers": world.endpoints.bootstrap_servers,
        "properties": {"topic.metadata.refresh.interval.ms": 500},
    }
    world.settings(kafka=kafka)
    produce(world, 0, *(at(number, "first", number, "c") for number in range(1, 6)))
    with world.consumer():
        world.until(lambda: len(titles(world)) == 5)
        admin = AdminClient({"bootstrap.servers": world.endpoints.bootstrap_servers})
        admin.create_partitions([NewPartitions(world.topic(), 2)])[world.topic()].result(30)
        world.until(lambda: len(world.end_offsets("a")) == 2)
        # The new partition has what came later, and is read first here: the old one's records are late or repeated.
        produce(world, 1, at(1, "moved", 30), deleted(2, 31), tombstone(2), deleted(3, 32), at(3, "again", 33, "c"))
        produce(world, 1, at(6, "new", 34, "c"))
        world.until(lambda: titles(world) == {1: "moved", 3: "again", 4: "first", 5: "first", 6: "new"})
        produce(world, 0, at(1, "late", 20), at(2, "late", 21), at(3, "late", 22), deleted(6, 23), tombstone(6))
        produce(world, 0, at(4, "stays", 24), at(2, "back", 40, "c"))
        world.until(lambda: world.caught_up("a"))
        assert titles(world) == {1: "moved", 2: "back", 3: "again", 4: "stays", 5: "first", 6: "new"}


@pytest.mark.semantics("operations", "truncate (`t`) among changes of several partitions")
def test_truncates_under_load_leave_what_the_source_has_whoever_reads_them(world: World, tiny_model: Path) -> None:
    """Three partitions on two consumers: a truncate is read by one of them while the other holds older rows."""
    world.migrate()
    load, stopping = Workload(world, 71), Event()
    load.fill(30)
    consumers = [world.start(cpu=0), world.start(cpu=1)]
    with ThreadPoolExecutor(1) as player:
        playing = player.submit(load.run, 10**6, pause=0.005, stopping=stopping)
        try:
            world.until(lambda: all(consumer.applied() > 20 for consumer in consumers))
            for _ in range(3):
                world.source(sql.SQL("TRUNCATE {}").format(world.table("a")))
                played = load.played
                world.until(lambda played=played: load.played > played + 60)  # type: ignore[misc]
        finally:
            stopping.set()
        playing.result()
    assert wrong(world, Oracle(world.tables, tiny_model)) == []
    assert [consumer.stop() for consumer in consumers] == [0, 0]
    assert world.store("SELECT 1 FROM tables WHERE source = %s", [world.topic("a")])


@pytest.mark.semantics("operations", "truncate (`t`)")
def test_a_truncate_that_is_to_be_ignored_or_to_stop_does_so(world: World) -> None:
    world.tables[0]["on_truncate"], world.tables[1]["on_truncate"] = "ignore", "stop"
    world.migrate()
    for suffix in ("a", "b"):
        world.source(sql.SQL("INSERT INTO {} (id, title) VALUES (1, %s)").format(world.table(suffix)), [suffix])
    with world.consumer():
        world.settle()
        world.source(sql.SQL("TRUNCATE {}").format(world.table("a")))
        world.settle()
        assert {chunk["content"] for chunk in world.store("SELECT content FROM chunks")} == {"a", "b"}

    world.source(sql.SQL("TRUNCATE {}").format(world.table("b")))
    world.source(sql.SQL("INSERT INTO {} (id, title) VALUES (1, 'later')").format(world.table("b")))
    halted = world.command("--group", world.name)
    assert halted.returncode == 4, halted.stderr
    world.processes.clear()
    assert {chunk["content"] for chunk in world.store("SELECT content FROM chunks")} >= {"a"}
    (named,) = re.findall(r"`embed-consumer (offsets reset [^`]*)`", halted.stderr.replace("\n", " "))
    done = world.command(*shlex.split(named), "--execute")
    assert done.returncode == 0, done.stderr
    with world.consumer():
        world.until(lambda: world.store("SELECT 1 FROM chunks WHERE content = 'later'"))


@pytest.mark.semantics("order", "control records, aborted transactions, compaction gaps")
def test_compaction_that_took_a_delete_or_its_tombstone_revives_nothing(world: World) -> None:
    """A transaction's end stands in for the records that compaction removed: the offsets have gaps."""
    world.tables = world.tables[:1]
    world.create_topic()
    world.migrate()
    transact(world, at(1, "gone", 1, "c"), at(2, "gone", 2, "c"), at(3, "stays", 3, "c"), commit=True)
    transact(world, tombstone(1), deleted(2, 4), commit=True)
    with world.consumer():
        world.until(lambda: world.caught_up("a"))
        assert titles(world) == {3: "stays"}
        produce(world, 0, at(1, "again", 5, "c"), at(2, "again", 6, "c"))
        world.until(lambda: titles(world) == {1: "again", 2: "again", 3: "stays"})
