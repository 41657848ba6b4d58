"""The whole product on one page: records in; plan, embed, apply; positions out.

Two threads. The main thread polls Kafka, so that membership never waits for the model, and gathers the next batch. One
worker turns the current batch into a plan, embeds what changed, and applies it in ONE database transaction together
with the offsets. A batch is whatever arrived while the one before was worked on: one event, or as many as it may have.
Much model work is applied in parts, and what arrives meanwhile in other partitions takes turns with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from threading import Event
from typing import Protocol

from consumer.errors import Abandoned, Retry
from consumer.events import Record
from consumer.handoff import Handoff, Worker
from consumer.planning import Advance, Batch, Intake, Plan, Planned, Planner, StoredKey, Table, Turns, as_plan
from consumer.steps import Embedder, Registry, Settled, Steps, Store, Told, Work, now_us
from consumer.store import Applied, Fenced, Generation, TooSlow

REVOKE_SECONDS = 5.0  # how long a partition's next owner is kept waiting for a batch that is nearly done

More = Callable[[], Batch | None]  # what has arrived in partitions of which nothing is under way


class Source(Protocol):
    """One member of a consumer group: where records come from."""

    before_revoke: Callable[[], None]

    @property
    def full(self) -> bool: ...
    def poll(self, timeout: float) -> None: ...
    def hold(self) -> None: ...
    def take(self) -> Batch | None: ...
    def take_idle(self) -> Batch | None: ...
    def stored(self, advances: Iterable[Advance]) -> None: ...
    def fenced(self, advances: Iterable[Advance]) -> None: ...
    def expect(self, *, changes: bool) -> None: ...


class Report(Protocol):
    """Who is told what happened: metrics, health, log."""

    def waiting(self, batches: Iterable[Batch]) -> None: ...
    def done(self, work: Work, planned: Planned, applied: Applied) -> None: ...
    def fenced(self, partitions: int) -> None: ...
    def retrying(self, retry: Retry, seconds: float) -> None: ...


class Pipeline:
    """Plan, embed, apply: for a batch of records (the group, a replay) or for stored documents (a retry)."""

    def __init__(
        self, planner: Planner, embedder: Embedder, store: Store, registry: Registry, report: Report, stopping: Event,
        *, generation: Generation, tables: Mapping[str, Table], group: str, max_events: int, max_seconds: float,
        force: bool = False,
    ) -> None:  # fmt: skip
        self._steps = Steps(planner, embedder, store, registry, generation, stopping.wait, report.retrying)
        self._planner, self._report, self._stopping, self._generation = planner, report, stopping, generation.number
        self._tables, self._group, self._force = tables, group, force
        self._max_events, self._max_seconds = max_events, max_seconds

    def process(self, parts: Iterable[Batch], told: Told = lambda _: None, more: More = lambda: None) -> Settled:
        """Apply `parts` in order, in as many transactions as their model work asks for; `told` hears of each.

        What `more` gives meanwhile takes turns with them: a backlog delays nobody else. What is `left` is to be given
        again, unless the process ends; what another owner has taken is dropped.
        """
        turns, settled = Turns(parts), Settled()
        while turns.own and not self._stopping.is_set():
            self._report.waiting(turns.left)
            try:
                instead = self._turn(turns.part, settled, told)
            except Abandoned:
                break
            turns.done(instead, more)
        settled.left = turns.left
        self._report.waiting(settled.left)
        return settled

    def _turn(self, part: Batch, settled: Settled, told: Told) -> Sequence[Batch]:
        """Apply `part`, or tell what to do instead: smaller ones."""
        lost = {(span.topic, span.partition, span.epoch) for span in settled.fenced}
        part = part.without({place for place, span in part.spans.items() if (*place, span.epoch) in lost})
        try:
            return self._apply(part, settled, told) if part.spans or part.records else ()
        except TooSlow as slow:
            self._report.retrying(slow, seconds := 0.0 if len(part.records) > 1 else 1.0)
            self._stopping.wait(seconds)
            return part.cut(len(part.records) // 2) if len(part.records) > 1 else (part,)

    def _apply(self, part: Batch, settled: Settled, told: Told) -> Sequence[Batch]:
        """One transaction for `part`; or else the parts to do instead: smaller ones, or those not taken by others."""
        work = Work(part, taken_us=now_us())
        intake, heads = self._steps.read(work, self._tables)
        while True:
            drafted = self._planner.draft(intake, heads, force=self._force)
            if len(drafted.drafts) > self._max_events:  # a large batch, and not one that changes nothing
                return part.smaller((draft.order for draft in drafted.drafts), self._max_events)
            planned = self._steps.plan(drafted.drafts, work)
            work.outcomes, work.rejects = (*drafted.outcomes, *planned.outcomes), drafted.rejects
            if parts := self._steps.parts(planned, work, self._max_seconds):
                return parts
            if self._steps.embed(planned, work):
                continue
            match self._steps.commit(as_plan(self._group, self._generation, part, intake, drafted, planned), work):
                case Applied() as applied:
                    settled.changed |= bool(drafted.drafts or drafted.rejects)
                    told(part.advances)
                    self._report.done(work, planned, applied)
                    return ()
                case Fenced(partitions):
                    settled.fenced += [span for partition, span in part.spans.items() if partition in partitions]
                    self._report.fenced(len(partitions))
                    return (part,)
                case _:  # another writer was quicker, or a document proved impossible: read and plan again
                    heads = self._steps.heads(intake.keys)

    def take_in(self, records: Sequence[Record]) -> Intake:
        """Decode only. Raises Retry where the schema registry does not answer or may yet learn an id."""
        return self._steps.take_in_now(records, self._tables)

    def reapply(self, records: Sequence[Record]) -> bool:
        """Apply records again that a failed document stands at; no position moves. False if the process ends first."""
        return not self.process([Batch(tuple(records), {})]).left

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
    process: Callable[[Sequence[Batch], Told, More], Settled],
    chore: Callable[[], Callable[[], None] | None],
    tick: Callable[[], None],
    stopping: Event,
) -> None:
    """Poll, process, tell the source what is stored; once `stopping`, finish the transaction under way and return.

    `chore()` is the background work that is due, if any: done between batches, in the worker's thread. `tick` is called
    after every poll. Whatever goes wrong in the worker is raised here.
    """
    job: Future[Settled | None] | None = None
    left: Sequence[Batch] = ()
    handoff = Handoff(source.stored, source.take, source.take_idle)

    def nearly_done() -> None:  # the next owner need not embed again what is about to be stored
        wait([job] if job is not None else [], REVOKE_SECONDS)
        handoff.tell()

    source.before_revoke = nearly_done
    with Worker() as worker:
        try:
            while job is not None or not stopping.is_set():
                if job is not None and source.full:
                    if not wait([job], 0.005).done:
                        source.hold()
                elif job is None or not job.done():
                    source.poll(0.005 if job else 0.2)
                tick()
                alive, done = worker.alive, job is not None and job.done()
                handoff.tell()
                handoff.answer()
                if not (alive or done):
                    raise RuntimeError("The worker's thread has died.")
                if job is not None and done:
                    if result := job.result():
                        source.fenced(result.fenced)
                        source.expect(changes=result.changed)
                        left = result.left
                    job = None
                if job is None and not stopping.is_set():
                    if due := chore():
                        job = worker.submit(due)
                    elif parts := left or handoff.next():
                        job, left = worker.submit(process, parts, handoff.told, handoff.more), ()
        finally:
            stopping.set()  # a worker that waits for the database must not keep a failed process alive
