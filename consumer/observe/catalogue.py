"""The metric catalogue: every name, type, label, bucket and help text in one place.

`Metrics` holds the instruments of one consumer in its own registry; `metrics_markdown()` writes `schemas/metrics.md`.
Label values come from the settings (sources, topics), from small numbers (partitions) or from closed sets: never from
documents, keys or error messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from prometheus_client import CollectorRegistry, ProcessCollector

from consumer.observe.instruments import Counter, Gauge, Histogram, Kind, Label, Spec

_PREFIX = "embedding_pipeline_"

OPS = ("c", "u", "d", "r", "t", "m", "tombstone", "unknown")
EVENT_OUTCOMES = ("embedded", "unchanged", "deleted", "stale", "rejected", "ignored")
CHUNK_OUTCOMES = ("embedded", "reused", "deleted")
FRESHNESS_STAGES = ("connector", "broker", "queue", "plan", "embed", "write")
LATENCY_STAGES = ("decode", "plan", "embed", "write")
BACKFILL_KINDS = ("snapshot", "replay")
SLO_RESULTS = ("good", "late", "rejected")
FAILED_STATES = ("retrying", "dead")
REPROCESSING_REASONS = ("replay", "retry", "reconcile", "reindex")

_MINUTE, _HOUR, _DAY = 60, 3600, 86400

FRESHNESS_BUCKETS = (
    *(0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 20, 30),
    *(_MINUTE, 2 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 30 * _MINUTE),
    *(_HOUR, 3 * _HOUR, 12 * _HOUR, _DAY, 3 * _DAY, 7 * _DAY),
)
"""Seconds, 10 ms to a week: a stalled connector that catches up after a weekend still lands in a finite bucket."""

LATENCY_BUCKETS = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
"""Seconds of work on one batch."""

_SOURCE = Label("source", "name of the table's entry in the settings (`source`, by default the topic)")
_PARTITION = Label("partition", "Kafka partition number")


def _spec(name: str, kind: Kind, text: str, *labels: Label, buckets: tuple[float, ...] = ()) -> Spec:
    return Spec(_PREFIX + name, kind, text, labels, buckets)


FRESHNESS = _spec(
    "freshness_seconds",
    "histogram",
    "Seconds from a row's commit on the source to the return of the commit that made its vectors searchable; "
    "one value per applied streaming event.",
    _SOURCE,
    buckets=FRESHNESS_BUCKETS,
)
FRESHNESS_LAG = _spec(
    "freshness_lag_seconds",
    "gauge",
    "Age in seconds of the oldest source commit not yet applied; when idle, fed by heartbeats, so that 0 means "
    "caught up and the connector alive.",
    _SOURCE,
    _PARTITION,
)
STAGE = _spec(
    "stage_seconds",
    "histogram",
    "Where an event's freshness went, in seconds per stage.",
    Label("stage", "part of the way from source commit to searchable", FRESHNESS_STAGES),
    buckets=FRESHNESS_BUCKETS,
)
BACKFILL = _spec(
    "backfill_seconds",
    "histogram",
    "Seconds from an event's source timestamp to searchable for snapshot and replay events, which are in no "
    "freshness objective.",
    Label("kind", "why the event came again", BACKFILL_KINDS),
    buckets=FRESHNESS_BUCKETS,
)
SLO_EVENTS = _spec(
    "slo_events_total",
    "counter",
    "Streaming events that count in the objective; stale, ignored, snapshot and replay events are not among them.",
    _SOURCE,
    Label("result", "good: searchable within the threshold; late: after it; rejected: not applied", SLO_RESULTS),
)
SLO_OBJECTIVE = _spec(
    "slo_objective_ratio", "gauge", "The setting `slo.objective`: the share of streaming events that is to be good."
)
SLO_THRESHOLD = _spec("slo_threshold_seconds", "gauge", "The setting `slo.threshold_seconds`.")
CLOCK_SKEW = _spec("clock_skew_total", "counter", "Events whose source commit lay in the future and counted as 0 s.")
CLOCK_BEHIND = _spec(
    "clock_behind_seconds",
    "gauge",
    "How far a source's clock is behind the consumer's: its heartbeats have arrived with this delay, and no other, for "
    "five minutes. Freshness is measured without it. 0 below 5 s, or where nothing tells.",
    Label("prefix", "the connector's `topic.prefix`"),
)
FENCED = _spec("fenced_total", "counter", "Batch parts dropped because another process owns their partition.")
EVENTS = _spec(
    "events_total",
    "counter",
    "Change events by what became of them.",
    _SOURCE,
    Label("op", "the event's operation", OPS),
    Label("outcome", "what became of it", EVENT_OUTCOMES),
)
CHUNKS = _spec(
    "chunks_total",
    "counter",
    "Chunks embedded, reused by content hash, or deleted.",
    _SOURCE,
    Label("outcome", "what became of it", CHUNK_OUTCOMES),
)
TOKENS = _spec("tokens_total", "counter", "Tokens sent through the model.", _SOURCE)
LATENCY = _spec(
    "latency_seconds",
    "histogram",
    "Seconds of work per batch and stage.",
    Label("stage", "step of the loop", LATENCY_STAGES),
    buckets=LATENCY_BUCKETS,
)
ERRORS = _spec(
    "errors_total",
    "counter",
    "Errors by stage and type, retried ones included.",
    Label("stage", "where it happened", short_name=True),
    Label("error_type", "short name of the error", short_name=True),
)
QUEUE_DEPTH = _spec(
    "queue_depth", "gauge", "Events of a partition not yet applied.", Label("topic", "Kafka topic"), _PARTITION
)
TOPIC_PARTITIONS = _spec(
    "topic_partitions",
    "gauge",
    "Partitions that Kafka says a table's topic has, 0 while there is no such topic. What of them has no "
    "`freshness_lag_seconds` is measured by nobody.",
    _SOURCE,
    Label("topic", "Kafka topic"),
    Label("prefix", "the connector's `topic.prefix`"),
)
NEXT_OFFSET = _spec(
    "next_offset",
    "gauge",
    "Position of a partition: the offset of the next event to apply. One that rests while events wait is stuck, "
    "whatever else is being applied.",
    _SOURCE,
    Label("topic", "Kafka topic"),
    _PARTITION,
)
FAILED_DOCUMENTS = _spec(
    "failed_documents",
    "gauge",
    "Failed documents in the store (database-wide: aggregate with max over processes).",
    _SOURCE,
    Label("state", "is it tried again?", FAILED_STATES),
)
STALE_DOCUMENTS = _spec(
    "stale_documents",
    "gauge",
    "Documents rendered under other table settings or another configuration (database-wide: aggregate with max over "
    "processes).",
    _SOURCE,
)
SLOT_RETAINED_BYTES = _spec(
    "slot_retained_bytes",
    "gauge",
    "Bytes of WAL that a logical replication slot of the source makes it keep: what the connector has not confirmed. "
    "Only where `source.dsn` is set, and only while the source answers (database-wide: aggregate with max over "
    "processes).",
    Label("slot", "name of the replication slot"),
)
REPROCESSING = _spec(
    "reprocessing_total",
    "counter",
    "Documents processed again, by reason.",
    Label("reason", "what asked for it", REPROCESSING_REASONS),
)
BUILD_INFO = _spec(
    "build_info",
    "gauge",
    "Always 1; its labels say what runs.",
    Label("version", "version of this program"),
    Label("model", "embedding model"),
    Label("config_hash", "hash of what makes vectors comparable"),
    Label("device", "where the model runs"),
)

CATALOGUE = (
    *(FRESHNESS, FRESHNESS_LAG, STAGE, BACKFILL, SLO_EVENTS, SLO_OBJECTIVE, SLO_THRESHOLD, CLOCK_SKEW),
    *(CLOCK_BEHIND, FENCED),
    *(EVENTS, CHUNKS, TOKENS, LATENCY, ERRORS),
    *(QUEUE_DEPTH, TOPIC_PARTITIONS, NEXT_OFFSET, FAILED_DOCUMENTS, STALE_DOCUMENTS, SLOT_RETAINED_BYTES),
    *(REPROCESSING, BUILD_INFO),
)


def with_threshold(buckets: tuple[float, ...], threshold_seconds: float) -> tuple[float, ...]:
    """`buckets` plus the objective's threshold: only a bucket bound can be asked for exactly."""
    return tuple(sorted({*map(float, buckets), float(threshold_seconds)}))


