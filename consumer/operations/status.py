"""Status: is it fresh against the objective, and if not, where does it wait? Loads no model, changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from consumer.content import table_hash
from consumer.errors import Exit, Fault, Stop
from consumer.events import Record
from consumer.observe import FRESH_HEARTBEAT_SECONDS
from consumer.operations.commits import committed_us
from consumer.operations.offsets import Position, group_offsets, positions
from consumer.operations.stale import stale_counts
from consumer.operations.wiring import content_spec
from consumer.planning import Partition
from consumer.settings import Settings
from consumer.source import Broker, Reader
from consumer.steps import now_us
from consumer.store import Generation, IndexStatus, Store, StoredOffset

T = TypeVar("T")
Verdict = Literal["fresh", "stale", "unknown"]


@dataclass(frozen=True, slots=True)
class Freshness:
    """One partition: seconds since the oldest commit that may not be searchable; None where nothing tells.

    `silent`: at its end, and for longer than a live connector ever is, without a sign of life.
    """

    topic: str
    partition: int
    seconds: float | None
    reason: str
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """Documents of one source by state; `stale` were rendered under other table settings or another model."""

    source: str
    embedded: int = 0
    failed: int = 0
    deleted: int = 0
    retrying: int = 0
    dead: int = 0
    stale: int = 0


@dataclass(slots=True)
class Status:
    """What could be learned; `problems` say what could not. Times are microseconds since 1970, ages seconds."""

    group: str
    threshold_seconds: float
    taken_us: int
    members: int | None = None
    positions: list[Position] = field(default_factory=list)
    stored: list[StoredOffset] = field(default_factory=list)
    freshness: list[Freshness] = field(default_factory=list)
    heartbeats: dict[str, float] = field(default_factory=dict)
    clocks_behind: dict[str, float] = field(default_factory=dict)  # taken out of every age
    sources: list[Source] = field(default_factory=list)
    generation: Generation | None = None
    index: IndexStatus | None = None
    absent: list[str] = field(default_factory=list)  # topics of the settings that Kafka does not have
    problems: list[str] = field(default_factory=list)
    broker_answers: bool = True
    store_answers: bool = True
    exit_code: Exit = Exit.DONE  # of the first fault

    @property
    def lag_seconds(self) -> float | None:
        """The worst partition; None if one cannot be told, or a topic is not there, and no other is surely stale."""
        known = [part.seconds for part in self.freshness if part.seconds is not None]
        worst = max(known, default=0.0)
        complete = bool(known) and len(known) == len(self.freshness) and not self.absent
        return worst if complete or worst > self.threshold_seconds else None

    @property
    def verdict(self) -> Verdict:
        """Fresh: every change older than the objective's threshold is searchable, and the path to it is alive."""
        known = [part.seconds for part in self.freshness if part.seconds is not None]
        if any(seconds > self.threshold_seconds for seconds in known):
            return "stale"
        if any(part.silent for part in self.freshness):
            return "unknown"
        complete = self.broker_answers and self.store_answers and bool(known) and not self.absent
        return "fresh" if complete and len(known) == len(self.freshness) else "unknown"


def read_status(settings: Settings, broker: Broker, store: Store) -> Status:
    """Ask both dependencies; what one of them does not tell is left out and named in `problems`."""
    status = Status(settings.group, settings.slo.threshold_seconds, now_us())
    status.store_answers = _attempt(status, lambda: _ask_store(status, settings, store))
    status.broker_answers = _attempt(status, lambda: _ask_broker(status, settings, broker))
    return status


def _ask_store(status: Status, settings: Settings, store: Store) -> None:
    status.stored = list(group_offsets(store, settings.group).values())
    behind = store.clocks_behind()
    status.clocks_behind = {prefix: behind_us / 1e6 for prefix, behind_us in behind.items()}
    status.problems += [
        f"The clock of the source of {prefix} is {spoken(seconds)} behind; ages are told without it."
        for prefix, seconds in sorted(status.clocks_behind.items())
    ]
    status.heartbeats = {
        prefix: _age(ts_us + behind.get(prefix, 0), status.taken_us) for prefix, ts_us in store.heartbeats().items()
    }
    status.generation = generation = store.generation()
    documents, failed = store.document_counts(), store.failed_counts()
    stale: Mapping[str, int] = {}
    if generation is None:
        status.problems.append("There are no vectors yet: run `embed-consumer migrate`.")
    else:
        status.index = store.index_status(generation)
        hashes = {table.source: table_hash(content_spec(table)) for table in settings.tables}
        stale = stale_counts(store, hashes, generation)
    names = sorted({table.source for table in settings.tables} | {source for source, _ in documents})
    status.sources = [
        Source(
            name,
            embedded=documents.get((name, "embedded"), 0),
            failed=documents.get((name, "failed"), 0),
            deleted=documents.get((name, "deleted"), 0),
            retrying=failed.get((name, "retrying"), 0),
            dead=failed.get((name, "dead"), 0),
            stale=stale.get(name, 0),
        )
        for name in names
    ]


