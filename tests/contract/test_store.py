"""What a store is, the real one on Postgres and the stand-in that the simulation runs on: one suite, both pass."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from math import inf
from typing import Any

import msgspec
import numpy as np
import pytest

from consumer.errors import Stop
from consumer.planning import (
    DocumentWrite,
    Failure,
    Move,
    RejectedEvent,
    StoredDocument,
    Truncate,
    document_key,
)
from consumer.store import (
    Applied,
    Conflict,
    DataFault,
    Fenced,
    Generation,
    Outcome,
    Selector,
    Tender,
    TopicPartition,
    VectorSpace,
    Wanted,
)
from tests.integration.postgres import throwaway_postgres
from tests.integration.store_bench import (
    EPOCH_US,
    GROUP,
    SOURCE,
    TOPIC,
    VECTORS,
    Bench,
    advance,
    chunk,
    chunk_hash,
    delete,
    kept,
    key,
    order,
    plan,
    write,
)
from tests.store_standin import Database, StandInStore

MOVE, OTHER_MOVE = b"m" * 16, b"n" * 16
NAN = Failure("embed", "not_finite", "no number")
UNREADABLE = Failure("decode", "value_undecodable", "no event")


class Real(Bench):
    """The real store."""

    def pass_time(self, seconds: int) -> None:
        """As if everything in the store were so much older."""
        for table, column in (("failed_documents", "next_attempt_at"), ("moves", "left_at")):
            self.rows(f"UPDATE {table} SET {column} = {column} - interval '{seconds} s'")

    def texts(self, number: int) -> list[str]:
        return [row["content"] for row in self.chunks(number)]


class InSegments(Real):
    """The real store, each row of which soon lies in another part."""

    def __init__(self, dsn: str, migrator: str, admin: str, space: VectorSpace) -> None:
        super().__init__(dsn, migrator, admin, replace(space, segment_rows=1))
        self.tender = Tender(dsn, self.schema, self.generation, quiet_seconds=inf)

    def apply(self, *writes: DocumentWrite, **changes: Any) -> Outcome:
        outcome = super().apply(*writes, **changes)
        self.tender.tend()
        return outcome


class StandIn:
    """The stand-in, on the same bench."""

    def __init__(self) -> None:
        self.generation = Generation(1, "live", b"", "tiny", 4, "vector", "cosine", 16, 64, "chunks_1")
        self.database = Database(self.generation)
        self.store = StandInStore(self.database)

    def acquire(self, *partitions: int) -> None:
        self.store.acquire(GROUP, [Wanted(TOPIC, "topic-1", partition, 0) for partition in partitions or (0,)])

    def apply(self, *writes: DocumentWrite, **changes: Any) -> Outcome:
        return self.store.apply(plan(*writes, **changes), VECTORS)

    def applied(self, *writes: DocumentWrite, **changes: Any) -> Applied:
        outcome = self.apply(*writes, **changes)
        assert isinstance(outcome, Applied), outcome
        return outcome

    def stored(self, number: int) -> StoredDocument:
        return self.store.lookup([key(number)])[key(number)]

    def pass_time(self, seconds: int) -> None:
        self.database.now += timedelta(seconds=seconds)

    def texts(self, number: int) -> list[str]:
        return list(self.database.documents[key(number)].texts)


Either = Real | StandIn


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with throwaway_postgres() as dsn:
        yield dsn


@pytest.fixture(params=["real", "in segments", "stand-in"])
def bench(request: pytest.FixtureRequest) -> Iterator[Either]:
    if request.param == "stand-in":
        yield StandIn()
        return
    kind = InSegments if request.param == "in segments" else Real
    real = kind.on(request.getfixturevalue("server"))
    yield real
    real.store.close()


def failing(number: int, offset: int, stored: StoredDocument | None = None, why: Failure = NAN) -> DocumentWrite:
    return write(number, offset, stored, state="failed", failure=why, fields_hash=None)


def truncate(seconds: int) -> Truncate:
    return Truncate(SOURCE, (seconds, seconds), EPOCH_US + seconds * 1_000_000)


# --- positions


def test_each_acquisition_takes_the_next_epoch_and_goes_on_where_the_last_one_stood(bench: Either) -> None:
    assert bench.store.acquire(GROUP, [Wanted(TOPIC, "topic-1", 0, 7)]) == {TopicPartition(TOPIC, 0): (1, 7)}
    bench.applied(advance=advance(7, 9))
    assert bench.store.acquire(GROUP, [Wanted(TOPIC, "topic-1", 0, 8)]) == {TopicPartition(TOPIC, 0): (2, 9)}
    for refused in (Wanted(TOPIC, "topic-2", 0, 0), Wanted(TOPIC, "topic-1", 0, 10)):
        with pytest.raises(Stop):
            bench.store.acquire(GROUP, [refused])
    with pytest.raises(Stop, match="belongs to the group"):
        bench.store.acquire("other", [Wanted(TOPIC, "topic-1", 1, 0)])
    [at] = bench.store.acquire("replay:x", [Wanted(TOPIC, "topic-1", 0, 3)]).values()
    assert [(row.group, row.epoch, row.next_offset) for row in bench.store.offsets()] == [
        (GROUP, 2, 9),
        ("replay:x", at.epoch, 3),
    ]
    bench.store.forget_job("replay:x")
    bench.store.forget_job(GROUP)
    assert [row.group for row in bench.store.offsets()] == [GROUP]


def test_a_job_that_begins_anew_fences_off_a_run_from_before(bench: Either) -> None:
    wanted, places = [Wanted(TOPIC, "topic-1", 0, 3)], []
    for _ in range(3):
        bench.store.forget_job("replay:x")
        [at] = bench.store.acquire("replay:x", wanted).values()
        places.append(msgspec.structs.replace(advance(3, 5), epoch=at.epoch))
    for earlier in places[:-1]:
        assert isinstance(bench.apply(advance=earlier, group="replay:x"), Fenced)
    bench.applied(advance=places[-1], group="replay:x")


def test_only_the_epoch_that_holds_a_partition_moves_it_and_only_from_where_it_stands(bench: Either) -> None:
    bench.acquire(0, 1)
    bench.acquire(1)
    old_epoch = (advance(0, 5), advance(0, 5, partition=1))
    assert bench.apply(write(1), advances=old_epoch) == Fenced(frozenset({TopicPartition(TOPIC, 1)}))
    assert bench.store.lookup([key(1)]) == {}
    bench.applied(advance=advance(0, 5))
    assert bench.apply(write(1), advance=advance(0, 5)) == Fenced(frozenset({TopicPartition(TOPIC, 0)}))
    assert isinstance(bench.apply(advance=advance(0, 5, partition=7)), Fenced)
    assert [row.next_offset for row in bench.store.offsets(GROUP)] == [5, 0]


# --- documents


def test_a_document_is_read_back_as_written(bench: Either) -> None:
    bench.applied(write(1, 4, layout=b"n\0\1", insert=(chunk("a"), chunk("b", 1), chunk("a", 2, 1))))
    head = bench.stored(1)
    assert (head.version, head.state, head.order, head.fields_hash) == (1, "embedded", order(4), b"f" * 16)
    assert (head.fields_complete, head.table_hash, head.generation) == (True, b"t" * 16, 1)
    detail = bench.store.details(bench.generation, [head.document_id])[head.document_id]
    assert (detail.version, detail.fields, detail.content_hash) == (1, b'{"title":"t1"}', b"c" * 16)
    assert (detail.metadata, detail.awaits, detail.layout) == (b'{"price":1}', None, b"n\0\1")
    assert detail.chunks == (kept("a", 0), kept("b", 1), kept("a", 2, 1))
    found = bench.store.vectors(bench.generation, [(head.document_id, chunk_hash("b")), (head.document_id, b"?" * 16)])
    assert found.keys() == {chunk_hash("b")}
    np.testing.assert_allclose(found[chunk_hash("b")], VECTORS[chunk_hash("b")])


def test_a_plan_made_on_another_version_changes_nothing(bench: Either) -> None:
    bench.acquire()
    bench.applied(write(1, insert=(chunk("a"),)))
    before = bench.stored(1)
    bench.applied(write(1, 1, before))
    late = bench.apply(write(1, 2, before), write(2), advance=advance(0, 3))
    assert late == Conflict(frozenset({key(1)}))
    assert bench.apply(write(1, 2), advance=advance(0, 3)) == Conflict(frozenset({key(1)}))
    assert (bench.stored(1).order.offset, bench.store.lookup([key(2)])) == (1, {})
    assert bench.store.offsets(GROUP)[0].next_offset == 0


def test_only_the_difference_in_chunks_is_written_and_counted(bench: Either) -> None:
    bench.applied(write(1, insert=(chunk("a"), chunk("b", 1), chunk("c", 2))))
    change = write(
        1, 1, bench.stored(1), insert=(chunk("new"),), update=(kept("a", 1),), delete=((chunk_hash("b"), 0),)
    )
    applied = bench.applied(change)
    assert (applied.documents, applied.chunks_inserted) == (1, 1)
    assert (applied.chunks_updated, applied.chunks_deleted) == (1, 1)
    assert bench.texts(1) == ["new", "a", "c"]


def test_a_gravestone_keeps_its_place_and_nothing_else(bench: Either) -> None:
    bench.applied(write(1, insert=(chunk("a"), chunk("b", 1))))
    assert bench.applied(delete(1, 5, bench.stored(1)), delete(9, 6)).chunks_deleted == 2
    head = bench.stored(1)
    assert (head.state, head.version, head.order, head.fields_hash) == ("deleted", 2, order(5), None)
    detail = bench.store.details(bench.generation, [head.document_id])[head.document_id]
    assert (detail.fields, detail.chunks, detail.metadata) == (None, (), None)
    assert bench.stored(9).state == "deleted"


def test_deleted_chunks_are_counted_by_their_own_source(bench: Either) -> None:
    elsewhere = key(2, "elsewhere")
    two = [chunk("a"), chunk("b", 1)]
    bench.applied(
        write(1, insert=(chunk("a"),)), write(2, key=elsewhere, insert=two), write(3, 9, insert=(chunk("a"),))
    )
    other = bench.store.lookup([elsewhere])[elsewhere]
    edited = write(2, 6, other, key=elsewhere, update=(kept("a", 0),), delete=((chunk_hash("b"), 0),))
    applied = bench.applied(delete(1, 7, bench.stored(1)), edited)
    assert applied.deleted == {SOURCE: 1, "elsewhere": 1}
    again = bench.store.lookup([elsewhere])[elsewhere]
    gone = msgspec.structs.replace(delete(2, 10, again), key=elsewhere)
    assert bench.applied(gone, truncates=(truncate(11),)).deleted == {SOURCE: 1, "elsewhere": 1}


def test_a_value_that_the_database_refuses_leaves_nothing(bench: Either) -> None:
    bench.acquire()
    poisoned = plan(write(1), write(2, insert=(chunk("a"),)), advance=advance(0, 5))
    vectors = {chunk_hash("a"): np.array([1, 2, np.nan, 4], np.float32)}
    for call in (bench.store.apply, bench.store.rehearse):
        with pytest.raises(DataFault):
            call(poisoned, vectors)
    bench.store.rehearse(plan(write(1)), VECTORS)
    assert bench.store.lookup([key(1)]) == {}
    assert bench.store.offsets(GROUP)[0].next_offset == 0


def test_only_the_live_generation_is_written_to(bench: Either) -> None:
    with pytest.raises(Stop, match="not live"):
        bench.apply(write(1), generation=2)


# --- truncates


def test_a_truncate_empties_what_is_older_and_keeps_out_what_comes_late(bench: Either) -> None:
    bench.applied(write(1, 2, insert=(chunk("old"),)), write(2, 9, insert=(chunk("new"),)), failing(3, 3))
    applied = bench.applied(truncates=(truncate(5),))
    assert (applied.documents, applied.chunks_deleted, applied.truncated) == (2, 1, (SOURCE,))
    assert [bench.stored(number).state for number in (1, 2, 3)] == ["deleted", "embedded", "deleted"]
    assert (bench.stored(1).version, bench.stored(1).order, bench.store.list_failed()) == (2, order(2), [])
    late = order(4, partition=1)
    assert bench.applied(write(4, order=late), write(5, 6)).dropped == (key(4),)
    assert bench.store.lookup([key(4)]) == {}
    again = bench.applied(truncates=(truncate(5), truncate(3)))
    assert (again.truncated, bench.stored(5).state) == ((), "embedded")


def test_what_is_older_than_a_truncate_is_the_end_of_a_stored_document(bench: Either) -> None:
    """Its plan knows no newer event: nothing from before that one may stay."""
    bench.applied(truncates=(truncate(5),))
    bench.applied(write(1, 6, insert=(chunk("new"),)), failing(2, 6))
    behind = msgspec.structs.replace(order(7, seconds=4), sequence=None)
    late = (write(1, 7, bench.stored(1), order=behind), write(2, 7, bench.stored(2), order=behind, was_failed=True))
    assert bench.applied(*late).dropped == (key(1), key(2))
    assert [(bench.stored(number).state, bench.stored(number).order) for number in (1, 2)] == [("deleted", behind)] * 2
    assert (bench.texts(1), bench.store.list_failed()) == ([], [])


def test_an_event_that_cannot_be_read_outlives_a_truncate(bench: Either) -> None:
    """It has no time of its own: it may be newer. What was stored before it is older, and goes."""
    bench.applied(write(1, 2, insert=(chunk("old"),)), write(2, 2), write(3, 2))
    unreadable = msgspec.structs.replace(order(3, seconds=2), sequence=None)  # the time is that of the one before
    bench.applied(failing(1, 3, bench.stored(1), UNREADABLE), truncates=())
    bench.applied(truncates=(truncate(5),))
    assert (bench.stored(1).state, bench.texts(1)) == ("failed", [])
    bench.applied(msgspec.structs.replace(failing(2, 3, bench.stored(2), UNREADABLE), order=unreadable))
    assert {row.key for row in bench.store.list_failed()} == {key(1), key(2)}
    healed = write(1, 3, bench.stored(1), was_failed=True)  # read at last: it was older
    assert bench.applied(healed).dropped == (key(1),)
    assert (bench.stored(1).state, {row.key for row in bench.store.list_failed()}) == ("deleted", {key(2)})


# --- key changes


def test_what_a_delete_leaves_is_found_with_what_it_awaits_until_it_is_used_or_a_week_old(bench: Either) -> None:
    bench.applied(write(1, 1, insert=(chunk("one"), chunk("two", 1))), write(7, 1))
    bench.applied(
        msgspec.structs.replace(
            delete(1, 5, bench.stored(1)), leaves=(Move(MOVE, b'{"title":"t"}', OTHER_MOVE, b"n\0\1"),)
        ),
        msgspec.structs.replace(delete(7, 5, bench.stored(7)), leaves=(Move(OTHER_MOVE, b'{"body":"b"}'),)),
    )
    found = bench.store.moves(bench.generation, [MOVE, b"?" * 16])
    assert found.keys() == {MOVE, OTHER_MOVE}
    assert (found[MOVE].fields, found[MOVE].awaits, found[MOVE].layout) == (b'{"title":"t"}', OTHER_MOVE, b"n\0\1")
    assert found[OTHER_MOVE].layout is None
    np.testing.assert_allclose(found[MOVE].vectors[chunk_hash("two")], VECTORS[chunk_hash("two")])
    bench.applied(write(2, 6, used=(MOVE,)))
    assert bench.store.moves(bench.generation, [MOVE, OTHER_MOVE]).keys() == {OTHER_MOVE}
    assert bench.store.expire_moves() == 0
    bench.pass_time(6 * 86400)
    assert bench.store.expire_moves() == 0
    bench.pass_time(86401)
    assert bench.store.expire_moves() == 1


def test_a_row_that_moved_on_at_once_leaves_the_vectors_of_what_it_was(bench: Either) -> None:
    bench.applied(write(1, 1, insert=(chunk("one"),)), write(7, 1, insert=(chunk("two"),)))
    bench.applied(msgspec.structs.replace(delete(7, 5, bench.stored(7)), leaves=(Move(OTHER_MOVE, b"{}"),)))
    passed = Move(MOVE, b"{}", documents=(bench.stored(1).document_id,), earlier=(OTHER_MOVE, b"?" * 16))
    between = msgspec.structs.replace(delete(2, 7), leaves=(passed,))
    bench.applied(delete(1, 6, bench.stored(1)), between)
    found = bench.store.moves(bench.generation, [MOVE])[MOVE]
    for name in ("one", "two"):
        np.testing.assert_allclose(found.vectors[chunk_hash(name)], VECTORS[chunk_hash(name)])


@pytest.mark.parametrize("first", ["the insert", "the delete"])
def test_who_awaits_a_key_change_is_due_as_soon_as_it_is_there(bench: Either, first: str) -> None:
    waiting = failing(2, 5, why=Failure("plan", "incomplete", "why"))
    waiting = msgspec.structs.replace(waiting, fields_complete=False, awaits=MOVE)
    bench.applied(write(1, 1))
    gone = msgspec.structs.replace(delete(1, 5, bench.stored(1)), leaves=(Move(MOVE, b"{}"),))
    for each in (waiting, gone) if first == "the insert" else (gone, waiting):
        assert bench.store.claim_failed(10) == []
        bench.applied(each)
    assert [row.key for row in bench.store.claim_failed(10)] == [key(2)]


def test_who_was_given_up_on_is_tried_once_more_when_its_key_change_is_there(bench: Either) -> None:
    waiting = failing(2, 5, why=Failure("plan", "incomplete", "why"))
    bench.applied(write(1, 1), msgspec.structs.replace(waiting, fields_complete=False, awaits=MOVE))
    for _ in range(4):
        bench.pass_time(86401)
        assert len(bench.store.claim_failed(10)) == 1
    assert [row.state for row in bench.store.list_failed()] == ["dead"]
    bench.applied(msgspec.structs.replace(delete(1, 5, bench.stored(1)), leaves=(Move(MOVE, b"{}"),)))
    assert [(row.key, row.state) for row in bench.store.claim_failed(10)] == [(key(2), "dead")]
    assert bench.store.claim_failed(10) == []


# --- another primary key


def rekeyed(number: int, offset: int, **changes: Any) -> DocumentWrite:
    """A row of the table after its primary key has got a second column."""
    source_key = b'{"id":%d,"shop":1}' % number
    changes = {"key": document_key(SOURCE, source_key), "source_key": source_key, **changes}
    return write(number, offset, **changes)


def refused(bench: Either) -> list[tuple[int, str]]:
    """Offsets of the failed documents that have another key, and why."""
    return [(row.offset, row.error) for row in bench.store.list_failed() if row.error_type == "key_changed"]


def test_a_write_under_another_key_fails_alone_whoever_it_comes_from(bench: Either) -> None:
    bench.acquire()
    bench.applied(write(1, 1, insert=(chunk("one"),)), advance=advance(0, 2))
    outcome = bench.applied(
        rekeyed(1, 5, insert=(chunk("one"),)), write(2, 4, insert=(chunk("two"),)), advance=advance(2, 6)
    )
    assert list(outcome.refused) == [rekeyed(1, 5).key]
    assert (bench.texts(1), bench.texts(2), bench.store.offsets(GROUP)[0].next_offset) == (["one"], ["two"], 6)
    [(offset, why)] = refused(bench)
    assert offset == 5
    assert re.search(rf"from \(id\) to \(id, shop\).*rekey --source {SOURCE}", why)
    stored = bench.store.lookup([rekeyed(1, 5).key])[rekeyed(1, 5).key]
    gone = write(1, 7, stored, key=rekeyed(1, 5).key, source_key=b'{"id":1,"shop":1}', state="deleted", delete_all=True)
    assert list(bench.applied(gone).refused) == [gone.key]
    bench.applied(write(1, 3, bench.stored(1)), write(3, source_key=b'{"sku":"a"}', key=key(3, "elsewhere")))
    assert [offset for offset, _ in refused(bench)] == [7]


@pytest.mark.parametrize("known", [False, True])
def test_a_write_that_a_truncate_drops_is_not_refused_too(bench: Either, known: bool) -> None:
    """Whoever counts would count it twice: nothing of it is kept, and no failed document tells of it."""
    bench.applied(write(1, 1), truncates=(truncate(5),))
    stored = None
    if known:
        bench.applied(rekeyed(2, 6))
        stored = bench.store.lookup([rekeyed(2, 6).key])[rekeyed(2, 6).key]
    late = rekeyed(2, 7, document_id=stored.document_id if stored else None, expected_version=int(known))
    late = msgspec.structs.replace(late, order=order(4, partition=1))
    outcome = bench.applied(late, rekeyed(3, 8))
    assert outcome.dropped == (late.key,)
    assert list(outcome.refused) == [rekeyed(3, 8).key]
    assert [offset for offset, _ in refused(bench)] == [8]


def test_the_first_write_of_a_source_may_be_under_two_keys(bench: Either) -> None:
    """The earlier one is the one that it had."""
    bench.applied(rekeyed(1, 5), rekeyed(2, 6), write(1, 2))
    assert sorted(offset for offset, _ in refused(bench)) == [5, 6]


def test_keys_of_the_same_columns_are_another_key_where_their_values_are_of_another_kind(bench: Either) -> None:
    bench.applied(write(1, source_key=b'{"id":1,"part":null,"size":1.5}'))
    alike = b'{"id":2,"part":"x","size":"NaN"}', b'{"id":3,"part":7,"size":2}'
    bench.applied(*(write(number, source_key=source_key) for number, source_key in enumerate(alike, 2)))
    assert refused(bench) == []
    bench.applied(write(4, source_key=b'{"id":"4","part":null,"size":1}'))
    [(_, why)] = refused(bench)
    assert re.search(r"from \(id: number, .*\) to \(id: text, ", why)


def test_what_cannot_be_read_proves_no_other_key(bench: Either) -> None:
    """A stray record must not stop a table."""
    for number, source_key in ((7, b'{"stray":1}'), (8, b'{"another":1}')):
        bench.applied(msgspec.structs.replace(failing(number, 3, why=UNREADABLE), source_key=source_key))
        bench.applied(write(number - 6, 2))
    assert len(bench.store.list_failed()) == 2


# --- failed documents


def test_the_schedule_of_a_failed_document(bench: Either) -> None:
    bench.applied(failing(1, 7))
    for attempts, seconds in ((2, 300), (3, 1800), (4, 7200), (5, 86400)):
        bench.pass_time(seconds - 60)
        assert bench.store.claim_failed(10) == []
        bench.pass_time(61)
        [row] = bench.store.claim_failed(10)
        assert (row.key, row.offset, row.stage, row.attempts) == (key(1), 7, "embed", attempts)
        bench.applied(failing(1, 7, bench.stored(1)))
    [row] = bench.store.list_failed()
    assert (row.state, row.next_attempt_at, row.attempts) == ("dead", None, 5)
    bench.applied(failing(1, 8, bench.stored(1)))  # another event begins it anew
    [row] = bench.store.list_failed()
    assert (row.state, row.offset, row.attempts) == ("retrying", 8, 1)
    bench.applied(write(1, 9, bench.stored(1), was_failed=True))
    assert bench.store.list_failed() == []


def test_only_failed_documents_of_the_sources_asked_for_are_claimed(bench: Either) -> None:
    bench.applied(failing(1, 7), msgspec.structs.replace(failing(2, 8), key=key(2, "other")))
    bench.pass_time(301)
    assert bench.store.claim_failed(10, []) == []
    assert [(row.source, row.attempts) for row in bench.store.claim_failed(10, [SOURCE])] == [(SOURCE, 2)]
    assert {row.source: row.attempts for row in bench.store.list_failed()} == {SOURCE: 2, "other": 1}
    assert [row.source for row in bench.store.claim_failed(10)] == ["other"]


def test_an_event_without_a_document_is_known_by_its_coordinates(bench: Either) -> None:
    rejects = tuple(
        RejectedEvent(SOURCE, TOPIC, 0, offset, Failure("decode", error_type, "why"))
        for offset, error_type in ((4, "key_missing"), (5, "key_undecodable"), (5, "schema_unknown"))
    )
    bench.applied(rejects=rejects[:2])
    bench.applied(rejects=rejects[2:])
    rows = bench.store.list_failed()
    assert [(row.offset, row.error_type, row.state) for row in rows] == [
        (4, "key_missing", "dead"),
        (5, "schema_unknown", "retrying"),
    ]
    assert bench.store.discard_failed(Selector(failure_id=rows[1].failure_id)) == 1
    assert [row.offset for row in bench.store.list_failed(Selector(state="dead"))] == [4]


def test_a_heartbeat_never_goes_back(bench: Either) -> None:
    bench.applied(heartbeats=(("shop", 7), ("shop", 5)))
    bench.applied(heartbeats=(("shop", 6),))
    assert bench.store.heartbeats() == {"shop": 7}


def test_how_far_a_clock_is_behind_is_kept_beside_its_heartbeat(bench: Either) -> None:
    bench.applied(heartbeats=(("shop", 7), ("blog", 8)))
    bench.store.note_clock("shop", 300_000_000)
    bench.store.note_clock("nobody", 1)
    bench.applied(heartbeats=(("shop", 9),))
    assert (bench.store.clocks_behind(), bench.store.heartbeats()) == ({"shop": 300_000_000}, {"shop": 9, "blog": 8})
    bench.store.note_clock("shop", 0)
    assert bench.store.clocks_behind() == {}
