"""Truncate: documents of all partitions go, and no straggler brings one back."""

from __future__ import annotations

import threading

import msgspec
import psycopg
import pytest

from consumer.planning import Failure, Truncate
from consumer.store import Applied, Store
from tests.integration.store_bench import (
    EPOCH_US,
    SOURCE,
    VECTORS,
    Bench,
    advance,
    chunk,
    delete,
    key,
    order,
    plan,
    write,
)


def truncate(second: float, sequence: int | None = None, source: str = SOURCE) -> Truncate:
    """At `second` after the epoch, by default with the LSN of that number."""
    lsn = int(second) if sequence is None else sequence
    return Truncate(source, (lsn, lsn), EPOCH_US + int(second * 1e6))


def states(bench: Bench) -> dict[int, str]:
    rows = bench.rows("SELECT (source_key->>'id')::int AS id, state FROM documents ORDER BY 1")
    return {row["id"]: row["state"] for row in rows}


@pytest.mark.semantics("operations", "truncate (`t`) among changes of several partitions")
def test_older_documents_of_every_partition_become_gravestones(bench: Bench) -> None:
    failing = write(3, 3, state="failed", failure=Failure("embed", "nan", "why"), insert=(chunk("three"),))
    elsewhere = write(2, order=order(2, partition=1), insert=(chunk("two"),))
    bench.applied(write(1, 1, insert=(chunk("one"),)), elsewhere, failing, write(4, 9, insert=(chunk("four"),)))
    other = msgspec.structs.replace(write(5, 1, insert=(chunk("five"),)), key=key(5, "other"))
    bench.applied(other)
    bench.acquire()
    outcome = bench.applied(truncates=(truncate(5),), advance=advance(0, 6))
    assert (outcome.truncated, outcome.documents, outcome.chunks_deleted) == ((SOURCE,), 3, 3)
    assert states(bench) == {1: "deleted", 2: "deleted", 3: "deleted", 4: "embedded", 5: "embedded"}
    gravestone = bench.stored(2)
    assert (gravestone.version, gravestone.order) == (2, elsewhere.order)
    assert {row["content"] for row in bench.rows("SELECT content FROM chunks")} == {"four", "five"}
    assert bench.store.failed_counts() == {}
    assert bench.store.offsets()[0].next_offset == 6


@pytest.mark.semantics("operations", "event from before a truncate, read after it", "dropped")
def test_a_straggler_of_another_partition_is_dropped_and_named(bench: Bench) -> None:
    bench.applied(truncates=(truncate(5),))
    late = write(1, order=order(4, partition=1), insert=(chunk("late"),))
    newer = write(2, order=order(6, partition=1), insert=(chunk("newer"),))
    outcome = bench.applied(late, newer)
    assert (outcome.dropped, outcome.documents) == ((key(1),), 1)
    assert states(bench) == {2: "embedded"}


@pytest.mark.semantics(
    "operations",
    "rows written after TRUNCATE in the same transaction",
    "stay: the sequence decides where commit times are equal",
)
def test_the_sequence_decides_within_the_truncating_transaction(bench: Bench) -> None:
    """Rows written after TRUNCATE in the same transaction share its commit time."""
    bench.applied(truncates=(truncate(5, sequence=50),))
    before = write(1, order=order(1, seconds=5, sequence=49))
    after = write(2, order=order(2, seconds=5, sequence=51))
    without = write(3, order=msgspec.structs.replace(order(3, seconds=5), sequence=None))
    assert bench.applied(before, after, without).dropped == (key(1), key(3))


def test_rows_written_after_the_truncate_in_the_same_batch_stand(bench: Bench) -> None:
    bench.applied(write(1, 1, insert=(chunk("old"),)), write(2, 2, insert=(chunk("old too"),)))
    again = write(1, 8, bench.stored(1), insert=(chunk("new"),))
    before = write(2, 4, bench.stored(2), insert=(chunk("between"),))
    outcome = bench.applied(again, before, truncates=(truncate(5),))
    assert outcome.dropped == (key(2),)
    assert states(bench) == {1: "embedded", 2: "deleted"}
    assert bench.stored(1).version == 2


