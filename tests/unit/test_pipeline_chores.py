"""Background work: an index build that does not succeed is tried again, and an idle consumer becomes ready again."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event
from typing import Any

import pytest

from consumer.errors import Retry, Stop
from consumer.observe import Metrics
from consumer.operations.chores import Chores
from consumer.operations.telemetry import Telemetry
from consumer.source import Held
from tests.unit.records import TOPIC, table

NOW_US, BEHIND_US = time.time_ns() // 1000, 300_000_000


class Quiet:
    """A store without a document."""

    def heartbeats(self) -> dict[str, int]:
        return {}

    def clocks_behind(self) -> dict[str, int]:
        return {}


def loaded(build: Callable[[], bool]) -> tuple[Chores, Telemetry]:
    """Chores of a process whose one partition is at its end."""
    told = Telemetry(Metrics(60.0), {TOPIC: table()})
    told.positions({(TOPIC, 0): Held("id", 1, 9, 9, 9, 9, 9, 9)})
    store: Any = Quiet()
    nothing: Any = None  # neither pipeline nor generation is asked here
    return Chores(store, nothing, told, [table()], nothing, lambda: None, build, index_again_seconds=0.0), told


def test_a_table_in_segments_is_tended_before_everything_is_read_and_for_ever() -> None:
    told = Telemetry(Metrics(60.0), {TOPIC: table()})
    told.positions({(TOPIC, 0): Held("id", 1, 0, 0, 0, 0, 9, 0)})
    begun, store, nothing = [Event(), Event(), Event()], Quiet(), None

    def tend() -> bool:
        next(event for event in begun if not event.is_set()).set()
        return False

    arguments: list[Any] = [store, nothing, told, [table()], nothing, lambda: None, tend]
    loading = Chores(*arguments, index_again_seconds=0.0)
    assert not wait_until_built_again(loading, begun, 0, rounds=50)
    work = Chores(*arguments, index_again_seconds=0.0, index_while_loading=True)
    assert wait_until_built_again(work, begun, 1)


def wait_until_built_again(work: Chores, begun: list[Event], number: int, *, rounds: int = 3000) -> bool:
    """Whether a build of this number begins; asks as the main loop does, a hundred `rounds` a second."""
    for _ in range(rounds):
        work.index_when_loaded()
        if begun[number].wait(0.01):
            return True
    return False


@pytest.mark.parametrize("trouble", [None, Retry("Postgres is restarting.")])
def test_a_build_that_another_process_has_or_that_broke_off_is_looked_at_again(trouble: Retry | None) -> None:
    begun = [Event(), Event(), Event()]

    def build() -> bool:
        number = sum(event.is_set() for event in begun)
        begun[number].set()
        if number == 0 and trouble:
            raise trouble
        return number > 0

    work, _ = loaded(build)
    assert wait_until_built_again(work, begun, 0)
    assert wait_until_built_again(work, begun, 1)
    assert not wait_until_built_again(work, begun, 2, rounds=50), "once it is ready, it is left alone"


def test_a_build_that_only_a_person_can_mend_is_not_tried_again() -> None:
    begun = [Event(), Event()]

    def build() -> bool:
        begun[sum(event.is_set() for event in begun)].set()
        raise Stop("Not the owner.")

    work, _ = loaded(build)
    assert wait_until_built_again(work, begun, 0)
    assert not wait_until_built_again(work, begun, 1, rounds=50)


def test_a_build_that_dies_of_a_bug_ends_the_process_and_not_only_its_thread() -> None:
    def build() -> bool:
        raise ZeroDivisionError("a bug")

    work, _ = loaded(build)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        wait_until_built_again(work, [Event()], 0)


def test_an_idle_consumer_is_ready_again_once_the_database_answers() -> None:
    work, told = loaded(lambda: True)
    told.retrying(Retry("Postgres is away."), 0.0)
    assert not {c.name: c.ok for c in told.health.ready(0.0).checks}["store"]
    first = work.next()
    assert first is not None
    first()
    assert {c.name: c.ok for c in told.health.ready(0.0).checks}["store"]


class Clocks(Quiet):
    """A store that has a heartbeat each time it is asked, of a clock that is 300 s behind; what it is told of that."""

    def __init__(self) -> None:
        self.now, self.noted, self.beats = NOW_US, list[tuple[str, int]](), 0

    def heartbeats(self) -> dict[str, int]:
        self.beats += 1
        return {"shop": self.now - BEHIND_US + self.beats}

    def clocks_behind(self) -> dict[str, int]:
        return dict(self.noted)

    def note_clock(self, prefix: str, behind_us: int) -> None:
        self.noted.append((prefix, behind_us))


@pytest.mark.parametrize(("topic", "noted"), [("__debezium-heartbeat.shop", True), (TOPIC, False)])
def test_who_hears_the_heartbeats_tells_the_others_how_far_the_clock_is_behind(topic: str, noted: bool) -> None:
    told, store, nothing = Telemetry(Metrics(60.0), {TOPIC: table()}, prefixes={TOPIC: "shop"}), Clocks(), None
    told.positions({(topic, 0): Held("id", 1, 9, 9, 9, 9, 9, 9)})
    for second in range(400, 0, -1):
        beat_us = NOW_US - second * 1_000_000
        told.lag.heartbeat("shop", beat_us - BEHIND_US, beat_us)
    assert told.lag.behind_us("shop") == BEHIND_US
    arguments: list[Any] = [store, nothing, told, [table()], nothing, lambda: None, lambda: True]
    for _ in range(2):
        first = Chores(*arguments).next()
        assert first
        first()
    assert len(store.noted) == noted
    assert all(abs(behind_us - BEHIND_US) < 1_000_000 for _, behind_us in store.noted)
