"""Is the process alive, and is it ready: named checks over what the loop reports, evaluated on request.

Pure state: every `now` is an argument, seconds of a monotonic clock. Alive means the loop makes progress, not that it
commits: a long model call, a rebalance or a dependency that is down is not death, and a restart would not help it.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock

READY_CHECKS = ("assigned", "model", "store")
"""What must be said to be ready before the process is."""


@dataclass(frozen=True)
class Check:
    """One named check and, whatever the outcome, its reason in a few words."""

    name: str
    ok: bool
    reason: str


@dataclass(frozen=True)
class Report:
    """The outcome of all checks of one question."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.ok for check in self.checks)

    def body(self) -> dict[str, object]:
        """The JSON body: `{"status": "ok" | "failing", "checks": [{"name", "ok", "reason"}]}`."""
        checks = [{"name": c.name, "ok": c.ok, "reason": c.reason} for c in self.checks]
        return {"status": "ok" if self.ok else "failing", "checks": checks}


@dataclass
class _Progress:
    position: int
    end: int
    since: float  # when the position last moved, or last had a reason not to


class Health:
    """Fed by the pipeline, read by `/healthz` and `/readyz`; safe to use from several threads.

    `tick_timeout` seconds without a poll is a dead loop; a partition whose position stays below its end for
    `stuck_after` seconds, with no batch in flight, is stuck.
    """

    def __init__(self, *, tick_timeout: float = 60.0, stuck_after: float = 300.0) -> None:
        self._tick_timeout, self._stuck_after = tick_timeout, stuck_after
        self._lock = Lock()
        self._ticked: float | None = None
        self._partitions: dict[tuple[str, int], _Progress] = {}
        self._ready: dict[str, Check] = {name: Check(name, False, "not yet") for name in READY_CHECKS}

    def tick(self, now: float) -> None:
        """The main loop has polled."""
        with self._lock:
            self._ticked = now

    def set_ready(self, name: str, ok: bool, reason: str) -> None:
        """One part of readiness (`assigned`, `model`, `store`, or another) and why; no secret in the reason."""
        with self._lock:
            self._ready[name] = Check(name, ok, reason)

    def partition_progress(
        self, topic: str, partition: int, position: int, end: int, now: float, *, in_flight: bool = False
    ) -> None:
        """Where an assigned partition stands: next offset to apply and end offset.

        `in_flight`: a batch of it is being planned, embedded, written, or waits for a dependency to come back.
        """
        with self._lock:
            known = self._partitions.get((topic, partition))
            rests = known is not None and position == known.position and position < end and not in_flight
            # Time counts only from the first report that saw it behind: before, there was nothing to do.
            since = known.since if known is not None and rests and known.position < known.end else now
            self._partitions[topic, partition] = _Progress(position, end, since)

    def partition_revoked(self, topic: str, partition: int) -> None:
        """The partition is no longer this process's business."""
        with self._lock:
            self._partitions.pop((topic, partition), None)

    def live(self, now: float) -> Report:
        """Does the loop make progress? Checks `loop` and each assigned partition.

        No other thread is asked: one that dies ends the process (`operations/run`).
        """
        with self._lock:
            checks = [self._loop_check(now)]
            checks += [
                self._partition_check(f"partition {topic}[{number}]", state, now)
                for (topic, number), state in sorted(self._partitions.items())
            ]
        return Report(tuple(checks))

    def ready(self, now: float) -> Report:
        """Is it assigned, the model loaded, the store writable, and the loop alive?"""
        with self._lock:
            return Report((*self._ready.values(), self._loop_check(now)))

    def _loop_check(self, now: float) -> Check:
        if self._ticked is None:
            return Check("loop", True, "starting: not polled yet")
        age = now - self._ticked
        if age <= self._tick_timeout:
            return Check("loop", True, f"polled {age:.1f} s ago")
        return Check("loop", False, f"not polled for {age:.0f} s, {self._tick_timeout:.0f} s are allowed")

    def _partition_check(self, name: str, state: _Progress, now: float) -> Check:
        if state.position >= state.end:
            return Check(name, True, f"at its end, offset {state.position}")
        rested, behind = now - state.since, state.end - state.position
        if rested <= self._stuck_after:
            return Check(name, True, f"{behind} behind, at offset {state.position}")
        return Check(name, False, f"stuck at offset {state.position} for {rested:.0f} s, {behind} behind")
