"""A source's clock that is behind: told by heartbeats, so that it passes for no stall, and hides none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.observe import LagTracker
from tests.unit.test_observe_freshness import KEY, TOPIC, at, owned

BEHIND, BEHIND_US = 300, 300_000_000
ESTABLISHED = 400  # seconds: five whole minutes, wherever in a minute the first one began


def beats(tracker: LagTracker, begin: int, end: int, delay: Callable[[int], float]) -> None:
    """A heartbeat each second, as it comes; each takes so long by the two clocks. The partition is at its end."""
    for second in range(begin, end):
        tracker.heartbeat("shop", at(second - delay(second)), at(second))
        tracker.position(TOPIC, 0, 5, 5, at(second))


def skewed(delay: Callable[[int], float] = lambda _: BEHIND) -> LagTracker:
    tracker = owned()
    beats(tracker, 0, ESTABLISHED, delay)
    return tracker


def gauge(tracker: LagTracker, second: float) -> float:
    return tracker.lag_seconds(at(second))[KEY]


@pytest.mark.semantics(
    "faults",
    "source whose clock is behind",
    "told by heartbeats within six minutes; from then on freshness is measured without it, and a stall shows as ever",
)
def test_a_clock_that_is_behind_is_no_stall_for_ever_and_is_told() -> None:
    tracker = owned()
    beats(tracker, 0, 120, lambda _: BEHIND)
    assert gauge(tracker, 120) > 60, "for the first minutes nobody can tell"
    beats(tracker, 120, ESTABLISHED, lambda second: BEHIND + second % 3)
    assert gauge(tracker, ESTABLISHED) == 0
    assert tracker.clocks_behind() == {"shop": BEHIND_US}
    assert tracker.behind_us("shop") == BEHIND_US


def test_a_dead_connector_shows_within_a_minute_behind_a_clock_that_is_behind() -> None:
    tracker = skewed()
    tracker.position(TOPIC, 0, 5, 5, at(ESTABLISHED + 60))
    tracker.heartbeat("shop", at(ESTABLISHED - 1 - BEHIND), at(ESTABLISHED + 59))  # the last one, read again
    assert gauge(tracker, ESTABLISHED + 60) >= 60


def test_what_was_applied_counts_by_our_clock() -> None:
    tracker = skewed()
    tracker.applied_through(TOPIC, 0, at(ESTABLISHED - 3 - BEHIND))
    tracker.position(TOPIC, 0, 5, 9, at(ESTABLISHED))
    assert gauge(tracker, ESTABLISHED + 20) < 25


def test_a_queue_on_the_way_is_no_clock() -> None:
    """Whether it grows or shrinks, by half a second a minute, or swings."""
    for delay in (
        lambda second: 100 + second / 100,
        lambda second: 400 - second / 100,
        lambda second: 300 + 5 * (second // 100 % 2),
    ):
        tracker = skewed(delay)
        assert tracker.clocks_behind() == {"shop": 0}
        assert gauge(tracker, ESTABLISHED) > 60


def test_a_clock_that_is_put_right_is_believed_at_once() -> None:
    tracker = skewed()
    beats(tracker, ESTABLISHED, ESTABLISHED + 2, lambda _: 0)
    assert tracker.clocks_behind() == {"shop": 0}
    assert gauge(tracker, ESTABLISHED + 2) == 0
    tracker.pending(TOPIC, 0, at(ESTABLISHED - 70))
    assert gauge(tracker, ESTABLISHED + 2) == 72


def test_a_queue_that_begins_behind_a_clock_that_is_behind_shows() -> None:
    tracker = skewed()
    beats(tracker, ESTABLISHED, ESTABLISHED + 240, lambda second: BEHIND + (second - ESTABLISHED))
    assert gauge(tracker, ESTABLISHED + 240) > 200


def test_one_late_heartbeat_changes_nothing() -> None:
    tracker = skewed()
    beats(tracker, ESTABLISHED, ESTABLISHED + 60, lambda second: BEHIND + 20 * (second % 10 == 0))
    assert tracker.clocks_behind() == {"shop": BEHIND_US}


def test_a_late_heartbeat_that_is_alone_in_its_minute_changes_nothing() -> None:
    """As the first one is after a start."""
    tracker = told_by_others(BEHIND)
    tracker.heartbeat("shop", at(ESTABLISHED - BEHIND - 30), at(ESTABLISHED))
    beats(tracker, ESTABLISHED + 60, ESTABLISHED + 240, lambda _: BEHIND)
    assert tracker.clocks_behind() == {"shop": BEHIND_US}


def test_a_way_that_takes_a_moment_and_a_clock_that_is_ahead_are_no_clock_that_is_behind() -> None:
    assert skewed(lambda _: 4.0).clocks_behind() == {"shop": 0}
    assert skewed(lambda _: -BEHIND).clocks_behind() == {"shop": 0}


def test_another_connectors_clock_is_another_one() -> None:
    tracker = skewed()
    tracker.heartbeat("crm", at(ESTABLISHED), at(ESTABLISHED))
    assert tracker.clocks_behind() == {"shop": BEHIND_US, "crm": 0}
    assert tracker.behind_us("none") == 0


def told_by_others(delay: float) -> LagTracker:
    """A tracker that learns with the first heartbeat how far the clock is behind, and then gets one with that delay."""
    tracker = owned()
    tracker.heartbeat("shop", at(100 - BEHIND), at(100), BEHIND_US)
    tracker.position(TOPIC, 0, 5, 5, at(101))
    tracker.heartbeat("shop", at(101 - delay), at(101))
    return tracker


def test_what_another_process_has_found_out_holds_from_the_first_heartbeat_on() -> None:
    assert gauge(told_by_others(BEHIND + 0.4), 101) == 0
    assert told_by_others(BEHIND - 0.3).clocks_behind() == {"shop": BEHIND_US - 300_000}


def test_what_another_process_has_found_out_goes_when_a_heartbeat_disagrees() -> None:
    assert told_by_others(0).clocks_behind() == {"shop": 0}
    late = told_by_others(BEHIND + 40)
    beats(late, 102, 162, lambda _: BEHIND + 40)
    assert late.clocks_behind() == {"shop": 0}
    assert gauge(late, 162) > 39


@given(
    st.lists(st.floats(0, 5000), min_size=1, max_size=40),
    st.integers(0, 600),
    st.sampled_from([0, 20, 300, 7200]),
)
def test_whatever_the_delays_were_silence_shows_within_a_minute(delays: list[float], steady: int, behind: int) -> None:
    tracker = owned()
    beats(tracker, 0, steady, lambda _: behind)
    for number, delay in enumerate(delays):
        tracker.heartbeat("shop", at(steady + number - delay), at(steady + number))
    end = steady + len(delays)
    tracker.position(TOPIC, 0, 5, 5, at(end))
    assert gauge(tracker, end + 60) >= 60


@pytest.mark.parametrize("begin", [0, 17, 59])
def test_it_takes_more_than_four_minutes_and_at_most_six(begin: int) -> None:
    tracker = owned()
    beats(tracker, begin, begin + 240, lambda _: BEHIND)
    assert tracker.clocks_behind() == {"shop": 0}
    beats(tracker, begin + 240, begin + 361, lambda _: BEHIND)
    assert tracker.clocks_behind() == {"shop": BEHIND_US}
