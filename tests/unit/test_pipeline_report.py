"""What a running consumer says of itself while it waits: liveness, the gauge, and partitions nobody applies."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import Any, Literal

import msgspec
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from consumer.errors import Retry
from consumer.events import Form, decode_event
from consumer.observe import Health, Metrics
from consumer.operations.telemetry import TAKEN_OVER, Telemetry
from consumer.planning import Advance, Batch, Outcome, Partition, Planned
from consumer.source import Held, RegistryWait
from consumer.steps import Work
from consumer.store import Applied
from tests.unit.records import TOPIC, record, table
from tests.unit.test_pipeline_process import Shelf, pipeline
from tests.unit.test_planning_planner import row

A_DAY_AGO_US = time.time_ns() // 1000 - 86_400_000_000


def telemetry(kind: Literal["live", "replay"] = "live") -> Telemetry:
    return Telemetry(Metrics(60.0), {TOPIC: table()}, prefixes={TOPIC: "shop"}, kind=kind)


def held(*partitions: int, stored: int = 5, end: int = 9) -> dict[Partition, Held]:
    return {(TOPIC, number): Held("id", 1, stored, stored, stored, stored, end, stored) for number in partitions}


def old_event(offset: int = 5) -> Batch:
    stale = record(offset, "u", {"id": 1}, ts_us=A_DAY_AGO_US)
    return Batch((stale,), {(TOPIC, 0): Advance(TOPIC, 0, 1, offset, offset + 1)})


def lag(of: Telemetry) -> dict[tuple[str, int], float]:
    return of.lag.lag_seconds(time.time_ns() // 1000)


def rests(of: Telemetry) -> bool:
    """Whether a partition behind its end has not moved between two reports, and had no reason not to."""
    of.health = Health(stuck_after=0.0)
    of.positions(held(0, 1))
    of.positions(held(0, 1))
    between = time.monotonic()
    of.positions(held(0, 1))
    return not of.health.live(between).ok


def test_a_partition_that_rests_with_nothing_at_work_is_stuck() -> None:
    assert rests(telemetry())


def test_partitions_behind_a_batch_that_waits_for_the_database_are_not_stuck() -> None:
    told = telemetry()
    told.waiting([old_event()])
    assert not rests(told)
    told.waiting([])
    assert rests(told)


def test_a_chore_that_waits_for_a_dependency_is_not_death() -> None:
    told = telemetry()
    told.retrying(Retry("Postgres is away."), 1.0)
    assert not rests(told)


def test_the_gauge_shows_the_oldest_event_not_applied_but_no_retry_of_an_old_one() -> None:
    told = telemetry()
    told.positions(held(0, stored=9))
    told.waiting([old_event()])
    assert lag(told)["items", 0] > 86_000
    told.waiting([])
    told.waiting([Batch(old_event().records, {})])
    assert lag(told)["items", 0] < 60


def test_a_partition_assigned_but_not_acquired_has_a_gauge_that_rises() -> None:
    told = telemetry()
    told.positions({}, waiting={(TOPIC, 3)})
    assert told.lag.lag_seconds(time.time_ns() // 1000 + 3_600_000_000)["items", 3] > 3599
    told.positions(held(3, stored=9), waiting=())
    assert lag(told)["items", 3] < 60
    told.positions({})
    assert lag(told) == {}


def test_dropped_parts_are_counted_and_told() -> None:
    told = telemetry()
    with capture_logs() as said:
        told.fenced(2)
    assert "embedding_pipeline_fenced_total 2.0" in generate_latest(told.metrics.registry).decode()
    assert [(line["event"], line["log_level"], line["partitions"]) for line in said] == [(TAKEN_OVER, "warning", 2)]


def test_an_event_without_a_commit_time_counts_from_when_it_was_sent() -> None:
    told = telemetry()
    told.positions(held(0))
    sent = msgspec.structs.replace(record(5, "u", {"id": 1}), value=None, timestamp_ms=A_DAY_AGO_US // 1000)
    told.waiting([Batch((sent,), old_event().spans)])
    assert lag(told)["items", 0] > 86_000


def test_an_event_whose_source_runs_ahead_waits_since_it_was_sent() -> None:
    """An hour ahead, and stuck for ten minutes: a gauge that believed the commit would show 0 for another fifty."""
    told, now_us = telemetry(), time.time_ns() // 1000
    told.positions(held(0))
    ahead = record(5, "u", {"id": 1}, ts_us=now_us + 3_600_000_000)
    sent = msgspec.structs.replace(ahead, timestamp_ms=now_us // 1000 - 600_000)
    told.waiting([Batch((sent,), old_event().spans)])
    assert lag(told)["items", 0] >= 600


def test_an_event_that_tells_no_time_at_all_waits_since_it_was_taken() -> None:
    told, later_us = telemetry(), time.time_ns() // 1000 + 600_000_000
    told.positions(held(0, stored=9))
    timeless = msgspec.structs.replace(record(5, "u", {"id": 1}), value=None, timestamp_ms=-1)
    told.waiting([Batch((timeless,), old_event().spans)])
    told.lag.heartbeat("shop", later_us, later_us)
    told.lag.position(TOPIC, 0, 9, 9, later_us)
    assert told.lag.lag_seconds(later_us)["items", 0] > 599


def test_what_was_applied_from_the_future_is_no_later_sign_of_life() -> None:
    """Neither a commit nor a heartbeat of a source whose clock runs ahead keeps the gauge at 0 once nothing comes."""
    told, now_us = telemetry(), time.time_ns() // 1000
    told.positions(held(0, stored=9))
    event = decode_event(record(5, "u", {"id": 1}, ts_us=now_us + 3_600_000_000), Form())
    work = Work(Batch((), old_event().spans), heartbeats={TOPIC.split(".")[0]: now_us + 3_600_000_000})
    work.outcomes, work.committed_us = [Outcome("items", "u", "embedded", event)], now_us
    told.done(work, Planned((), {}, (), ()), Applied())
    told.positions(held(0, stored=9))
    assert lag(told)["items", 0] == 0
    told.lag.position(TOPIC, 0, 9, 9, later_us := now_us + 600_000_000)
    assert told.lag.lag_seconds(later_us)["items", 0] > 599


def test_a_record_that_is_no_event_does_not_stop_the_report() -> None:
    told = telemetry()
    told.positions(held(0))
    junk = msgspec.structs.replace(record(5, "u", {"id": 1}), key=b'{"id":"\xff"}', value=json.dumps({}).encode())
    told.waiting([Batch((junk,), old_event().spans)])
    assert lag(told)["items", 0] > 0


def test_the_registry_is_told_apart_from_the_store_until_a_batch_is_through() -> None:
    told = telemetry()

    def said() -> dict[str, tuple[bool, str]]:
        return {check.name: (check.ok, check.reason) for check in told.health.ready(time.monotonic()).checks}

    told.done(Work(Batch((), {})), Planned((), {}, (), ()), Applied())
    assert "registry" not in said(), "JSON needs none"
    told.retrying(RegistryWait("The schema registry does not answer."), 1.0)
    assert said()["registry"] == (False, "The schema registry does not answer.")
    assert said()["store"] == (True, "writable")
    told.done(Work(Batch((), {})), Planned((), {}, (), ()), Applied())
    assert said()["registry"] == (True, "answers")
    counted = generate_latest(told.metrics.registry).decode()
    assert 'embedding_pipeline_errors_total{error_type="registrywait",stage="decode"} 1.0' in counted


def test_the_way_of_an_event_is_split_into_stages() -> None:
    event = decode_event(record(5, "u", {"id": 1}, ts_us=A_DAY_AGO_US), Form())
    stamped = msgspec.structs.replace(event, connector_us=A_DAY_AGO_US + 1_000_000, broker_us=A_DAY_AGO_US + 3_000_000)
    told = telemetry()
    taken, planned, embedded, committed = (A_DAY_AGO_US + seconds * 1_000_000 for seconds in (7, 15, 31, 63))
    work = Work(
        *(old_event(), {}, {}, 0, (Outcome("items", "u", "embedded", stamped),)),
        taken_us=taken, decoded_us=taken, planned_us=planned, embedded_us=embedded, committed_us=committed,
    )  # fmt: skip
    told.done(work, Planned((), {}, (), ()), Applied())
    value = told.metrics.registry.get_sample_value
    names = ("connector", "broker", "queue", "plan", "embed", "write")
    assert [value("embedding_pipeline_stage_seconds_sum", {"stage": name}) for name in names] == [1, 2, 4, 8, 16, 32]
    assert value("embedding_pipeline_freshness_seconds_sum", {"source": "items"}) == 63, "the sum of its stages"


def test_the_position_of_each_partition_is_shown() -> None:
    told = telemetry()
    told.positions(held(0, 1, stored=5))
    told.positions(held(1, stored=7))
    value = told.metrics.registry.get_sample_value
    shown = [
        value("embedding_pipeline_next_offset", {"source": "items", "topic": TOPIC, "partition": p}) for p in ("0", "1")
    ]
    assert shown == [None, 7]


def test_good_and_total_of_the_objective_are_applied_and_rejected_streaming_events_and_no_others() -> None:
    def outcome(what: str, op: str = "u", **changed: Any) -> Outcome:
        event = decode_event(record(5, op, {"id": 1}, ts_us=A_DAY_AGO_US), Form())
        order = msgspec.structs.replace(event.order, **changed)
        return Outcome("items", op, what, msgspec.structs.replace(event, order=order))

    now = A_DAY_AGO_US + 86_400_000_000
    happened = (
        *(outcome("embedded", ts_us=now - 1_000_000), outcome("unchanged", ts_us=now - 60_000_000)),
        *(outcome("deleted", ts_us=now - 60_000_001), outcome("embedded", ts_us=now + 5_000_000)),
        *(outcome("rejected"), Outcome("items", "unknown", "rejected")),
        *(outcome("stale"), outcome("ignored"), outcome("embedded", "r", snapshot=True)),
        *(outcome("rejected", "r", snapshot=True), Outcome("items", "tombstone", "ignored")),
    )
    counts = {}
    kinds: tuple[Literal["live", "replay"], ...] = ("live", "replay")
    for kind in kinds:
        told = telemetry(kind)
        told.metrics.declare(["items"])
        work = Work(old_event(), outcomes=happened, committed_us=now)
        told.done(work, Planned((), {}, (), ()), Applied())
        value = told.metrics.registry.get_sample_value
        names = ("good", "late", "rejected")
        counts[kind] = [
            value("embedding_pipeline_slo_events_total", {"source": "items", "result": name}) for name in names
        ]
        seen = value("embedding_pipeline_freshness_seconds_bucket", {"source": "items", "le": "60.0"})
        assert seen == counts[kind][0], "the histogram and the objective's counter agree"
    assert counts == {"live": [3, 1, 2], "replay": [0, 0, 0]}


def beats(told: Telemetry, begin_us: int, behind_us: int) -> None:
    """Heartbeats of 400 seconds by a clock that is behind."""
    for beat_us in range(begin_us, begin_us + 400_000_000, 1_000_000):
        told.lag.heartbeat("shop", beat_us - behind_us, beat_us)


def test_what_waits_is_as_old_as_by_our_clock_whoever_stamped_it() -> None:
    """The source did, whose clock is behind, or for want of that the producer, whose clock is not."""
    behind_us = 300_000_000
    for stamped_us in (behind_us, None):
        told, now = telemetry(), time.time_ns() // 1000
        told.positions(held(0, stored=9))
        beats(told, now - 400_000_000, behind_us)
        waits = record(5, "u", {"id": 1}, ts_us=now - 70_000_000 - (stamped_us or 0))
        if stamped_us is None:
            waits = msgspec.structs.replace(waits, value=None, timestamp_ms=(now - 70_000_000) // 1000)
        told.waiting([Batch((waits,), old_event().spans)])
        assert 69 < told.lag.lag_seconds(now)["items", 0] < 71


def test_a_source_whose_clock_is_behind_makes_no_change_late() -> None:
    """Once heartbeats have told by how much; the gauge, the histogram and the stages follow."""
    told, behind_us, now = telemetry(), 300_000_000, A_DAY_AGO_US + 400_000_000
    told.positions(held(0, stored=9))
    beats(told, A_DAY_AGO_US, behind_us)
    commit_us = now - behind_us - 2_000_000
    event = decode_event(record(5, "u", {"id": 1}, ts_us=commit_us), Form())
    stamped = msgspec.structs.replace(event, connector_us=now - 1_000_000, broker_us=now - 1_000_000)
    work = Work(old_event(), outcomes=[Outcome("items", "u", "embedded", stamped)], committed_us=now)
    work.taken_us = work.planned_us = work.embedded_us = now
    told.done(work, Planned((), {}, (), ()), Applied())
    value = told.metrics.registry.get_sample_value
    assert value("embedding_pipeline_slo_events_total", {"source": "items", "result": "good"}) == 1
    assert value("embedding_pipeline_freshness_seconds_sum", {"source": "items"}) == 2
    assert value("embedding_pipeline_stage_seconds_sum", {"stage": "connector"}) == 1
    assert value("embedding_pipeline_clock_behind_seconds", {"prefix": "shop"}) == 300
    assert value("embedding_pipeline_clock_skew_total") == 0


def test_deleted_chunks_count_for_the_source_that_lost_them() -> None:
    told = telemetry()
    told.done(Work(Batch((), {})), Planned((), {}, (), ()), Applied(deleted=Counter({"items": 2, "others": 3})))
    value = told.metrics.registry.get_sample_value
    name = "embedding_pipeline_chunks_total"
    assert value(name, {"source": "items", "outcome": "deleted"}) == 2
    assert value(name, {"source": "others", "outcome": "deleted"}) == 3


def counted(*numbers: int) -> list[float | None]:
    """Chunks embedded and reused, and tokens, after rows of one and the same text came in one batch."""
    told, shelf = telemetry(), Shelf()
    shelf.acquire(0)
    events = tuple(
        record(offset, "c", row("one two", "three", "1", number), lsn=offset + 1)
        for offset, number in enumerate(numbers)
    )
    batch = Batch(events, {(TOPIC, 0): Advance(TOPIC, 0, 1, 0, len(numbers))})
    assert not pipeline(shelf, told).process([batch]).left
    value = told.metrics.registry.get_sample_value
    labels = [{"source": "items", "outcome": outcome} for outcome in ("embedded", "reused")]
    chunks = [value("embedding_pipeline_chunks_total", each) for each in labels]
    return [*chunks, value("embedding_pipeline_tokens_total", {"source": "items"})]


def test_what_goes_through_the_model_once_is_counted_once_however_many_rows_have_it() -> None:
    chunks, _, tokens = counted(1)
    assert chunks
    assert tokens
    assert counted(1, 2, 3) == [chunks, 2 * chunks, tokens]