@pytest.mark.semantics("operations", "truncate that is delivered again", "ignored")
def test_a_redelivered_truncate_deletes_nothing(bench: Bench) -> None:
    bench.applied(truncates=(truncate(5),))
    bench.applied(write(1, 6, insert=(chunk("six"),)))
    outcome = bench.applied(truncates=(truncate(5), truncate(3)))
    assert (outcome.truncated, outcome.documents) == ((), 0)
    assert bench.applied(write(2, 4)).dropped == (key(2),)
    assert states(bench) == {1: "embedded"}
    assert bench.applied(truncates=(truncate(7),)).truncated == (SOURCE,)
    assert states(bench) == {1: "deleted"}


def test_a_gravestone_stays_as_it_is_and_a_tombstone_without_time_is_kept(bench: Bench) -> None:
    bench.applied(delete(1, 2))
    bench.applied(truncates=(truncate(5),))
    assert bench.stored(1).version == 1
    timeless = msgspec.structs.replace(order(9), ts_us=None, sequence=None)
    assert bench.applied(delete(2, 0), msgspec.structs.replace(delete(3, 0), order=timeless)).dropped == (key(2),)
    assert states(bench) == {1: "deleted", 3: "deleted"}


@pytest.mark.semantics(
    "operations",
    "truncate beside a consumer that is writing",
    "waits for its transaction, then deletes its rows too",
)
def test_an_apply_under_way_is_waited_for_and_its_rows_go(bench: Bench, server: str) -> None:
    """A straggler whose transaction holds the shared lock is committed first; the truncate then sees its rows."""
    done: list[Applied] = []

    def empty() -> None:
        with Store(bench.dsn, bench.schema) as other:
            outcome = other.apply(plan(truncates=(truncate(5),)), VECTORS)
            assert isinstance(outcome, Applied)
            done.append(outcome)

    # A row lock on a chunk's document keeps the writer inside its transaction until it is released.
    bench.applied(write(1, 1, insert=(chunk("one"),)))
    mine = bench.stored(1)
    with psycopg.connect(server) as blocker:
        blocker.execute(f"SELECT FROM {bench.schema}.documents FOR UPDATE")
        straggler = threading.Thread(target=lambda: bench.applied(write(1, 3, mine), write(2, 4)))
        straggler.start()
        bench.until("SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'UPDATE documents'")
        truncating = threading.Thread(target=empty)
        truncating.start()
        bench.until("SELECT pid FROM pg_stat_activity WHERE wait_event = 'advisory'")
        assert done == []
        blocker.rollback()
        straggler.join(10)
        truncating.join(10)
    assert done[0].documents == 2
    assert states(bench) == {1: "deleted", 2: "deleted"}


def test_writers_of_one_source_do_not_wait_for_each_other(bench: Bench, server: str) -> None:
    bench.applied(write(1))
    with psycopg.connect(server) as blocker:
        blocker.execute(f"SELECT FROM {bench.schema}.documents FOR UPDATE")
        blocked = threading.Thread(target=lambda: bench.applied(write(1, 1, mine)))
        mine = bench.stored(1)
        blocked.start()
        bench.until("SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'UPDATE documents'")
        with Store(bench.dsn, bench.schema) as other:
            assert isinstance(other.apply(plan(write(2)), VECTORS), Applied)
        blocker.rollback()
        blocked.join(10)
    assert bench.stored(1).version == 2


def test_an_undecodable_event_that_may_be_newer_than_the_truncate_fails_all_the_same(bench: Bench) -> None:
    bench.applied(write(1, 1))
    bench.applied(truncates=(truncate(5),))
    failure = Failure("decode", "value_undecodable", "why")
    unread = write(1, 9, bench.stored(1), state="failed", failure=failure, order=order(9, seconds=1, sequence=1))
    assert bench.applied(unread).dropped == ()
    (failed,) = bench.store.list_failed()
    assert (failed.key, failed.offset, failed.error_type) == (key(1), 9, "value_undecodable")
