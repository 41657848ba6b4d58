"""The verdict of `status`: what each state of a partition says about freshness."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from consumer.events import Record
from consumer.operations.offsets import Position, Reset
from consumer.operations.replay import Request
from consumer.operations.status import Freshness, Status, eta_seconds, freshness

NOW_US = 1_700_000_000_000_000
AT_END = Position("shop.public.a", 0, "id", stored=10, committed=10, first=0, end=10)
BEHIND = replace(AT_END, end=14)
PLACE = ("shop.public.a", 0)


def record(ts_us: int | None, timestamp_ms: int = 0) -> Record:
    value = json.dumps({"op": "u", "after": {"id": 1}, "source": {"ts_us": ts_us}}).encode() if ts_us else b"no json"
    return Record(*PLACE[:1], "id", 0, 10, 0, b'{"id": 1}', value, timestamp_ms)


def test_behind_counts_from_the_commit_of_the_oldest_event_that_waits() -> None:
    found = freshness(BEHIND, {PLACE: record(NOW_US - 7_000_000)}, 1.0, NOW_US)
    assert found.seconds == 7.0
    assert "4 waiting" in found.reason


def test_an_event_that_does_not_tell_its_commit_counts_from_its_send_time() -> None:
    found = freshness(BEHIND, {PLACE: record(None, timestamp_ms=NOW_US // 1000 - 3000)}, 1.0, NOW_US)
    assert found.seconds == 3.0


def test_an_event_that_tells_no_time_at_all_has_no_known_age() -> None:
    assert freshness(BEHIND, {PLACE: record(None, timestamp_ms=-1)}, 1.0, NOW_US).seconds is None


def test_behind_by_offsets_without_a_record_is_at_its_end() -> None:
    assert freshness(BEHIND, {PLACE: None}, 1.0, NOW_US).seconds == 0.0


def test_behind_and_unread_is_not_known() -> None:
    assert freshness(BEHIND, {}, 1.0, NOW_US).seconds is None


@pytest.mark.parametrize(("heartbeat_age", "seconds"), [(None, None), (1.0, 0.0), (30.0, 0.0), (31.0, 31.0)])
def test_at_its_end_heartbeats_decide(heartbeat_age: float | None, seconds: float | None) -> None:
    assert freshness(AT_END, {}, heartbeat_age, NOW_US).seconds == seconds


def test_what_waits_behind_a_clock_that_is_behind_is_as_old_as_by_ours() -> None:
    found = freshness(BEHIND, {PLACE: record(NOW_US - 307_000_000)}, 1.0, NOW_US, 300.0)
    assert found.seconds == 7.0
    assert "the oldest 7.0 s old" in found.reason


def verdict(*seconds: float | None, broker: bool = True) -> str:
    parts = [Freshness("t", number, value, "") for number, value in enumerate(seconds)]
    return Status("g", 60.0, NOW_US, freshness=parts, broker_answers=broker).verdict


def test_one_old_partition_makes_it_stale_and_one_unknown_keeps_it_from_being_fresh() -> None:
    assert verdict(0.0, 59.9, 60.0) == "fresh"
    assert verdict(0.0, 60.1) == "stale"
    assert verdict(None, 60.1) == "stale"
    assert verdict(0.0, None) == "unknown"
    assert verdict() == "unknown"
    assert verdict(0.0, broker=False) == "unknown"


def test_a_silence_within_the_objective_is_not_called_fresh() -> None:
    silent = freshness(AT_END, {}, 31.0, NOW_US)
    parts = [Freshness("t", 1, 0.0, ""), silent]
    assert Status("g", 60.0, NOW_US, freshness=parts).verdict == "unknown"
    assert Status("g", 30.0, NOW_US, freshness=parts).verdict == "stale"


def test_eta_is_told_only_while_the_backlog_shrinks() -> None:
    before = Status("g", 60.0, NOW_US, positions=[replace(AT_END, end=110)])
    later = NOW_US + 2_000_000
    assert eta_seconds(before, Status("g", 60.0, later, positions=[replace(AT_END, end=60)])) == 2.0
    assert eta_seconds(before, Status("g", 60.0, later, positions=[replace(AT_END, end=110)])) is None
    assert eta_seconds(before, Status("g", 60.0, later, positions=[replace(AT_END, end=120)])) is None
    assert eta_seconds(before, Status("g", 60.0, later, positions=[AT_END])) is None, "nothing waits any more"


def test_lag_counts_what_the_topic_still_has() -> None:
    assert BEHIND.lag == 4
    assert replace(AT_END, stored=None, first=3).lag == 7
    assert replace(AT_END, recreated=True).lag == 10


def test_a_reset_says_what_is_skipped_and_what_is_read_again() -> None:
    assert "skips 4" in Reset(BEHIND, 14).consequence
    assert "--from-offset 10" in Reset(BEHIND, 14).consequence
    assert "reads 10 of its offsets again" in Reset(BEHIND, 0).consequence
    assert "snapshot" in Reset(replace(BEHIND, recreated=True), 0).consequence
    assert Reset(AT_END, 10).consequence == "stays where it is"


def test_a_replay_is_named_by_what_was_asked_and_by_nothing_else() -> None:
    asked = Request("t", 1, from_offset=5, to_offset=9)
    assert asked.name == Request("t", 1, from_offset=5, to_offset=9).name
    others = [replace(asked, partition=None), replace(asked, to_offset=None), replace(asked, force=True)]
    others += [replace(asked, from_offset=None, from_ms=5), replace(asked, topic="u")]
    assert len({asked.name, *(other.name for other in others)}) == 6
    assert asked.name.startswith("replay:")
