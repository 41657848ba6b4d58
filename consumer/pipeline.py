"""The whole product on one page: records in; plan, embed, apply; positions out.

Two threads. The main thread polls Kafka, so that membership never waits for the model, and gathers the next batch. One
worker turns the current batch into a plan, embeds what changed, and applies it in ONE database transaction together
with the offsets. A batch is whatever arrived while the one before was worked on: one event, or as many as it may have.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from queue import SimpleQueue
from threading import Event
from typing import Protocol

from consumer.errors import Abandoned, Retry
from consumer.events import Record
from consumer.planning import Advance, Batch, Intake, Plan, Planned, Planner, StoredKey, Table, as_plan
from consumer.steps import Embedder, Registry, Settled, Steps, Store, Told, Work, now_us
from consumer.store import Applied, Fenced, Generation, TooSlow

REVOKE_SECONDS = 5.0  # how long a partition's next owner is kept waiting for a batch that is nearly done


class Source(Protocol):
    """One member of a consumer group: where records come from."""

    before_revoke: Callable[[], None]

    @property
    def full(self) -> bool: ...
    def poll(self, timeout: float) -> None: ...
    def hold(self) -> None: ...
    def take(self) -> Batch | None: ...
    def stored(self, advances: Iterable[Advance]) -> None: ...
    def fenced(self, advances: Iterable[Advance]) -> None: ...


class Report(Protocol):
    """Who is told what happened: metrics, health, log."""

    def waiting(self, batches: Iterable[Batch]) -> None: ...
    def done(self, work: Work, planned: Planned, applied: Applied) -> None: ...
    def fenced(self, partitions: int) -> None: ...
    def retrying(self, retry: Retry, seconds: float) -> None: ...


class Pipeline:
    """Plan, embed, apply: for a batch of records (the group, a replay) or for stored documents (a retry)."""

    def __init__(
        self,
        planner: Planner,
        embedder: Embedder,
        store: Store,
        registry: Registry,
        report: Report,
        stopping: Event,
        *,
        generation: Generation,
        tables: Mapping[str, Table],
        group: str,
        max_seconds: float,
        force: bool = False,
    ) -> None:
        self._steps = Steps(planner, embedder, store, registry, generation, stopping.wait, report.retrying)
        self._planner, self._report, self._stopping, self._generation = planner, report, stopping, generation.number
        self._tables, self._group, self._max_seconds, self._force = tables, group, max_seconds, force

    def process(self, batch: Batch, told: Told = lambda _: None) -> Settled:
        """Apply `batch`, in as many transactions as its model work asks for; `told` hears of each what it has stored.

        What it does not hear of, as the process ends or another owner came, will be read again.
        """
        settled, parts = Settled(), deque([batch])
        while parts and not self._stopping.is_set():
            self._report.waiting(parts)
            part = parts.popleft().without({(a.topic, a.partition) for a in settled.fenced})
            try:
                if part.spans or part.records:
                    parts.extendleft(reversed(self._apply(part, settled, told)))
            except TooSlow as slow:
                self._report.retrying(slow, seconds := 0.0 if len(part.records) > 1 else 1.0)
                self._stopping.wait(seconds)
                parts.extendleft(reversed(part.cut(max(1, len(part.records) // 2))))
            except Abandoned:
                parts.appendleft(part)
                break
        settled.complete = not parts
        self._report.waiting(parts)
        return settled

    def _apply(self, part: Batch, settled: Settled, told: Told) -> Sequence[Batch]:
        """One transaction for `part`; or else the parts to do instead: smaller ones, or those not taken by others."""
        work, intake = Work(part, taken_us=now_us()), self._steps.take_in(part.records, self._tables)
        work.heartbeats, work.decoded_us = intake.heartbeats, now_us()
        while True:
            heads = self._steps.heads([*intake.arrivals, *(intake.old_keys - intake.arrivals.keys())])
            drafted = self._planner.draft(intake, heads, force=self._force)
            planned = self._steps.plan(drafted.drafts, work)
            work.outcomes, work.rejects = (*drafted.outcomes, *planned.outcomes), drafted.rejects
            if counts := self._steps.cuts(planned, work, self._max_seconds):
                return part.parts(counts)
            if self._steps.embed(planned, work):
                continue
            match self._steps.commit(as_plan(self._group, self._generation, part, intake, drafted, planned), work):
                case Applied() as applied:
                    told(part.advances)
                    self._report.done(work, planned, applied)
                    return ()
                case Fenced(partitions):
                    settled.fenced += [span for partition, span in part.spans.items() if partition in partitions]
                    self._report.fenced(len(partitions))
                    return (part,)
                case _:  # another writer was quicker, or a document proved impossible: read and plan again
                    continue

    def take_in(self, records: Sequence[Record]) -> Intake:
        """Decode only. Raises Retry where the schema registry does not answer or may yet learn an id."""
        return self._steps.take_in_now(records, self._tables)

    def reapply(self, records: Sequence[Record]) -> bool:
        """Apply records again that a failed document stands at; no position moves. False if the process ends first."""
        return self.process(Batch(tuple(records), {})).complete

    def rerender(self, documents: Sequence[StoredKey]) -> None:
        """Render, embed and write stored fields again, without an event: a retry, or settings that changed.

        A document that changed meanwhile, or whose stored fields lack a column, is left as it is.
        """
        work = Work(Batch((), {}), taken_us=now_us())
        while True:
            heads = self._steps.heads([document.key for document in documents])
            standing = [document for document in documents if heads.get(document.key) == document.stored]
            planned = self._steps.plan(self._planner.redraft(standing), work)
            writes = tuple(w for w in planned.writes if w.failure is None or w.failure.error_type != "incomplete")
            if not writes:
                return
            if self._steps.embed(planned, work):
                continue
            plan = Plan(self._group, self._generation, (), writes)
            if isinstance(applied := self._steps.commit(plan, work), Applied):
                self._report.done(work, planned, applied)
                return


def run(
    source: Source,
    process: Callable[[Batch, Told], Settled],
    chore: Callable[[], Callable[[], None] | None],
    tick: Callable[[], None],
    stopping: Event,
) -> None:
    """Poll, process, tell the source what is stored; once `stopping`, finish the transaction under way and return.

    `chore()` is the background work that is due, if any: done between batches, in the worker's thread. `tick` is called
    after every poll. Whatever goes wrong in the worker is raised here.
    """
    job: Future[Settled | None] | None = None
    committed: SimpleQueue[Sequence[Advance]] = SimpleQueue()

    def tell() -> None:
        while not committed.empty():
            source.stored(committed.get())

    def nearly_done() -> None:  # the next owner need not embed again what is about to be stored
        wait([job] if job is not None else [], REVOKE_SECONDS)
        tell()

    source.before_revoke = nearly_done
    with ThreadPoolExecutor(1, "worker") as worker:
        try:
            while job is not None or not stopping.is_set():
                if job is not None and source.full and not wait([job], 1.0).done:
                    source.hold()
                elif job is None or not job.done():
                    source.poll(0.005 if job else 0.2)
                tick()
                done = job is not None and job.done()
                tell()
                if job is not None and done:
                    if result := job.result():
                        source.fenced(result.fenced)
                    job = None
                if job is None and not stopping.is_set():
                    if due := chore():
                        job = worker.submit(due)
                    elif batch := source.take():
                        job = worker.submit(process, batch, committed.put)
        finally:
            stopping.set()  # a worker that waits for the database must not keep a failed process alive
