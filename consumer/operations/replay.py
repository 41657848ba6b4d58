"""Replay: read a range of a topic again and apply it, beside a running group.

Ordering guard and compare-and-set make it safe: nothing newer is changed, nothing is lost. Progress is kept in
`offsets` under a name made from what was asked, with an epoch of its own, until the replay is done; the group's rows
and the broker's offsets are not touched.

A replay never leaves a document at an older state than the group has applied. Up to the group's own position that needs
no care: what the range has of a document ends with its last state. A replay that ends before (`--to-offset`) has not
read what comes later, so it leaves two kinds of documents alone, whose last state may lie beyond its end: those that
are not stored at all, and those stored under other table settings, for which the group may have skipped later events
that changed only columns of no use then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from threading import Event

import msgspec

from consumer.errors import Abandoned, Exit, Stop, patiently
from consumer.observe import Metrics, get_logger, serve
from consumer.operations.offsets import JOBS, Position, group_offsets, positions
from consumer.operations.telemetry import Telemetry
from consumer.operations.wiring import build_pipeline, build_tables, load_model, open_store, vector_space
from consumer.pipeline import Pipeline
from consumer.planning import Advance, Batch, Partition, StoredDocument, Table
from consumer.settings import Settings
from consumer.source import Broker, Range, Reader, offsets_at
from consumer.store import Generation, Store, StoredOffset, TopicPartition, Wanted

_log = get_logger("replay")


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for. Neither `from_offset` nor `from_ms` (milliseconds since 1970): from the beginning."""

    topic: str
    partition: int | None = None
    from_offset: int | None = None
    from_ms: int | None = None
    to_offset: int | None = None
    force: bool = False

    @property
    def name(self) -> str:
        """The progress's name: the same request resumes, another one begins its own."""
        asked = [self.topic, self.partition, self.from_offset, self.from_ms, self.to_offset, self.force]
        return JOBS + sha256(msgspec.json.encode(asked)).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Part:
    """One partition's offsets [start, end); `position` is the next one to apply, `group_offset` the group's."""

    topic: str
    topic_id: str
    partition: int
    start: int
    end: int
    position: int
    group_offset: int

    @property
    def events(self) -> int:
        """How many are left, about: offsets without a record count too."""
        return max(self.end - self.position, 0)

    @property
    def cut_short(self) -> bool:
        """Whether the group has applied events beyond the end."""
        return self.end < self.group_offset


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """What a replay will do."""

    name: str
    force: bool
    parts: tuple[Part, ...]

    @property
    def events(self) -> int:
        """How many events are left, about."""
        return sum(part.events for part in self.parts)

    @property
    def resumes(self) -> bool:
        """Whether an earlier run of the same request has got somewhere."""
        return any(part.position > part.start for part in self.parts)


@dataclass(slots=True)
class Summary:
    """What became of the events. `left_alone` are those of documents that a replay with an early end does not touch."""

    finished: bool = False
    outcomes: Counter[str] = field(default_factory=Counter)
    left_alone: int = 0


def plan(request: Request, settings: Settings, broker: Broker, store: Store) -> ReplayPlan:
    """What `request` means now. Changes nothing; raises Stop for what cannot be replayed."""
    if request.topic not in {table.topic for table in settings.tables}:
        known = ", ".join(table.topic for table in settings.tables)
        raise _usage(f"The settings name no table with the topic {request.topic}.", f"Topics: {known}.")
    stored = group_offsets(store, settings.group)
    found = positions(broker, settings.group, [request.topic], stored)
    chosen = [position for position in found if request.partition in (None, position.partition)]
    if not found:
        raise _usage(f"Kafka has no topic {request.topic}.", "Its table has had no row yet, or the name is wrong.")
    if not chosen:
        raise _usage(f"{request.topic} has no partition {request.partition}.", f"Its last one is {len(found) - 1}.")
    if request.from_offset is not None and len(chosen) > 1:
        raise _usage(f"{request.topic} has {len(chosen)} partitions.", "Name one with --partition.")
    starts = _starts(request, broker, chosen)
    progress = {(row.topic, row.partition): row for row in store.offsets(request.name)}
    parts = (_part(request, position, starts[position.topic, position.partition], progress) for position in chosen)
    return ReplayPlan(request.name, request.force, tuple(parts))


def execute(
    replay: ReplayPlan, settings: Settings, broker: Broker, stopping: Event, advanced: Callable[[int], None]
) -> Summary:
    """Replay until the end or until `stopping`; `advanced` hears 0 as it begins, then each transaction's offsets.

    Metrics are served like the consumer's, beside it on the next free port. Raises Stop if another process runs the
    same replay.
    """
    metrics, engine = Metrics(settings.slo.threshold_seconds, settings.slo.objective), load_model(settings)
    engine.warm_up()
    tables = {topic: _past_truncates(table) for topic, table in build_tables(settings, engine).items()}
    telemetry = Telemetry(metrics, tables, kind="replay")
    with open_store(settings) as store, serve(settings.http.listen, metrics, telemetry.health) as http:
        _log.info("replay begins", name=replay.name, events=replay.events, http=http.url)
        generation = store.live_generation(vector_space(settings, engine))
        pipeline = build_pipeline(
            settings, engine, store, generation, tables, telemetry, stopping, group=replay.name, force=replay.force
        )
        with Reader(broker, telemetry.notice) as reader:
            run = _Run(replay, store, pipeline, tables, generation, telemetry, stopping, advanced)
            advanced(0)
            run.all(reader, settings.batch.max_events, int(settings.batch.max_bytes))
    for (_, _, outcome), child in metrics.events.children():
        run.summary.outcomes[outcome] += int(child.value())
    return run.summary