def _ask_broker(status: Status, settings: Settings, broker: Broker) -> None:
    broker.check()
    status.members = broker.members(settings.group)
    if status.members == 0:
        status.problems.append(f"Nothing is applied: group {settings.group} has no live member.")
    stored = {(row.topic, row.partition): row for row in status.stored}
    status.positions = positions(broker, settings.group, [table.topic for table in settings.tables], stored)
    there = {at.topic for at in status.positions}
    status.absent = [table.topic for table in settings.tables if table.topic not in there]
    status.problems += [
        f"Kafka has no topic {topic}: the table has had no row yet, or the name is wrong." for topic in status.absent
    ]
    if not status.store_answers:
        return
    behind = {(at.topic, at.partition): at for at in status.positions if at.lag}
    with Reader(broker, lambda what, **context: None) as reader:
        ids = {at.topic: at.topic_id for at in status.positions}
        starts = {place: _next(at) for place, at in behind.items()}
        oldest = reader.first_records(starts, ids, within=2.0) if starts else {}
    prefixes = {table.topic: table.prefix for table in settings.tables}
    for at in status.positions:
        prefix = prefixes[at.topic]
        heartbeat_age, late = status.heartbeats.get(prefix), status.clocks_behind.get(prefix, 0.0)
        status.freshness.append(freshness(at, oldest, heartbeat_age, status.taken_us, late))


def freshness(
    at: Position,
    oldest: Mapping[Partition, Record | None],
    heartbeat_age: float | None,
    now_us: int,
    clock_behind: float = 0.0,
) -> Freshness:
    """How fresh one partition is. `oldest` has the first record not applied of each partition that is behind.

    Behind: the age of that record's commit. At its end: 0 while heartbeats come, else the age of the last one; without
    any heartbeat nothing tells a quiet source from a dead connector. The source's clock is so many seconds behind.
    """
    place = (at.topic, at.partition)
    if at.lag:
        record = oldest.get(place)
        if record is not None and (since_us := committed_us(record, now_us, int(clock_behind * 1e6))) is not None:
            seconds = _age(since_us, now_us)
            return Freshness(*place, seconds, f"{at.lag} waiting, the oldest {spoken(seconds)} old")
        if record is not None or place not in oldest:
            return Freshness(*place, None, f"{at.lag} waiting, their age could not be read")
    if heartbeat_age is None:
        return Freshness(*place, None, "at its end, but no heartbeat of the connector was ever seen")
    if heartbeat_age > FRESH_HEARTBEAT_SECONDS:
        reason = f"at its end, but the last heartbeat applied is {spoken(heartbeat_age)} old"
        return Freshness(*place, heartbeat_age, reason, silent=True)
    return Freshness(*place, 0.0, "at its end, the connector is alive")


def spoken(seconds: float) -> str:
    """A duration in the unit that a person would use."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def eta_seconds(before: Status, after: Status) -> float | None:
    """Seconds until nothing waits, at the rate between two readings; None if it does not shrink, or nothing waits."""
    seconds = (after.taken_us - before.taken_us) / 1e6
    shrunk = _waiting(before.positions) - _waiting(after.positions)
    waiting = _waiting(after.positions)
    return waiting / shrunk * seconds if waiting and shrunk > 0 and seconds > 0 else None


def _waiting(found: Sequence[Position]) -> int:
    return sum(at.lag for at in found)


def _next(at: Position) -> int:
    return at.first if at.stored is None or at.recreated else max(at.stored, at.first)


def _attempt(status: Status, ask: Callable[[], None]) -> bool:
    try:
        ask()
    except Fault as fault:
        status.problems.append(str(fault))
        if status.exit_code is Exit.DONE:
            status.exit_code = fault.exit_code if isinstance(fault, Stop) else Exit.UNREACHABLE
        return False
    return True


def _age(then_us: int, now_us: int) -> float:
    return max(now_us - then_us, 0) / 1e6
