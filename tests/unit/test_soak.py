"""A soak says what it has shown and no more: too little is INVALID, and what is wrong is never passed."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tests.command import CommandProcess
from tests.soak.judgement import Report, applied_twice, counted, first_deliveries
from tests.topic_log import Event

ENOUGH = {"events": 100, "kills_and_cuts": 20, "rebalances": 3, "batches_in_flight_at_a_kill": 2}


class Said:
    """A consumer that is gone; of it only its log is asked."""

    def __init__(self, *batches: tuple[int, dict[str, int]]) -> None:
        self._batches = [{"events": events, "offsets": offsets} for events, offsets in batches]

    def batches(self) -> list[dict[str, Any]]:
        return self._batches


def judged(**changes: Any) -> Report:
    report = Report(1, "classic", **{**ENOUGH, **changes})
    report.demand(**ENOUGH)
    return report


def test_a_soak_in_which_enough_has_happened_is_passed() -> None:
    assert judged().verdict == "passed"


@pytest.mark.parametrize("name", ENOUGH)
def test_a_soak_in_which_too_little_has_happened_is_invalid_and_says_of_what(name: str) -> None:
    report = judged(**{name: ENOUGH[name] - 1})
    assert report.verdict == "INVALID"
    assert report.too_little == [f"{name.replace('_', ' ')}: {ENOUGH[name] - 1} of {ENOUGH[name]}"]


def test_what_is_wrong_counts_before_what_is_missing() -> None:
    assert judged(events=0, wrong=["a row is lost"]).verdict == "FAILED"


def test_a_position_that_two_transactions_have_moved_to_is_work_done_twice() -> None:
    one, other = Said((5, {"t[0]": 5}), (2, {})), Said((5, {"t[0]": 5}), (3, {"t[0]": 8, "t[1]": 5}))
    processes = cast("list[CommandProcess]", [one, other])
    assert counted(processes) == (13, 2), "a retry of failed documents moves no position"
    assert applied_twice(processes) == 1
    assert applied_twice(processes[:1]) == 0


def test_a_change_that_is_delivered_again_is_told_apart_and_its_tombstone_with_it() -> None:
    def event(offset: int, key: str, op: str, sequence: str | None = None) -> Event:
        return Event("t", 0, offset, key, op, None, 1, sequence)

    events = [
        event(0, "1", "c", '["8","9"]'),
        event(1, "1", "d", '["8","10"]'),
        event(2, "1", "tombstone"),
        event(3, "1", "d", '["9","10"]'),  # again: of the commit before it the connector knows more by now
        event(4, "1", "tombstone"),
        event(5, "2", "d", '["8","10"]'),  # of another row
        event(6, "2", "tombstone"),
        event(7, "1", "r"),  # without a place nothing is told
        event(8, "1", "r"),
    ]
    assert [each.offset for each in first_deliveries(events)] == [0, 1, 2, 5, 6, 7, 8]