def _past_truncates(table: Table) -> Table:
    """A truncate that the group has passed under on_truncate: stop was decided about then."""
    return replace(table, on_truncate="ignore") if table.on_truncate == "stop" else table


@dataclass(slots=True)
class _Run:
    """One run of a replay."""

    plan: ReplayPlan
    store: Store
    pipeline: Pipeline
    tables: Mapping[str, Table]
    generation: Generation
    telemetry: Telemetry
    stopping: Event
    advanced: Callable[[int], None]
    summary: Summary = field(default_factory=Summary)

    def all(self, reader: Reader, max_events: int, max_bytes: int) -> None:
        """Every part to its end; what stops early goes on from there the next time."""
        ranges = self._acquire()
        for batch in reader.batches(ranges, self.stopping, max_events=max_events, max_bytes=max_bytes):
            try:
                settled = self.pipeline.process([self._safe(batch)], self._advanced)
            except Abandoned:
                break
            if settled.fenced:
                raise Stop(
                    f"Another process has taken the replay {self.plan.name} over.",
                    "Two runs of one replay would only repeat each other's work.",
                    "Let that one finish.",
                )
        if not self.stopping.is_set():
            self._forget()

    def _advanced(self, advances: Sequence[Advance]) -> None:
        self.advanced(sum(advance.end - advance.start for advance in advances))

    def _acquire(self) -> list[Range]:
        """Take the progress over. A row of no use any more (topic made anew, events expired) starts again."""
        rows = {(row.topic, row.partition): row for row in self.store.offsets(self.plan.name)}
        for part in self.plan.parts:
            row = rows.get((part.topic, part.partition))
            if row is not None and not _useful(row, part.topic_id, part.start):
                self.store.reset_offset(self.plan.name, part.topic, part.topic_id, part.partition, part.start)
        wanted = [Wanted(part.topic, part.topic_id, part.partition, part.start) for part in self.plan.parts]
        held = self.store.acquire(self.plan.name, wanted)
        return [
            Range(part.topic, part.topic_id, part.partition, at.epoch, at.next_offset, part.end)
            for part in self.plan.parts
            for at in [held[TopicPartition(part.topic, part.partition)]]
        ]

    def _safe(self, batch: Batch) -> Batch:
        """The batch without events of documents whose last state may lie beyond a part that ends early."""
        short = {(part.topic, part.partition) for part in self.plan.parts if part.cut_short}
        records = [r for r in batch.records if (r.topic, r.partition) in short]
        intake = patiently(lambda: self.pipeline.take_in(records), self.stopping.wait, self.telemetry.retrying)
        if not intake.arrivals:
            return batch
        stored = patiently(
            lambda: self.store.lookup(list(intake.arrivals)), self.stopping.wait, self.telemetry.retrying
        )
        unsafe = {
            (arrival.order.topic, arrival.order.partition, arrival.order.offset)
            for key, arrivals in intake.arrivals.items()
            if key not in stored or self._outdated(stored[key], intake.tables[key])
            for arrival in arrivals
        }
        self.summary.left_alone += len(unsafe)
        kept = tuple(r for r in batch.records if (r.topic, r.partition, r.offset) not in unsafe)
        return replace(batch, records=kept)

    def _outdated(self, stored: StoredDocument, table: Table) -> bool:
        current = (table.content.table_hash, self.generation.number)
        return stored.state == "embedded" and (stored.table_hash, stored.generation) != current

    def _forget(self) -> None:
        """Done: progress serves those that stop early, and the same request begins anew the next time."""
        with suppress(Abandoned):
            patiently(lambda: self.store.forget_job(self.plan.name), self.stopping.wait, self.telemetry.retrying)
            self.summary.finished = True


def _starts(request: Request, broker: Broker, chosen: list[Position]) -> dict[Partition, int]:
    places = {(position.topic, position.partition): position for position in chosen}
    if request.from_ms is not None:
        return offsets_at(broker, places, request.from_ms)
    if request.from_offset is None:
        return {place: position.first for place, position in places.items()}
    for (topic, number), position in places.items():
        if request.from_offset < position.first:
            raise _usage(
                f"Offset {request.from_offset} of {topic}[{number}] has expired.",
                f"The first one there is is {position.first}; --from-beginning starts there.",
            )
        if request.from_offset > position.end:
            raise _usage(f"{topic}[{number}] has no offset {request.from_offset} yet.", f"It ends at {position.end}.")
    return dict.fromkeys(places, request.from_offset)


def _part(request: Request, at: Position, start: int, progress: Mapping[Partition, StoredOffset]) -> Part:
    """The part of one partition: never beyond what the group had applied when the replay was planned."""
    if at.recreated:
        raise Stop(
            f"The topic {at.topic} was made anew since the group read it.",
            "Its offsets mean other events now.",
            f"Decide first: `embed-consumer offsets reset --topic {at.topic} --partition {at.partition} "
            "--to beginning --execute`.",
        )
    applied = at.stored if at.stored is not None else at.first
    end = applied if request.to_offset is None else min(request.to_offset, applied)
    start = min(start, end)
    row = progress.get((at.topic, at.partition))
    position = row.next_offset if row is not None and _useful(row, at.topic_id, start) else start
    return Part(at.topic, at.topic_id, at.partition, start, end, position, applied)


def _useful(row: StoredOffset, topic_id: str, start: int) -> bool:
    return row.topic_id == topic_id and row.next_offset >= start


def _usage(what: str, fix: str) -> Stop:
    return Stop(what, "", fix, exit_code=Exit.USAGE)