class Metrics:
    """The instruments of one consumer, each an attribute, in their own registry.

    `slo_threshold_seconds` becomes a bucket of the freshness histogram; it and `slo_objective` are shown as gauges, so
    that rules and dashboards follow the settings. Counters and histograms:
    `metrics.events.labels(source, op, outcome).inc(n)`, `metrics.freshness.labels(source).observe_many(seconds)`, once
    per batch. Gauges: `set_all({labels: value})` or `computed_by(callable)`, read at scrape.
    """

    def __init__(self, slo_threshold_seconds: float = 60, slo_objective: float = 0.99) -> None:
        self.slo_threshold_seconds = slo_threshold_seconds
        bounds = with_threshold(FRESHNESS_BUCKETS, slo_threshold_seconds)
        self.freshness = Histogram(replace(FRESHNESS, buckets=bounds))
        self.freshness_lag = Gauge(FRESHNESS_LAG)
        self.stage = Histogram(STAGE)
        self.backfill = Histogram(BACKFILL)
        self.slo_events = Counter(SLO_EVENTS)
        self.slo_objective = Gauge(SLO_OBJECTIVE)
        self.slo_objective.set_all({(): slo_objective})
        self.slo_threshold = Gauge(SLO_THRESHOLD)
        self.slo_threshold.set_all({(): slo_threshold_seconds})
        self.clock_skew = Counter(CLOCK_SKEW)
        self.clock_behind = Gauge(CLOCK_BEHIND)
        self.fenced = Counter(FENCED)
        self.events = Counter(EVENTS)
        self.chunks = Counter(CHUNKS)
        self.tokens = Counter(TOKENS)
        self.latency = Histogram(LATENCY)
        self.errors = Counter(ERRORS)
        self.queue_depth = Gauge(QUEUE_DEPTH)
        self.topic_partitions = Gauge(TOPIC_PARTITIONS)
        self.next_offset = Gauge(NEXT_OFFSET)
        self.failed_documents = Gauge(FAILED_DOCUMENTS)
        self.stale_documents = Gauge(STALE_DOCUMENTS)
        self.slot_retained_bytes = Gauge(SLOT_RETAINED_BYTES)
        self.reprocessing = Counter(REPROCESSING)
        self.build_info = Gauge(BUILD_INFO)
        self.registry = CollectorRegistry()
        for instrument in self.instruments():
            self.registry.register(instrument)
        ProcessCollector(registry=self.registry)  # process_*: memory, CPU, file descriptors
        self._declare_closed_sets()

    def instruments(self) -> Iterator[Counter | Gauge | Histogram]:
        """Every instrument, in the order of their names in this class."""
        return (part for part in vars(self).values() if isinstance(part, Counter | Gauge | Histogram))

    def declare(self, sources: Iterable[str]) -> None:
        """Show the sources' series at 0 before their first event: `rate()` misses what a series is born with."""
        for source in sources:
            self.freshness.labels(source)
            self.tokens.labels(source)
            for result in SLO_RESULTS:
                self.slo_events.labels(source, result)
            for outcome in CHUNK_OUTCOMES:
                self.chunks.labels(source, outcome)
            for op in ("c", "u", "d", "r"):
                for outcome in EVENT_OUTCOMES:
                    self.events.labels(source, op, outcome)
            self.events.labels(source, "unknown", "rejected")  # what could not be decoded

    def _declare_closed_sets(self) -> None:
        for family in (self.stage, self.backfill, self.latency, self.reprocessing):
            (label,) = family.spec.labels
            for value in label.values:
                family.labels(value)


