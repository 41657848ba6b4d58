"""Background work of a running consumer, a little at a time between batches."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from threading import Thread

from consumer.errors import Abandoned, Fault, Retry
from consumer.observe import get_logger
from consumer.operations.stale import StaleDocuments
from consumer.operations.telemetry import Telemetry
from consumer.pipeline import Pipeline
from consumer.planning import HEARTBEAT_TOPIC, Table
from consumer.steps import now_us
from consumer.store import Generation, Store

INDEX_AGAIN_SECONDS = 10.0  # while another process builds it, or has partitions to load
CLOCK_NOTED_US = 1_000_000  # a clock that differs by less from what is noted is not noted again

_log = get_logger("chores")


@dataclass(slots=True)
class _Chore:
    every: float
    work: Callable[[], None]
    due: float = 0.0


class Chores:
    """Hands out the chore that is due, if any. `retry_due` retries failed documents, `measure_slots` must not wait.

    `build_index` may take long; False where another process was at it, whose end may never come.
    """

    def __init__(
        self,
        store: Store,
        pipeline: Pipeline,
        telemetry: Telemetry,
        tables: list[Table],
        generation: Generation,
        retry_due: Callable[[], None],
        build_index: Callable[[], bool],
        *,
        measure_slots: Callable[[], None] | None = None,
        index_while_loading: bool = False,
        index_again_seconds: float = INDEX_AGAIN_SECONDS,
    ) -> None:
        self._store, self._pipeline, self._telemetry = store, pipeline, telemetry
        self._tables, self._generation = tables, generation
        self._build_index, self._index_due, self._index_again = build_index, 0.0, index_again_seconds
        self._while_loading = index_while_loading
        self._bug: Exception | None = None  # what the index thread died of
        self._at_end: set[str] = set()
        stale = StaleDocuments(store, pipeline, telemetry.metrics, tables, generation)
        self._chores = [
            _Chore(5.0, self._read_heartbeats),
            _Chore(10.0, retry_due),
            _Chore(15.0, self._count_failed),
            _Chore(1.0, stale.count),
            _Chore(1.0, stale.rerender),
            _Chore(600.0, self._expire_moves),
        ]
        if measure_slots:
            self._chores.append(_Chore(10.0, measure_slots))

    def next(self) -> Callable[[], None] | None:
        """The chore that is due, ready to call: it raises nothing that time may heal."""
        now = time.monotonic()
        for chore in self._chores:
            if now >= chore.due:
                chore.due = now + chore.every
                return lambda work=chore.work: self._do(work)  # type: ignore[misc]
        return None

    def index_when_loaded(self) -> None:
        """Start the index build when every assigned partition has been at its end since the start; until it is done.

        With `index_while_loading` at once: there it is small indexes, and one is soon worth having.

        What no fault of ours explains in the build's thread is raised here, in the caller's.
        """
        if self._bug is not None:
            raise self._bug
        if time.monotonic() < self._index_due:
            return
        if self._while_loading or self._loaded():
            self._index_due = inf  # the build itself says when to look again
            Thread(target=self._build, name="index", daemon=True).start()

    def _loaded(self) -> bool:
        held = {p: h for p, h in self._telemetry.held.items() if any(p[0] == table.topic for table in self._tables)}
        self._at_end |= {
            f"{t}[{p}]" for (t, p), state in held.items() if state.stored >= state.end > 0 or not state.end
        }
        return any(state.end for state in held.values()) and all(f"{t}[{p}]" in self._at_end for t, p in held)

    def _do(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Abandoned:
            pass
        except Retry as retry:
            self._telemetry.retrying(retry, 0.0)

    def _build(self) -> None:
        """In its own thread and connection: a build takes minutes, and searches stay exact until it is done."""
        try:
            if self._build_index():
                return
        except Retry as retry:
            _log.warning("the vector index is not built yet; trying again", reason=str(retry))
        except Fault as fault:
            _log.error("the vector index could not be built; search stays exact", error=str(fault))
            return
        except Exception as bug:
            self._bug = bug
        self._index_due = time.monotonic() + self._index_again

    def _read_heartbeats(self) -> None:
        lag, noted = self._telemetry.lag, self._store.clocks_behind()
        for prefix, ts_us in self._store.heartbeats().items():
            lag.heartbeat(prefix, ts_us, now_us(), noted.get(prefix, 0))
        heard = {topic for topic, _ in self._telemetry.held}
        for prefix, behind_us in lag.clocks_behind().items():
            if HEARTBEAT_TOPIC + prefix in heard and abs(behind_us - noted.get(prefix, 0)) >= CLOCK_NOTED_US:
                self._store.note_clock(prefix, behind_us)
        self._telemetry.health.set_ready("store", True, "reachable")  # where nothing is written, nothing else says so

    def _count_failed(self) -> None:
        none = {(table.source, state): 0 for table in self._tables for state in ("retrying", "dead")}
        self._telemetry.metrics.failed_documents.set_all({**none, **self._store.failed_counts()})

    def _expire_moves(self) -> None:
        self._store.expire_moves()
