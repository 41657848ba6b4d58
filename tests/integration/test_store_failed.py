"""Failed documents: kept with their reason, tried again on a schedule, superseded, discarded."""

from __future__ import annotations

import threading

import pytest

from consumer.planning import DocumentWrite, Failure, RejectedEvent
from consumer.store import FailedDocument, Selector, Store
from tests.integration.store_bench import SOURCE, TOPIC, Bench, chunk, key, write

WHY = Failure("embed", "nan", "The model gave NaN.")


def failing(bench: Bench, number: int, offset: int, why: Failure = WHY) -> DocumentWrite:
    stored = bench.store.lookup([key(number)]).get(key(number))
    return write(number, offset, stored, state="failed", fields_hash=None, failure=why)


def make_due(bench: Bench) -> None:
    bench.rows("UPDATE failed_documents SET next_attempt_at = now() - interval '1 s' WHERE state = 'retrying'")


def minutes_to_go(bench: Bench) -> float | None:
    [row] = bench.rows("SELECT extract(epoch FROM next_attempt_at - now())::float / 60 AS m FROM failed_documents")
    return None if row["m"] is None else round(row["m"])


def claimed(bench: Bench) -> FailedDocument:
    [row] = bench.store.claim_failed(10)
    return row


def test_a_failed_document_keeps_its_chunks_and_its_reason(bench: Bench) -> None:
    bench.applied(write(1, 0, insert=(chunk("last good"),)))
    bench.applied(failing(bench, 1, 7))
    [row] = bench.store.list_failed()
    assert (row.key, row.source_key, row.source) == (key(1), b'{"id": 1}', SOURCE)
    assert (row.topic, row.partition, row.offset) == (TOPIC, 0, 7)
    assert (row.stage, row.error_type, row.error) == ("embed", "nan", "The model gave NaN.")
    assert (row.attempts, row.state) == (1, "retrying")
    assert (bench.stored(1).state, bench.stored(1).fields_hash) == ("failed", None)
    assert [chunk_row["content"] for chunk_row in bench.chunks(1)] == ["last good"]


@pytest.mark.semantics("faults", "failed document", "tried again after 5 min, 30 min, 2 h and 24 h, then `dead`")
def test_the_schedule_ends_with_dead(bench: Bench) -> None:
    """Each claim is an attempt; failing again at the same event neither skips a step nor begins anew."""
    bench.applied(failing(bench, 1, 7))
    assert minutes_to_go(bench) == 5
    for attempt, minutes in ((2, 30), (3, 120), (4, 24 * 60), (5, None)):
        assert bench.store.claim_failed(10) == []  # not due
        make_due(bench)
        assert claimed(bench).attempts == attempt
        bench.applied(failing(bench, 1, 7))
        assert minutes_to_go(bench) == minutes
    [row] = bench.store.list_failed()
    assert (row.state, row.next_attempt_at, row.attempts) == ("dead", None, 5)
    assert bench.store.failed_counts() == {(SOURCE, "dead"): 1}


def test_a_worker_that_dies_with_a_claim_costs_one_attempt(bench: Bench) -> None:
    bench.applied(failing(bench, 1, 7))
    make_due(bench)
    claimed(bench)
    assert minutes_to_go(bench) == 30
    make_due(bench)
    assert claimed(bench).attempts == 3


def test_a_newer_event_that_fails_begins_the_schedule_anew(bench: Bench) -> None:
    bench.applied(failing(bench, 1, 7))
    first = bench.store.list_failed()[0].first_failed_at
    bench.rows("UPDATE failed_documents SET attempts = 5, state = 'dead', next_attempt_at = NULL")
    bench.applied(failing(bench, 1, 8, Failure("render", "template", "Another reason.")))
    [row] = bench.store.list_failed()
    assert (row.offset, row.attempts, row.state, row.stage) == (8, 1, "retrying", "render")
    assert row.first_failed_at == first


def test_a_healed_document_leaves_the_table(bench: Bench) -> None:
    bench.applied(failing(bench, 1, 7), failing(bench, 2, 7))
    bench.applied(write(1, 8, bench.stored(1), was_failed=True))
    assert [row.key for row in bench.store.list_failed()] == [key(2)]


def test_two_workers_never_claim_the_same_row(bench: Bench, server: str) -> None:
    bench.applied(*(failing(bench, number, 1) for number in range(60)))
    make_due(bench)
    found: list[FailedDocument] = []

    def work() -> None:
        with Store(bench.dsn, bench.schema) as store:
            while rows := store.claim_failed(4):
                found.extend(rows)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(row.failure_id for row in found) == sorted(row.failure_id for row in bench.store.list_failed())
    assert {row.attempts for row in found} == {2}


def test_a_dead_one_can_be_tried_once_more(bench: Bench) -> None:
    bench.applied(failing(bench, 1, 7))
    bench.rows("UPDATE failed_documents SET attempts = 5, state = 'dead', next_attempt_at = NULL")
    assert bench.store.retry_failed(Selector(state="dead")) == 1
    assert claimed(bench).state == "dead"
    assert bench.store.claim_failed(10) == []


def test_selectors_combine(bench: Bench) -> None:
    bench.applied(failing(bench, 1, 1), failing(bench, 2, 2, Failure("render", "template", "why")))
    bench.applied(rejects=(RejectedEvent("other", "t", 0, 3, Failure("decode", "bad_key", "why")),))
    assert {row.source for row in bench.store.list_failed(Selector(error_type="bad_key"))} == {"other"}
    assert len(bench.store.list_failed(Selector(source=SOURCE, error_type="template"))) == 1
    assert bench.store.list_failed(Selector(source="other", error_type="template")) == []
    assert len(bench.store.list_failed(limit=2)) == 2
    [one] = bench.store.list_failed(Selector(error_type="nan"))
    assert bench.store.discard_failed(Selector(failure_id=one.failure_id)) == 1
    assert bench.store.discard_failed(Selector()) == 2
    assert bench.stored(1).state == "failed"