def metrics_markdown() -> str:
    """The text of `schemas/metrics.md`."""
    lines = [
        "# Metrics",
        "",
        "Generated from `consumer/observe/catalogue.py`; a test holds the two together. All times are seconds.",
        "Beside these, `/metrics` carries the standard `process_*` series (memory, CPU, file descriptors) of Linux.",
        "",
        "| name | type | labels | meaning |",
        "|---|---|---|---|",
    ]
    lines += [f"| `{s.name}` | {s.kind} | {', '.join(s.label_names) or '–'} | {s.help} |" for s in CATALOGUE]
    lines += ["", "## Labels", "", "| metric | label | meaning | values |", "|---|---|---|---|"]
    lines += [
        f"| `{s.name}` | {label.name} | {label.meaning} | {_values(label)} |" for s in CATALOGUE for label in s.labels
    ]
    lines += ["", "A value outside a closed set is shown as `other`.", "", "## Buckets", ""]
    lines += [f"- `{s.name}`: {', '.join(f'{b:g}' for b in s.buckets)}{_note(s)}" for s in CATALOGUE if s.buckets]
    return "\n".join(lines) + "\n"


def _values(label: Label) -> str:
    if label.values:
        return ", ".join(label.values)
    return "a short identifier" if label.short_name else "open"


def _note(spec: Spec) -> str:
    return " and `slo.threshold_seconds`" if spec is FRESHNESS else ""
