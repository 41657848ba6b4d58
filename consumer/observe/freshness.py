"""Freshness arithmetic: how old a change was when it became searchable, and how old the oldest unapplied one is now.

Pure: no clock is read here, every time is an argument in microseconds since the epoch (`_us`); results are seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from consumer.observe.skew import Skew

FRESH_HEARTBEAT_SECONDS = 30.0
"""A sign of life older than that is a silence: our connectors beat each second, those of others perhaps every ten."""

_US = 1_000_000


def freshness_seconds(source_ts_us: int, applied_at_us: int) -> tuple[float, bool]:
    """(seconds from source commit to applied, whether the source's clock ran ahead: then the seconds are 0)."""
    difference = applied_at_us - source_ts_us
    return (difference / _US, False) if difference >= 0 else (0.0, True)


def freshness_batch(source_ts_us: Sequence[int], applied_at_us: int) -> tuple[NDArray[np.float64], int]:
    """(seconds per event, how many were skewed): `freshness_seconds` for the events of one commit."""
    difference = applied_at_us - np.array(source_ts_us, np.int64)
    return np.maximum(difference, 0) / _US, int((difference < 0).sum())


Stamps = tuple[int, int, int]
"""When an event was committed on the source, and when connector and producer had it, in microseconds."""


class BatchTimes(NamedTuple):
    """Clock readings in microseconds of one batch: when it was taken up, planned, embedded and committed."""

    taken_us: int
    planned_us: int
    embedded_us: int
    committed_us: int


def stage_split(events: Sequence[Stamps], batch: BatchTimes) -> dict[str, NDArray[np.float64]]:
    """Seconds per stage (connector, broker, queue, plan, embed, write) of each event of one batch.

    A stage that skewed clocks make negative is 0. Planning is decoding, looking up what is stored and comparing.
    """
    own = np.array(events, np.int64).reshape(-1, 3)
    clocks = np.hstack([own, np.broadcast_to(np.array(batch, np.int64), (len(own), 4))])
    spent = np.maximum(np.diff(clocks, axis=1), 0) / _US
    return dict(zip(("connector", "broker", "queue", "plan", "embed", "write"), spent.T, strict=True))


@dataclass
class _Partition:
    """What is known of one assigned partition."""

    source: str
    prefix: str
    assigned_us: int
    pending_us: int | None = None
    applied_us: int | None = None
    # Newest instant up to which nothing was missing: rises with what was applied and with heartbeats while caught up.
    complete_us: int | None = None
    next_offset: int | None = None
    end_offset: int = 0
    seen_end_us: int = 0

    @property
    def caught_up(self) -> bool:
        return self.next_offset is not None and self.next_offset >= self.end_offset


@dataclass(slots=True)
class _Heartbeat:
    """The last one as it was told, and when its connector was surely alive: never later than it was known here."""

    told_us: int
    alive_us: int
    skew: Skew


class LagTracker:
    """The gauge's state: per assigned partition, what is fetched, applied, and still at the broker.

    The loop writes once per batch or poll, scrapes read from their own threads. A partition is reported exactly while
    it is assigned here. What `lag_seconds` answers, first match:

    1. Something is fetched and not applied: the age of its source commit.
    2. The partition's end lies beyond its position, nothing fetched: the age of the newest instant up to which nothing
       was missing (the newest applied commit, or a heartbeat seen while caught up). An upper bound that rises in a
       stall. Nothing known yet, or no position told yet: the age of the assignment.
    3. Caught up, by an observation of the end older than 30 s: at least the age of that observation.
    4. Caught up, and the connector gave a sign of life (heartbeat, or an applied commit) in the last 30 s: 0.
    5. Caught up and the connector silent: the age of its last sign of life.
    6. Caught up, never a heartbeat for the topic's prefix: the time since the assignment or the last applied commit,
       whichever is later, once that commit is older than 30 s. A dead measurement rises, it never stays at 0.

    Commits of snapshot rows carry the snapshot's clock; they count like any other. What was applied or beat by a clock
    that heartbeats show to be behind (`Skew`) counts as so much later.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._partitions: dict[tuple[str, int], _Partition] = {}
        self._heartbeats: dict[str, _Heartbeat] = {}

    def assigned(self, topic: str, partition: int, source: str, prefix: str, now_us: int) -> None:
        """This process owns the partition from `now_us` on; forgets what an earlier assignment knew.

        `prefix` is that of the connector whose heartbeats feed it.
        """
        with self._lock:
            self._partitions[topic, partition] = _Partition(source, prefix, now_us)

    def revoked(self, topic: str, partition: int) -> None:
        """This process no longer owns the partition: its series ends. Later reports about it are ignored."""
        with self._lock:
            self._partitions.pop((topic, partition), None)

    def pending(self, topic: str, partition: int, oldest_unapplied_source_ts_us: int | None) -> None:
        """When the oldest event that is fetched and not applied was committed, by our clock; None: all are applied."""
        with self._lock:
            if state := self._partitions.get((topic, partition)):
                state.pending_us = oldest_unapplied_source_ts_us

    def position(self, topic: str, partition: int, next_offset: int, end_offset: int, now_us: int) -> None:
        """The next offset to fetch and the partition's end, as the broker told it at `now_us`."""
        with self._lock:
            if state := self._partitions.get((topic, partition)):
                state.next_offset, state.end_offset, state.seen_end_us = next_offset, end_offset, now_us
                if state.caught_up and state.pending_us is None:
                    state.complete_us = _newest(state.complete_us, self._alive_us(state))

    def applied_through(self, topic: str, partition: int, source_ts_us: int) -> None:
        """The newest source commit applied in this partition."""
        with self._lock:
            if state := self._partitions.get((topic, partition)):
                committed_us = source_ts_us + self._behind_us(state.prefix)
                state.applied_us = _newest(state.applied_us, committed_us)
                state.complete_us = _newest(state.complete_us, committed_us)

    def heartbeat(self, prefix: str, ts_us: int, now_us: int, behind_us: int = 0) -> None:
        """The connector of `prefix` was alive at `ts_us`, as is known at `now_us`.

        A clock that runs ahead proves life up to now, and only once: the same heartbeat, read again, is none. An older
        one changes nothing. With the first one `behind_us` tells what others know of its clock.
        """
        with self._lock:
            known = self._heartbeats.get(prefix)
            if known is None:
                alive_us = min(ts_us + behind_us, now_us)
                self._heartbeats[prefix] = _Heartbeat(ts_us, alive_us, Skew(behind_us, now_us))
            elif ts_us != known.told_us:
                known.skew.arrived(ts_us, now_us)
                alive_us = min(ts_us + known.skew.behind_us, now_us)
                known.told_us, known.alive_us = ts_us, max(known.alive_us, alive_us)

    def behind_us(self, prefix: str) -> int:
        """How far the clock of the connector's source is behind ours, as far as its heartbeats tell; else 0."""
        with self._lock:
            return self._behind_us(prefix)

    def clocks_behind(self) -> dict[str, int]:
        """{prefix: microseconds that its source's clock is behind}, of every connector whose heartbeats are known."""
        with self._lock:
            return {prefix: known.skew.behind_us for prefix, known in self._heartbeats.items()}

    def lag_seconds(self, now_us: int) -> dict[tuple[str, int], float]:
        """{(source, partition): age in seconds of the oldest commit not applied}; never negative."""
        lags: dict[tuple[str, int], float] = {}
        with self._lock:
            for (_, partition), state in self._partitions.items():
                key = (state.source, partition)
                lags[key] = max(lags.get(key, 0.0), self._lag(state, now_us))
        return lags

    def _lag(self, state: _Partition, now_us: int) -> float:
        if state.pending_us is not None:
            return _age(state.pending_us, now_us)
        if not state.caught_up:
            return _age(state.assigned_us if state.complete_us is None else state.complete_us, now_us)
        unseen = _age(state.seen_end_us, now_us)
        return max(unseen if unseen > FRESH_HEARTBEAT_SECONDS else 0.0, self._silence(state, now_us))

    def _silence(self, state: _Partition, now_us: int) -> float:
        """How long the connector behind a partition that is caught up has given no sign of life; 0 if it lives."""
        heartbeat = self._alive_us(state)
        sign_of_life = _newest(heartbeat, state.applied_us)
        if sign_of_life is not None and _age(sign_of_life, now_us) <= FRESH_HEARTBEAT_SECONDS:
            return 0.0
        if heartbeat is None:
            sign_of_life = _newest(state.assigned_us, sign_of_life)
        return _age(state.assigned_us if sign_of_life is None else sign_of_life, now_us)

    def _behind_us(self, prefix: str) -> int:
        known = self._heartbeats.get(prefix)
        return known.skew.behind_us if known else 0

    def _alive_us(self, state: _Partition) -> int | None:
        """When the partition's connector last beat, None if it never did."""
        heartbeat = self._heartbeats.get(state.prefix)
        return heartbeat.alive_us if heartbeat else None


def _age(then_us: int, now_us: int) -> float:
    return max(now_us - then_us, 0) / _US


def _newest(one: int | None, other: int | None) -> int | None:
    return max((value for value in (one, other) if value is not None), default=None)
