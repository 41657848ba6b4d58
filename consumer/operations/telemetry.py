"""What the pipeline tells, as metrics, health, lag and one log line a batch."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from operator import itemgetter
from types import MappingProxyType
from typing import Literal

from consumer.errors import Retry
from consumer.events import ChangeEvent, Order, Record
from consumer.observe import BatchTimes, Health, LagTracker, Metrics, Stamps, freshness_batch, get_logger, stage_split
from consumer.operations.commits import committed_us
from consumer.planning import (
    Batch,
    DocumentKey,
    Failure,
    Outcome,
    Partition,
    Planned,
    RejectedEvent,
    Table,
    document_key,
)
from consumer.source import Held, RegistryWait
from consumer.steps import Work, now_us
from consumer.store import Applied

APPLIED = frozenset({"embedded", "unchanged", "deleted"})
QUIET_SECONDS = 10.0  # at most one line per kind of trouble in this time
PATIENT_SECONDS = 60.0  # longer than any pause between two tries: trouble older than this is over

TAKEN_OVER = "another member has these partitions now; what was in hand of them is dropped, and nothing of it written"

_log = get_logger("consumer")


class Telemetry:
    """Implements the pipeline's Report. `kind` says what the work is: a replay is no part of the objective.

    `prefixes` is the connector's of each topic, by which heartbeats feed the gauge.
    """

    def __init__(
        self,
        metrics: Metrics,
        tables: Mapping[str, Table],
        *,
        prefixes: Mapping[str, str] = MappingProxyType({}),
        kind: Literal["live", "replay"] = "live",
    ) -> None:
        self.metrics, self.lag, self.health = metrics, LagTracker(), Health()
        self._tables, self._prefixes, self._kind = tables, prefixes, kind
        self._prefix_of = {table.source: prefixes.get(topic, "") for topic, table in tables.items()}
        self._pending: dict[Partition, Record] = {}
        self._working, self._retried = False, -PATIENT_SECONDS
        self._registry_away = False
        self._assigned: set[Partition] = set()
        self._said: dict[str, float] = {}
        self.held: Mapping[Partition, Held] = {}
        metrics.freshness_lag.computed_by(
            lambda: {(source, str(number)): lag for (source, number), lag in self.lag.lag_seconds(now_us()).items()}
        )
        metrics.clock_behind.computed_by(
            lambda: {(prefix,): us / 1e6 for prefix, us in self.lag.clocks_behind().items()}
        )

    def tick(self) -> None:
        """The main loop has polled."""
        self.health.tick(time.monotonic())

    def positions(self, held: Mapping[Partition, Held], waiting: Collection[Partition] = ()) -> None:
        """Where every held partition stands; called by the main thread, about once a second.

        `waiting` are assigned and not acquired: their gauge rises, for nobody applies what they hold.
        """
        taken_us, now = now_us(), time.monotonic()
        self._assign(held.keys() | set(waiting), taken_us)
        for partition in self.held.keys() - held.keys():
            self.health.partition_revoked(*partition)
        # One worker serves all partitions: while it works, or waits for a dependency, none of them is stuck.
        busy = self._working or now - self._retried < PATIENT_SECONDS
        for partition, state in held.items():
            self.lag.position(*partition, state.stored, state.end, taken_us)
            self.health.partition_progress(*partition, state.stored, state.end, now, in_flight=busy)
        self.held = dict(held)
        self.metrics.queue_depth.set_all({(t, str(p)): max(s.end - s.stored, 0) for (t, p), s in held.items()})
        self.metrics.next_offset.set_all({(self._source(t), t, str(p)): s.stored for (t, p), s in held.items()})
        reason = f"partitions: {len(held)}" if held else "no partition assigned yet"
        self.health.set_ready("assigned", bool(held), reason)

    def waiting(self, batches: Iterable[Batch]) -> None:
        """What is taken and not applied yet: the oldest commit of each partition feeds the gauge.

        Records of a batch without spans have been applied before, as failed: a retry of them is no lag.
        """
        batches, first = tuple(batches), dict[Partition, Record]()
        self._working = bool(batches)
        for batch in batches:
            for record in batch.records if batch.spans else ():
                first.setdefault((record.topic, record.partition), record)
        for partition in self._pending.keys() - first.keys():
            self.lag.pending(*partition, None)
        for partition, record in first.items():
            if self._pending.get(partition) is not record and partition[0] in self._tables:
                behind_us = self.lag.behind_us(self._prefixes.get(partition[0], ""))
                since_us = committed_us(record, taken_us := now_us(), behind_us)
                self.lag.pending(*partition, taken_us if since_us is None else since_us)
        self._pending = first

    def done(self, work: Work, planned: Planned, applied: Applied) -> None:
        """One transaction is committed."""
        for prefix, ts_us in work.heartbeats.items():
            self.lag.heartbeat(prefix, ts_us, work.committed_us)
        if applied.dropped:
            work.outcomes = _turned(work.outcomes, set(applied.dropped), "stale")
        if applied.refused:
            work.outcomes = _turned(work.outcomes, applied.refused, "rejected")
        again = not work.batch.spans  # no position moves: a retry, whose event has been counted before
        if not again:
            self._count(work.outcomes)
            self._freshness(work)
            self._rejected(work.outcomes)
        self._chunks(work, planned, applied)
        self._latency(work)
        self.health.set_ready("store", True, "writable")
        if self._registry_away:
            self._registry_away = False
            self.health.set_ready("registry", True, "answers")
        if (again or self._kind == "replay") and planned.writes:
            self.metrics.reprocessing.labels("retry" if again else "replay").inc(len(planned.writes))
        if planned.writes or work.outcomes:
            self._say(work, planned, applied)

    def fenced(self, partitions: int) -> None:
        """Parts of a batch were dropped because another owner has their partitions."""
        self.metrics.fenced.inc(partitions)
        self.notice(TAKEN_OVER, partitions=partitions)

    def retrying(self, retry: Retry, seconds: float) -> None:
        """A dependency asks for patience: counted every time, said at most every ten seconds."""
        self._retried = time.monotonic()
        self._registry_away = isinstance(retry, RegistryWait)
        stage, dependency = ("decode", "registry") if self._registry_away else ("write", "store")
        self.metrics.errors.labels(stage, type(retry).__name__.lower()).inc()
        self.health.set_ready(dependency, False, retry.what)
        self.notice(retry.what, next_try_seconds=round(seconds, 1))

    def broker(self, answers: bool) -> None:
        """Whether Kafka answered when it was last asked; called about once a second, and counted as often."""
        self.health.set_ready("kafka", answers, "answers" if answers else "does not answer")
        if not answers:
            self.metrics.errors.labels("broker", "unreachable").inc()

    def notice(self, what: str, **context: object) -> None:
        """One warning line, unless the same one was written a moment ago."""
        now = time.monotonic()
        if now - self._said.get(what, -QUIET_SECONDS) >= QUIET_SECONDS:
            self._said[what] = now
            _log.warning(what, **context)

    def _assign(self, partitions: set[Partition], now_us: int) -> None:
        """Start and end the gauge's series as partitions come and go."""
        for topic, number in self._assigned - partitions:
            self.lag.revoked(topic, number)
        for topic, number in partitions - self._assigned:
            if topic in self._tables:
                self.lag.assigned(topic, number, self._source(topic), self._prefixes.get(topic, ""), now_us)
        self._assigned = partitions

    def _source(self, topic: str) -> str:
        return self._tables[topic].source if topic in self._tables else topic

    def _count(self, outcomes: Iterable[Outcome]) -> None:
        counts = Counter(map(itemgetter(0, 1, 2), outcomes))  # source, op, outcome
        for labels, count in counts.items():
            self.metrics.events.labels(*labels).inc(count)

    def _freshness(self, work: Work) -> None:
        """Per applied event, from the commit on the source; snapshot rows and replays apart. Done for every event."""
        backfill: list[int] = []
        stamps: list[Stamps] = []
        live: dict[str, list[int]] = defaultdict(list)
        behind = {source: self.lag.behind_us(prefix) for source, prefix in self._prefix_of.items()}
        for (source, topic, number, snapshot), events in _applied(work.outcomes).items():
            commits = [event.order.ts_us or 0 for event in events]
            if self._kind == "live":
                self.lag.applied_through(topic, number, min(max(commits), work.committed_us))
            if self._kind == "replay" or snapshot:
                backfill += commits
                continue
            live[source] += commits
            late = behind.get(source, 0)
            stamps += [
                (commit + late, event.connector_us, event.broker_us)
                for commit, event in zip(commits, events, strict=True)
                if event.connector_us is not None and event.broker_us is not None
            ]
        for source, commits in live.items():
            self._objective(source, commits, work.committed_us - behind.get(source, 0))
        times = BatchTimes(work.taken_us, work.planned_us, work.embedded_us, work.committed_us)
        for stage, spent in stage_split(stamps, times).items():
            self.metrics.stage.labels(stage).observe_many(spent)
        seconds, _ = freshness_batch(backfill, work.committed_us)
        self.metrics.backfill.labels("replay" if self._kind == "replay" else "snapshot").observe_many(seconds)

    def _objective(self, source: str, commits: Sequence[int], applied_us: int) -> None:
        """How fresh these events were when they became searchable, by their source's clock, and whether in time."""
        seconds, skewed = freshness_batch(commits, applied_us)
        self.metrics.freshness.labels(source).observe_many(seconds)
        self.metrics.clock_skew.inc(skewed)
        good = int((seconds <= self.metrics.slo_threshold_seconds).sum())
        self.metrics.slo_events.labels(source, "good").inc(good)
        self.metrics.slo_events.labels(source, "late").inc(len(seconds) - good)

    def _rejected(self, outcomes: Iterable[Outcome]) -> None:
        """Rejected events miss the objective, those too that cannot be decoded: they may be no snapshot's."""
        for source, _, outcome, event in outcomes if self._kind == "live" else ():
            if outcome == "rejected" and not (event and event.order.snapshot):
                self.metrics.slo_events.labels(source, "rejected").inc()

    def _chunks(self, work: Work, planned: Planned, applied: Applied) -> None:
        """A text that several chunks of the batch have goes through the model once: the others are reused."""
        counts: Counter[tuple[str, str]] = Counter()
        tokens: Counter[str] = Counter()
        uncounted = set(planned.texts)
        for write in planned.writes:
            source = write.key.source
            computed = {chunk.chunk_hash for chunk in write.insert} & uncounted
            uncounted -= computed
            tokens[source] += sum(len(planned.texts[chunk]) for chunk in computed)
            counts[source, "embedded"] += len(computed)
            counts[source, "reused"] += write.kept + len(write.insert) - len(computed)
        counts.update({(source, "deleted"): chunks for source, chunks in applied.deleted.items()})
        for labels, count in counts.items():
            self.metrics.chunks.labels(*labels).inc(count)
        for source, count in tokens.items():
            self.metrics.tokens.labels(source).inc(count)

    def _latency(self, work: Work) -> None:
        for stage, start, end in (
            ("decode", work.taken_us, work.decoded_us or work.taken_us),
            ("plan", work.decoded_us or work.taken_us, work.planned_us),
            ("embed", work.planned_us, work.embedded_us),
            ("write", work.embedded_us, work.committed_us),
        ):
            self.metrics.latency.labels(stage).observe(max(end - start, 0) / 1e6)

    def _say(self, work: Work, planned: Planned, applied: Applied) -> None:
        failures: list[tuple[RejectedEvent | Order, Failure]] = [(reject, reject.failure) for reject in work.rejects]
        refused = applied.refused
        failures += [
            (write.order, failure)
            for write in planned.writes
            if (failure := refused.get(write.key, write.failure)) is not None
        ]
        _log.info(
            "batch",
            events=len(work.outcomes),
            documents=applied.documents,
            embedded=work.embedded,
            failed=len(failures),
            ms=(work.committed_us - work.taken_us) // 1000,
            offsets={f"{a.topic}[{a.partition}]": a.end for a in work.batch.advances},
        )
        for event, failure in failures:
            self.metrics.errors.labels(failure.stage, failure.error_type).inc()
            place = f"{event.topic}[{event.partition}]@{event.offset}"
            self.notice("document failed", where=place, stage=failure.stage, error=failure.error)


def _applied(outcomes: Iterable[Outcome]) -> dict[tuple[str, str, int, bool], list[ChangeEvent]]:
    """Applied events with a commit time, by source, topic, partition, and whether a snapshot read them."""
    groups: dict[tuple[str, str, int, bool], list[ChangeEvent]] = defaultdict(list)
    for source, _, outcome, event in outcomes:
        if event is not None and outcome in APPLIED and (order := event.order).ts_us is not None:
            groups[source, order.topic, order.partition, order.snapshot].append(event)
    return groups


def _turned(outcomes: Iterable[Outcome], documents: Container[DocumentKey], into: str) -> list[Outcome]:
    """Events whose documents turned out otherwise: older than a truncate of their source, or under another key."""
    return [
        outcome._replace(outcome=into)
        if outcome.event is not None and document_key(outcome.source, outcome.event.key) in documents
        else outcome
        for outcome in outcomes
    ]
