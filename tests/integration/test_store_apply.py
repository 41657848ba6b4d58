"""`apply` against a real Postgres: fence, compare-and-set, chunk differences, refused values."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import psycopg
import pytest

from consumer.errors import Retry, Stop
from consumer.planning import DocumentKey, Failure, RejectedEvent
from consumer.store import Applied, Conflict, DataFault, Fenced, Outcome, Store, TooSlow, TopicPartition, Wanted
from tests.integration.store_bench import (
    GROUP,
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


def next_offsets(bench: Bench) -> dict[int, int]:
    return {row.partition: row.next_offset for row in bench.store.offsets(GROUP)}


# --- fence


def test_acquire_begins_at_the_low_watermark_and_takes_the_epoch(bench: Bench) -> None:
    first = bench.store.acquire(GROUP, [Wanted(TOPIC, "topic-1", 0, 7), Wanted(TOPIC, "topic-1", 1, 0)])
    assert first == {TopicPartition(TOPIC, 0): (1, 7), TopicPartition(TOPIC, 1): (1, 0)}
    bench.applied(advance=advance(7, 9))
    assert bench.store.acquire(GROUP, [Wanted(TOPIC, "topic-1", 0, 8)]) == {TopicPartition(TOPIC, 0): (2, 9)}


@pytest.mark.semantics("faults", "consumer that wakes up after its partitions have gone")
def test_a_zombie_writes_nothing_and_learns_which_partitions_it_lost(bench: Bench) -> None:
    bench.acquire(0, 1)
    bench.acquire(1)  # another member takes partition 1
    both = (advance(0, 5), advance(0, 5, partition=1))
    outcome = bench.apply(write(1, insert=(chunk("a"),)), advances=both)
    assert outcome == Fenced(frozenset({TopicPartition(TOPIC, 1)}))
    assert bench.store.lookup([key(1)]) == {}
    assert next_offsets(bench) == {0: 0, 1: 0}


def test_a_batch_applied_before_is_fenced_by_its_start(bench: Bench) -> None:
    bench.acquire()
    bench.applied(write(1), advance=advance(0, 5))
    assert bench.apply(write(2), advance=advance(0, 5)) == Fenced(frozenset({TopicPartition(TOPIC, 0)}))
    assert next_offsets(bench) == {0: 5}


def test_a_partition_never_acquired_is_fenced(bench: Bench) -> None:
    assert isinstance(bench.apply(advance=advance(0, 5)), Fenced)


def test_a_recreated_topic_stops_and_no_epoch_is_taken(bench: Bench) -> None:
    bench.acquire(0, 1)
    with pytest.raises(Stop, match=r"offsets reset --topic shop\.public\.products --partition 1"):
        bench.store.acquire(GROUP, [Wanted(TOPIC, "topic-1", 0, 0), Wanted(TOPIC, "topic-2", 1, 0)])
    assert {row.epoch for row in bench.store.offsets(GROUP)} == {1}


def test_events_deleted_before_they_were_applied_stop(bench: Bench) -> None:
    bench.acquire()
    with pytest.raises(Stop, match="stored offset is 0, the broker begins at 12"):
        bench.store.acquire(GROUP, [Wanted(TOPIC, "topic-1", 0, 12)])


def test_a_schema_belongs_to_one_group_and_to_jobs(bench: Bench) -> None:
    bench.store.acquire("replay:x", [Wanted(TOPIC, "topic-1", 0, 0)])
    bench.acquire()
    bench.store.acquire("replay:y", [Wanted(TOPIC, "topic-1", 0, 0)])
    with pytest.raises(Stop, match="belongs to the group prod, this is other"):
        bench.store.acquire("other", [Wanted(TOPIC, "topic-1", 0, 0)])


def test_reset_fences_the_holder(bench: Bench) -> None:
    bench.acquire()
    bench.store.reset_offset(GROUP, TOPIC, "topic-2", 0, 3)
    assert isinstance(bench.apply(advance=advance(0, 5)), Fenced)
    assert bench.store.acquire(GROUP, [Wanted(TOPIC, "topic-2", 0, 0)]) == {TopicPartition(TOPIC, 0): (3, 3)}


def test_acquire_waits_for_the_former_owners_commit(bench: Bench, server: str) -> None:
    """The new owner reads the position only after a transaction that still holds the row has ended."""
    bench.acquire()
    found: list[int] = []

    def take() -> None:
        with Store(bench.dsn, bench.schema) as heir:
            found.append(heir.acquire(GROUP, [Wanted(TOPIC, "topic-1", 0, 0)])[TopicPartition(TOPIC, 0)].next_offset)

    with psycopg.connect(server) as owner:
        owner.execute(f"UPDATE {bench.schema}.offsets SET next_offset = 42")
        thread = threading.Thread(target=take)
        thread.start()
        bench.until("SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'INSERT INTO offsets'")
        assert found == []
        owner.commit()
        thread.join(10)
    assert found == [42]


# --- documents


def test_a_document_is_read_back_as_written(bench: Bench) -> None:
    made = write(1, 5, insert=(chunk("two words"),), fields=b'{"title": "caf\\u0000\xc3\xa9"}')
    bench.applied(made)
    stored = bench.stored(1)
    assert (stored.version, stored.state, stored.order) == (1, "embedded", order(5))
    assert (stored.fields_hash, stored.fields_complete) == (made.fields_hash, True)
    assert (stored.table_hash, stored.generation) == (made.table_hash, 1)
    detail = bench.store.details(bench.generation, [stored.document_id])[stored.document_id]
    assert detail.fields == made.fields  # byte for byte, escapes included
    assert detail.metadata == made.metadata
    assert (detail.version, detail.content_hash, detail.chunks) == (1, made.content_hash, (kept("two words", 0),))


def test_orders_without_sequence_or_time_and_of_snapshots_are_kept(bench: Bench) -> None:
    bare = msgspec.structs.replace(order(3), sequence=None, ts_us=None)
    read = msgspec.structs.replace(order(4), sequence=None, snapshot=True)
    bench.applied(write(1, order=bare), write(2, order=read))
    assert (bench.stored(1).order, bench.stored(2).order) == (bare, read)


@pytest.mark.semantics(
    "faults",
    "two writers of one document",
    "compare-and-set on its version: the second plans again",
)
def test_two_writers_never_overwrite_each_other(bench: Bench, server: str) -> None:
    """Each adds to what it read; a lost race is read and tried again. The sum shows that no write was lost."""
    bench.applied(write(1, fields=b"0"), write(2, fields=b"0"))

    def add(rounds: int) -> None:
        with Store(bench.dsn, bench.schema) as store:
            for _ in range(rounds):
                outcome: Outcome = Conflict(frozenset())
                while not isinstance(outcome, Applied):
                    found = store.lookup([key(1), key(2)])
                    details = store.details(bench.generation, [doc.document_id for doc in found.values()])
                    writes = [
                        write(number, 1, found[key(number)], fields=b"%d" % (int(detail.fields or b"0") + 1))
                        for number in (1, 2)
                        if (detail := details[found[key(number)].document_id]).version == found[key(number)].version
                    ]
                    if len(writes) == 2:
                        outcome = store.apply(plan(*writes), VECTORS)

    threads = [threading.Thread(target=add, args=(25,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert bench.rows("SELECT fields::text AS n, version FROM documents") == [{"n": "75", "version": 76}] * 2


def test_a_lost_race_names_the_documents_and_writes_nothing(bench: Bench) -> None:
    bench.acquire()
    bench.applied(write(1), write(2))
    old = bench.stored(1)
    bench.applied(write(1, 1, old))
    writes = (write(1, 2, old), write(2, 2, bench.stored(2)), write(3))
    assert bench.apply(*writes, advance=advance(0, 3)) == Conflict(frozenset({key(1)}))
    assert (bench.stored(1).version, bench.stored(2).version) == (2, 1)
    assert key(3) not in bench.store.lookup([key(3)])
    assert next_offsets(bench) == {0: 0}


def test_a_document_that_another_writer_created_first_is_a_conflict(bench: Bench) -> None:
    bench.applied(write(1, insert=(chunk("theirs"),)))
    assert bench.apply(write(1, insert=(chunk("mine"),))) == Conflict(frozenset({key(1)}))
    assert [row["content"] for row in bench.chunks(1)] == ["theirs"]


@pytest.mark.semantics("operations", "delete")
def test_a_gravestone_holds_no_content(bench: Bench) -> None:
    bench.applied(write(1, insert=(chunk("a", 0), chunk("b", 1))))
    # Whatever a plan says: fields and hashes of a deleted document do not reach the table.
    careless = msgspec.structs.replace(write(1, 1, bench.stored(1)), state="deleted")
    assert bench.applied(careless).chunks_deleted == 2
    row = bench.rows("SELECT * FROM documents")[0]
    assert (row["state"], row["kafka_offset"], row["version"]) == ("deleted", 1, 2)
    assert [row[name] for name in ("fields", "fields_hash", "table_hash", "content_hash", "metadata")] == [None] * 5
    assert bench.rows("SELECT * FROM chunks") == []


@pytest.mark.semantics(
    "operations",
    "insert of a key that was deleted before",
    "the document is embedded again; its version goes on counting",
)
def test_an_unknown_key_is_deleted_into_a_gravestone_and_comes_back(bench: Bench) -> None:
    bench.applied(delete(1, 3))
    assert bench.stored(1).state == "deleted"
    bench.applied(write(1, 4, bench.stored(1), insert=(chunk("again"),)))
    assert [row["content"] for row in bench.chunks(1)] == ["again"]


def test_a_plan_for_another_generation_stops(bench: Bench) -> None:
    with pytest.raises(Stop, match="Generation 2 is not live"):
        bench.apply(write(1), generation=2)


# --- chunks


def test_only_the_difference_in_chunks_is_touched(bench: Bench) -> None:
    bench.applied(write(1, 0, insert=(chunk("one", 0), chunk("two", 1), chunk("three", 2), chunk("two", 3, 1))))
    before = {(row["content"], row["occurrence"]): row for row in bench.rows("SELECT *, xmin::text FROM chunks_1")}
    outcome = bench.applied(
        write(
            1, 1, bench.stored(1), metadata=b'{"price":2}', content_hash=b"d" * 16,
            insert=(chunk("new", 1),), update=(kept("two", 2),), delete=((chunk_hash("three"), 0),),
        )
    )  # fmt: skip
    assert (outcome.chunks_inserted, outcome.chunks_updated, outcome.chunks_deleted) == (1, 1, 1)
    after = {(row["content"], row["occurrence"]): row for row in bench.rows("SELECT *, xmin::text FROM chunks_1")}
    assert set(after) == {("one", 0), ("new", 0), ("two", 0), ("two", 1)}
    assert after["one", 0] == before["one", 0]
    assert after["two", 1] == before["two", 1]
    moved, was = after["two", 0], before["two", 0]
    assert (moved["chunk_no"], moved["metadata"], moved["kafka_offset"]) == (2, {"price": 2}, 1)
    assert (moved["chunk_hash"], moved["embedding"]) == (was["chunk_hash"], was["embedding"])
    assert moved["embedded_at"] == was["embedded_at"]
    assert after["new", 0]["source_committed_at"] > was["source_committed_at"]


def test_the_view_shows_a_chunk_with_its_provenance(bench: Bench) -> None:
    bench.applied(write(1, 5, insert=(chunk("two words", 0),)))
    [row] = bench.rows("SELECT * FROM chunks")
    assert list(row) == [
        "source", "source_key", "chunk_no", "content", "metadata", "embedding", "content_hash", "config_hash", "model",
        "kafka_topic", "kafka_partition", "kafka_offset", "source_committed_at", "embedded_at",
    ]  # fmt: skip
    assert row["content_hash"] == chunk_hash("two words")
    assert (row["source_key"], row["config_hash"], row["model"]) == ({"id": 1}, b"\x01" * 32, "tiny")
    assert row["source_committed_at"].timestamp() == 1_700_000_005
    assert bench.rows("SELECT token_count FROM chunks_1") == [{"token_count": 2}]


def test_vectors_come_back_as_they_went_in(bench: Bench) -> None:
    bench.applied(write(1, insert=(chunk("a"), chunk("b", 1))))
    document = bench.stored(1).document_id
    found = bench.store.vectors(bench.generation, [(document, chunk_hash("a")), (document, chunk_hash("gone"))])
    assert list(found) == [chunk_hash("a")]
    np.testing.assert_array_equal(found[chunk_hash("a")], VECTORS[chunk_hash("a")])


def test_metadata_edits_are_hot_and_do_not_grow_the_vector_index(bench: Bench) -> None:
    """Every fifth document: pages keep room for some updates between two prunings, not for all their rows at once."""
    bench.applied(*(write(number, insert=(chunk(f"text {number}"),)) for number in range(40)))
    bench.rows("CREATE INDEX grows ON chunks_1 USING hnsw (embedding vector_cosine_ops)")
    size = bench.rows("SELECT pg_relation_size('grows') AS bytes")
    edits = [
        write(number, 1, bench.stored(number), metadata=b'{"price":9}', update=(kept(f"text {number}", 0),))
        for number in range(0, 40, 5)
    ]
    assert bench.applied(*edits).chunks_updated == 8
    bench.store.close()  # a session reports its statistics at the latest when it ends
    found = bench.until(
        """
        SELECT relname, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables
        WHERE schemaname = current_schema() AND relname IN ('chunks_1', 'documents') AND n_tup_upd > 0 ORDER BY relname
        """,
        rows=2,
    )
    assert [tuple(row.values()) for row in found] == [("chunks_1", 8, 8), ("documents", 8, 8)]
    assert bench.rows("SELECT pg_relation_size('grows') AS bytes") == size


# --- refused values


@pytest.mark.parametrize(
    ("changes", "sqlstate"),
    [
        ({"insert": (chunk("a\x00b"),)}, "22021"),
        ({"insert": (chunk("lone \ud800 surrogate"),)}, "22021"),
        ({"metadata": b'{"a":"\\u0000"}', "insert": (chunk("a"),)}, "22P05"),
        ({"fields": b"{not json"}, "22P02"),
        ({"order": msgspec.structs.replace(order(1), offset=2**63)}, "22003"),
        ({"insert": (chunk("a"), chunk("a"))}, "23505"),
    ],
)
@pytest.mark.semantics(
    "faults",
    "value that the database refuses",
    "the plan is halved until the one document is found, which fails; nothing of the value is shown",
)
def test_a_refused_value_rolls_everything_back_and_shows_nothing_of_it(
    bench: Bench, changes: dict[str, Any], sqlstate: str
) -> None:
    bench.acquire()
    poisoned = plan(write(1, insert=(chunk("good"),)), write(2, **changes), advance=advance(0, 2))
    with pytest.raises(DataFault) as caught:
        bench.store.apply(poisoned, VECTORS)
    assert caught.value.sqlstate == sqlstate
    assert str(caught.value) == f"Postgres refused a value (SQLSTATE {sqlstate})."
    assert bench.rows("SELECT * FROM documents") == []
    assert next_offsets(bench) == {0: 0}
    bench.applied(write(1, insert=(chunk("good"),)), advance=advance(0, 2))  # the connection is usable at once


def test_a_value_refused_in_the_middle_of_a_pipeline_is_named_by_its_own_sqlstate(bench: Bench) -> None:
    bench.applied(write(1, insert=(chunk("a"),)), write(2))
    poisoned = write(1, 1, bench.stored(1), metadata=b'{"a":"\\u0000"}', update=(kept("a", 0),))
    failing = write(2, 1, bench.stored(2), state="failed", failure=Failure("embed", "nan", "why"))
    with pytest.raises(DataFault) as caught:
        bench.apply(poisoned, failing, heartbeats=(("shop", 1),))
    assert caught.value.sqlstate == "22P05"
    assert (bench.stored(1).version, bench.store.heartbeats(), bench.store.list_failed()) == (1, {}, [])


def test_a_row_that_stays_locked_is_a_retry_and_leaves_the_connection_usable(bench: Bench, server: str) -> None:
    bench.acquire()
    with Store(bench.dsn, bench.schema, answer_within=1.0) as store, psycopg.connect(server) as holder:
        holder.execute(f"SELECT FROM {bench.schema}.offsets FOR UPDATE")
        with pytest.raises(Retry, match="55P03") as caught:
            store.apply(plan(write(1), advance=advance(0, 1)), VECTORS)
        assert type(caught.value) is Retry
        holder.rollback()
        assert isinstance(store.apply(plan(write(1), advance=advance(0, 1)), VECTORS), Applied)


def test_work_that_takes_too_long_is_too_slow(bench: Bench, server: str) -> None:
    bench.rows(
        "CREATE FUNCTION crawl() RETURNS trigger AS 'BEGIN PERFORM pg_sleep(9); RETURN NEW; END' LANGUAGE plpgsql"
    )
    bench.rows("CREATE TRIGGER crawl BEFORE INSERT ON documents EXECUTE FUNCTION crawl()")
    with Store(bench.dsn, bench.schema, answer_within=1.0) as store:
        with pytest.raises(TooSlow):
            store.apply(plan(write(1)), VECTORS)
        bench.rows("DROP TRIGGER crawl ON documents")
        assert isinstance(store.apply(plan(write(1)), VECTORS), Applied)


def test_a_table_that_is_gone_stops_from_within_a_pipeline(bench: Bench) -> None:
    bench.rows("DROP TABLE tables")
    with pytest.raises(Stop, match="embed-consumer migrate"):
        bench.apply(write(1))


@pytest.mark.parametrize("vector", [np.array([1, 2, np.nan, 4], np.float32), np.ones(5, np.float32)])
def test_an_impossible_vector_is_a_data_fault(bench: Bench, vector: np.ndarray) -> None:
    with pytest.raises(DataFault):
        bench.store.apply(plan(write(1, insert=(chunk("a"),))), {chunk_hash("a"): vector})


@pytest.mark.semantics("faults", "value that the database refuses")
def test_rehearsals_find_the_one_poisoned_document_and_leave_nothing(bench: Bench) -> None:
    writes = [write(number, insert=(chunk(f"text {number}"),)) for number in range(16)]
    writes[11] = write(11, insert=(chunk("nul \x00"),))

    def refused(part: list[object]) -> bool:
        try:
            bench.store.rehearse(plan(*part), VECTORS)  # type: ignore[arg-type]
        except DataFault:
            return True
        return False

    suspects: list[object] = list(writes)
    while len(suspects) > 1:
        half = len(suspects) // 2
        suspects = suspects[:half] if refused(suspects[:half]) else suspects[half:]
    assert suspects == [writes[11]]
    assert bench.rows("SELECT * FROM documents") == []


def test_rehearse_leaves_offsets_alone_whatever_the_plan_says(bench: Bench) -> None:
    bench.acquire()
    bench.store.rehearse(plan(write(1), advance=advance(0, 2)), VECTORS)
    assert (next_offsets(bench), bench.store.lookup([key(1)])) == ({0: 0}, {})


def test_a_document_can_fail_whatever_its_event_says(bench: Bench) -> None:
    odd = msgspec.structs.replace(order(1), ts_us=2**63 - 1, sequence=(-(2**63), 2**63 - 1))
    failure = Failure("render", "template", "reason with \x00 and \ud800")
    bench.applied(write(1, order=odd, state="failed", fields=None, fields_hash=None, failure=failure))
    assert bench.rows("SELECT source_committed_at FROM documents") == [{"source_committed_at": None}]
    assert "\N{REPLACEMENT CHARACTER}" in bench.store.list_failed()[0].error


# --- beside the documents


def test_heartbeats_keep_the_greatest_time(bench: Bench) -> None:
    bench.applied(heartbeats=(("shop", 5), ("shop", 9), ("blog", 3)))
    bench.applied(heartbeats=(("shop", 7), ("blog", 4)))
    assert bench.store.heartbeats() == {"shop": 9, "blog": 4}


def test_counts_tell_states_and_stale_documents(bench: Bench) -> None:
    failing = write(3, state="failed", fields_hash=None, failure=Failure("embed", "nan", "why"))
    bench.applied(write(1), write(2, table_hash=b"o" * 16), failing, delete(4, 0))
    assert bench.store.document_counts() == {
        (TOPIC, "embedded"): 2, (TOPIC, "failed"): 1, (TOPIC, "deleted"): 1,
    }  # fmt: skip
    assert bench.store.failed_counts() == {(TOPIC, "retrying"): 1}
    current = b"t" * 16
    last, found = bench.store.stale_page({TOPIC: current, "other": current}, bench.generation, 0, 100)
    assert last is not None
    assert found == {TOPIC: 1}
    assert bench.store.stale_page({TOPIC: current}, bench.generation, last, 100) == (None, {})
    assert bench.store.stale_page({"other": b"another"}, bench.generation, 0, 100) == (last, {})
    first, _ = bench.store.stale_page({TOPIC: current}, bench.generation, 0, 1)
    assert first is not None
    assert first < last
    [stale] = bench.store.stale_documents(TOPIC, current, bench.generation, 10, 0, last)
    assert (stale.key, stale.source_key) == (key(2), b'{"id": 2}')
    assert bench.store.stale_documents(TOPIC, current, bench.generation, 10, stale.document_id, last) == []
    assert bench.store.stale_documents(TOPIC, current, bench.generation, 10, 0, stale.document_id - 1) == []


def test_many_keys_are_looked_up_at_once(bench: Bench) -> None:
    bench.applied(*(write(number) for number in range(1200)))
    found = bench.store.lookup([key(number) for number in range(0, 2400, 2)])
    assert set(found) == {key(number) for number in range(0, 1200, 2)}
    assert bench.store.lookup([]) == {}


def test_keys_may_come_in_pieces_and_break_off(bench: Bench) -> None:
    bench.applied(write(1), write(2))

    def pieces(*, broken: bool) -> Iterator[list[DocumentKey]]:
        yield []
        yield [key(1)]
        if broken:
            raise Stop("The table was truncated.", "", "Do something.")
        yield [key(2), key(3)]

    assert bench.store.lookup_pieces(pieces(broken=False)) == bench.store.lookup([key(1), key(2), key(3)])
    with pytest.raises(Stop):
        bench.store.lookup_pieces(pieces(broken=True))
    assert set(bench.store.lookup([key(1), key(2)])) == {key(1), key(2)}


def test_a_rejected_event_is_known_by_its_coordinates(bench: Bench) -> None:
    reject = RejectedEvent(TOPIC, TOPIC, 0, 17, Failure("decode", "bad_key", "The key is no JSON object."))
    bench.applied(rejects=(reject,))
    bench.applied(rejects=(reject,))
    [row] = bench.store.list_failed()
    assert (row.key, row.source_key, row.topic, row.partition, row.offset) == (None, None, TOPIC, 0, 17)
    assert (row.stage, row.error_type, row.attempts, row.state) == ("decode", "bad_key", 1, "retrying")


def test_a_closed_store_opens_again(bench: Bench) -> None:
    bench.applied(write(1))
    bench.store.close()
    assert bench.stored(1).version == 1


def test_the_server_ending_the_session_is_a_retry_and_the_next_call_works(bench: Bench) -> None:
    bench.applied(write(1))
    ended = bench.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'embed-consumer'"
    )
    assert ended
    bench.until(
        "SELECT 1 AS one WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'embed-consumer')"
    )
    with pytest.raises(Retry):
        bench.stored(1)
    assert bench.stored(1).version == 1
