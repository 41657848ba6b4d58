"""Freshness arithmetic and the lag gauge: above all, a dead measurement never says 0."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.observe import BatchTimes, LagTracker, freshness_batch, freshness_seconds, stage_split

SECOND = 1_000_000
T0 = 1_700_000_000 * SECOND
TOPIC, SOURCE = "shop.public.products", "products"
KEY = (SOURCE, 0)
times = st.integers(0, 2**53)


def at(seconds: float) -> int:
    return T0 + int(seconds * SECOND)


def owned() -> LagTracker:
    """A tracker that got partition 0 at second 0."""
    tracker = LagTracker()
    tracker.assigned(TOPIC, 0, SOURCE, "shop", at(0))
    return tracker


def test_freshness_is_the_time_from_commit_to_applied() -> None:
    assert freshness_seconds(at(1), at(1.25)) == (0.25, False)


def test_a_commit_in_the_future_is_zero_and_counted() -> None:
    assert freshness_seconds(at(2), at(1)) == (0.0, True)
    seconds, skewed = freshness_batch([at(2), at(0.5)], at(1))
    assert (seconds.tolist(), skewed) == ([0.0, 0.5], 1)


@given(st.lists(times), times)
def test_a_batch_is_its_events(commits: list[int], applied: int) -> None:
    each = [freshness_seconds(ts, applied) for ts in commits]
    seconds, skewed = freshness_batch(commits, applied)
    assert (seconds.tolist(), skewed) == ([s for s, _ in each], sum(ahead for _, ahead in each))
    assert all(seconds >= 0 for seconds, _ in each)


def in_lists(split: Mapping[str, Any]) -> dict[str, list[float]]:
    return {stage: seconds.tolist() for stage, seconds in split.items()}


def test_stages_add_up_to_freshness_when_the_clocks_agree() -> None:
    events = [(at(0), at(1), at(1.5)), (at(0.5), at(1), at(1.5))]
    split = in_lists(stage_split(events, BatchTimes(at(3.5), at(3.75), at(4.5), at(4.75))))
    shared = {"queue": [2.0, 2.0], "plan": [0.25, 0.25], "embed": [0.75, 0.75], "write": [0.25, 0.25]}
    assert split == {"connector": [1.0, 0.5], "broker": [0.5, 0.5], **shared}
    assert set(stage_split([], BatchTimes(at(1), at(2), at(3), at(4)))) == set(split)


def test_a_stage_made_negative_by_skew_is_zero() -> None:
    at_once = BatchTimes(at(2), at(2), at(2), at(2))
    assert in_lists(stage_split([(at(5), at(1), at(2))], at_once))["connector"] == [0]
    assert in_lists(stage_split([(at(1), at(1), at(2))], at_once._replace(embedded_us=at(1))))["embed"] == [0]


def test_fetched_and_unapplied_is_the_age_of_its_commit() -> None:
    tracker = owned()
    tracker.heartbeat("shop", at(100), at(100))
    tracker.position(TOPIC, 0, 10, 10, at(100))
    tracker.pending(TOPIC, 0, at(90))
    assert tracker.lag_seconds(at(100)) == {KEY: 10.0}


def test_applied_and_caught_up_with_a_fresh_heartbeat_is_zero() -> None:
    tracker = owned()
    tracker.pending(TOPIC, 0, at(10))
    tracker.pending(TOPIC, 0, None)
    tracker.applied_through(TOPIC, 0, at(10))
    tracker.position(TOPIC, 0, 11, 11, at(100))
    tracker.heartbeat("shop", at(95), at(95))
    assert tracker.lag_seconds(at(100)) == {KEY: 0.0}


def test_unfetched_events_count_from_the_newest_applied_commit_and_rise_in_a_stall() -> None:
    tracker = owned()
    tracker.applied_through(TOPIC, 0, at(40))
    tracker.position(TOPIC, 0, 5, 9, at(50))
    tracker.heartbeat("shop", at(50), at(50))
    assert tracker.lag_seconds(at(50)) == {KEY: 10.0}
    assert tracker.lag_seconds(at(5000)) == {KEY: 4960.0}


def test_a_new_event_after_a_quiet_day_does_not_look_a_day_old() -> None:
    tracker = owned()
    tracker.applied_through(TOPIC, 0, at(1))
    tracker.heartbeat("shop", at(86_400), at(86_400))
    tracker.position(TOPIC, 0, 5, 5, at(86_401))
    tracker.position(TOPIC, 0, 5, 6, at(86_402))
    assert tracker.lag_seconds(at(86_402)) == {KEY: 2.0}


def test_a_backlog_never_fetched_counts_from_the_assignment() -> None:
    tracker = owned()
    tracker.position(TOPIC, 0, 0, 1000, at(1))
    tracker.heartbeat("shop", at(20), at(20))
    assert tracker.lag_seconds(at(20)) == {KEY: 20.0}


def test_a_position_never_told_is_not_zero() -> None:
    tracker = owned()
    tracker.heartbeat("shop", at(20), at(20))
    assert tracker.lag_seconds(at(20)) == {KEY: 20.0}


def test_a_dead_connector_shows_by_its_heartbeat() -> None:
    tracker = owned()
    tracker.heartbeat("shop", at(100), at(100))
    tracker.position(TOPIC, 0, 5, 5, at(160))
    assert tracker.lag_seconds(at(130)) == {KEY: 0.0}
    assert tracker.lag_seconds(at(160)) == {KEY: 60.0}


def test_an_applied_commit_is_a_sign_of_life_too() -> None:
    tracker = owned()
    tracker.position(TOPIC, 0, 5, 5, at(100))
    tracker.applied_through(TOPIC, 0, at(95))
    assert tracker.lag_seconds(at(100)) == {KEY: 0.0}
    tracker.position(TOPIC, 0, 5, 5, at(200))
    assert tracker.lag_seconds(at(200)) == {KEY: 105.0}


def test_without_any_heartbeat_the_age_of_the_assignment_shows() -> None:
    tracker = owned()
    tracker.position(TOPIC, 0, 5, 5, at(70))
    assert tracker.lag_seconds(at(70)) == {KEY: 70.0}


def test_another_connectors_heartbeat_proves_nothing() -> None:
    tracker = owned()
    tracker.position(TOPIC, 0, 5, 5, at(70))
    tracker.heartbeat("shop2", at(70), at(70))
    tracker.heartbeat("sho", at(70), at(70))
    assert tracker.lag_seconds(at(70)) == {KEY: 70.0}


def test_a_connector_whose_prefix_begins_like_another_ones_is_fed_by_its_own_heartbeats_alone() -> None:
    tracker = LagTracker()
    tracker.assigned("eu.shop.public.products", 0, SOURCE, "eu.shop", at(0))
    tracker.heartbeat("eu", at(100), at(100))
    tracker.position("eu.shop.public.products", 0, 5, 5, at(100))
    assert tracker.lag_seconds(at(100)) == {KEY: 100.0}
    tracker.heartbeat("eu.shop", at(90), at(100))
    assert tracker.lag_seconds(at(100)) == {KEY: 0.0}


def test_an_old_observation_of_the_end_is_not_caught_up_for_ever() -> None:
    tracker = owned()
    tracker.position(TOPIC, 0, 5, 5, at(100))
    tracker.heartbeat("shop", at(200), at(200))
    assert tracker.lag_seconds(at(200)) == {KEY: 100.0}


def test_an_older_heartbeat_changes_nothing() -> None:
    tracker = owned()
    tracker.position(TOPIC, 0, 5, 5, at(100))
    tracker.heartbeat("shop", at(95), at(95))
    tracker.heartbeat("shop", at(5), at(5))
    assert tracker.lag_seconds(at(100)) == {KEY: 0.0}


def test_a_revoked_partition_is_not_reported_and_late_reports_do_not_bring_it_back() -> None:
    tracker = owned()
    tracker.revoked(TOPIC, 0)
    tracker.pending(TOPIC, 0, at(1))
    tracker.position(TOPIC, 0, 1, 2, at(2))
    tracker.applied_through(TOPIC, 0, at(1))
    assert tracker.lag_seconds(at(3)) == {}


def test_a_new_assignment_forgets_the_old_one() -> None:
    tracker = owned()
    tracker.pending(TOPIC, 0, at(1))
    tracker.assigned(TOPIC, 0, SOURCE, "shop", at(50))
    assert tracker.lag_seconds(at(60)) == {KEY: 10.0}


def test_partitions_are_apart() -> None:
    tracker = owned()
    tracker.assigned(TOPIC, 1, SOURCE, "shop", at(0))
    tracker.pending(TOPIC, 0, at(10))
    tracker.pending(TOPIC, 1, at(15))
    assert tracker.lag_seconds(at(20)) == {(SOURCE, 0): 10.0, (SOURCE, 1): 5.0}


reports = st.lists(
    st.one_of(
        st.tuples(st.just("pending"), st.none() | st.integers(0, 500)),
        st.tuples(st.just("applied"), st.integers(0, 500)),
        st.tuples(st.just("heartbeat"), st.integers(0, 500)),
        st.tuples(st.just("position"), st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 500))),
    ),
    max_size=12,
)


def told(history: list[tuple[str, object]]) -> LagTracker:
    tracker = owned()
    for kind, what in history:
        match kind, what:
            case "pending", int() | None:
                tracker.pending(TOPIC, 0, None if what is None else at(what))
            case "applied", int():
                tracker.applied_through(TOPIC, 0, at(what))
            case "heartbeat", int():
                tracker.heartbeat("shop", at(what), at(what))
            case "position", (int(position), int(end), int(seen)):
                tracker.position(TOPIC, 0, position, end, at(seen))
    return tracker


@given(reports, st.integers(0, 1000), st.integers(0, 1000))
def test_when_nothing_is_reported_any_more_the_lag_only_rises(
    history: list[tuple[str, object]], now: int, later: int
) -> None:
    tracker = told(history)
    first = tracker.lag_seconds(at(now))[KEY]
    assert 0 <= first <= tracker.lag_seconds(at(now + later))[KEY]


@given(reports)
def test_whatever_was_reported_silence_shows_within_a_minute(history: list[tuple[str, object]]) -> None:
    assert told(history).lag_seconds(at(500 + 60))[KEY] >= 60


def test_a_dead_connector_shows_though_its_sources_clock_runs_ahead() -> None:
    tracker = owned()
    tracker.heartbeat("shop", at(3700), at(100))
    tracker.position(TOPIC, 0, 5, 5, at(160))
    tracker.heartbeat("shop", at(3700), at(155))  # the same one, read again
    assert tracker.lag_seconds(at(130)) == {KEY: 0.0}
    assert tracker.lag_seconds(at(160)) == {KEY: 60.0}


def test_a_source_whose_clock_is_set_back_is_alive() -> None:
    tracker = owned()
    tracker.heartbeat("shop", at(3700), at(100))
    tracker.heartbeat("shop", at(140), at(140))
    tracker.position(TOPIC, 0, 5, 5, at(160))
    assert tracker.lag_seconds(at(160)) == {KEY: 0.0}
    assert tracker.lag_seconds(at(180)) == {KEY: 40.0}


@pytest.mark.parametrize("ahead", [1, 3600])
def test_a_source_clock_that_runs_ahead_gives_no_negative_lag(ahead: int) -> None:
    tracker = owned()
    tracker.pending(TOPIC, 0, at(10 + ahead))
    assert tracker.lag_seconds(at(10)) == {KEY: 0.0}


def test_scrapes_beside_rebalances() -> None:
    tracker, failures = LagTracker(), list[BaseException]()

    def rebalance(partition: int) -> None:
        try:
            for _ in range(500):
                tracker.assigned(TOPIC, partition, SOURCE, "shop", at(0))
                tracker.pending(TOPIC, partition, at(1))
                tracker.revoked(TOPIC, partition)
        except BaseException as error:
            failures.append(error)

    threads = [Thread(target=rebalance, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert all(lag in (9.0, 10.0) for lag in tracker.lag_seconds(at(10)).values())
    assert not failures
    assert tracker.lag_seconds(at(10)) == {}
