"""Counters, histograms and gauges of the catalogue: cheap for a batch of a thousand events, and safe to label.

Own instruments instead of prometheus_client's, for three reasons: a histogram that takes a whole batch under one lock
(its `observe` costs about 1 us an event, ours a tenth), gauges whose series are replaced or computed at scrape as a
whole (a revoked partition leaves nothing behind), and label values that cannot grow without bound. Registry, metric
families and the text format stay prometheus_client's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Generic, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from consumer.observe.logging import get_logger

OTHER = "other"
"""What a label says when its true value would be one too many, or not one of a closed set."""

MAX_SERIES = 2000
"""Label combinations of one counter or histogram; a further one is counted under `other`, so that a bug cannot fill
Prometheus."""

_SHORT_NAME = re.compile(r"[\w.:\-]{1,64}")

Kind = Literal["counter", "gauge", "histogram"]
Key = TypeVar("Key", bound=tuple[str | int, ...])
Child = TypeVar("Child")


@dataclass(frozen=True)
class Label:
    """A label: what it means, and its values where they are a closed set.

    `short_name` admits only identifiers of at most 64 characters: for names that come from code at run time.
    """

    name: str
    meaning: str
    values: tuple[str, ...] = ()
    short_name: bool = False

    def bounded(self, value: str) -> str:
        """`value` if this label may carry it, `other` if not."""
        if (self.values and value not in self.values) or (self.short_name and not _SHORT_NAME.fullmatch(value)):
            return OTHER
        return value


@dataclass(frozen=True)
class Spec:
    """One metric of the catalogue: full name as exposed, kind, help text, labels, histogram bucket bounds."""

    name: str
    kind: Kind
    help: str
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def label_names(self) -> tuple[str, ...]:
        """The label names, in the order `labels(...)` takes their values."""
        return tuple(label.name for label in self.labels)


class _Family(Generic[Child]):
    """Children by label values; each is looked up under a lock once and from a plain dict afterwards."""

    def __init__(self, spec: Spec, new_child: Callable[[], Child]) -> None:
        self.spec = spec
        self._new_child = new_child
        self._known: dict[tuple[str, ...], Child] = {}
        self._children: dict[tuple[str, ...], Child] = {}
        self._lock = Lock()

    def labels(self, *values: str) -> Child:
        """The child for these label values, in the catalogue's order. ValueError: another number of values."""
        return self._known.get(values) or self._find(values)

    def children(self) -> list[tuple[tuple[str, ...], Child]]:
        """Every (label values, child) pair."""
        with self._lock:
            return list(self._children.items())

    def _find(self, values: tuple[str, ...]) -> Child:
        if len(values) != len(self.spec.labels):
            raise ValueError(f"{self.spec.name} takes the labels {self.spec.label_names}, {len(values)} values given")
        bounded = tuple(label.bounded(value) for label, value in zip(self.spec.labels, values, strict=True))
        with self._lock:
            if bounded not in self._children and len(self._children) >= MAX_SERIES:
                bounded = (OTHER,) * len(bounded)
            child = self._children.setdefault(bounded, self._new_child())
            if bounded == values:
                self._known[values] = child
            return child


class CounterChild:
    """One counter series."""

    __slots__ = ("_lock", "_value")

    def __init__(self) -> None:
        self._lock = Lock()
        self._value = 0.0

    def inc(self, amount: float = 1) -> None:
        """Add `amount` (>= 0): call it once for a batch."""
        if amount < 0:
            raise ValueError("a counter only goes up")
        with self._lock:
            self._value += amount

    def value(self) -> float:
        """The count so far."""
        return self._value


class Counter(_Family[CounterChild]):
    """A counter of the catalogue: `metrics.events.labels(source, op, outcome).inc(n)`."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec, CounterChild)
        if not spec.labels:
            self.labels()  # visible as 0 from the start, so that the first increase is one

    def inc(self, amount: float = 1) -> None:
        """Add to the only series of a counter without labels."""
        self.labels().inc(amount)

    def collect(self) -> Iterator[Metric]:
        """What a scrape shows (prometheus_client's Collector protocol)."""
        family = CounterMetricFamily(self.spec.name, self.spec.help, labels=self.spec.label_names)
        for values, child in self.children():
            family.add_metric(values, child.value())
        yield family


class HistogramChild:
    """One histogram series."""

    __slots__ = ("_bounds", "_counts", "_lock", "_names", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = np.array(bounds)
        self._names = (*map(floatToGoString, bounds), "+Inf")
        self._counts = np.zeros(len(bounds) + 1, np.int64)  # the last one: beyond every bound
        self._lock = Lock()
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Record one value, in seconds."""
        self.observe_many((value,))

    def observe_many(self, values: ArrayLike) -> None:
        """Record the values of a batch, in seconds (1-d): one lock, about 0.02 us a value."""
        values = np.asarray(values, np.float64)
        found = np.bincount(np.searchsorted(self._bounds, values), minlength=len(self._counts))
        with self._lock:
            self._counts += found
            self._sum += float(values.sum())

    def cumulative(self) -> tuple[list[tuple[str, float]], float]:
        """([(le, values up to it)], sum): one consistent state."""
        with self._lock:
            counts, total = np.cumsum(self._counts), self._sum
        return [(name, float(count)) for name, count in zip(self._names, counts, strict=True)], total


class Histogram(_Family[HistogramChild]):
    """A histogram of the catalogue: `metrics.freshness.labels(source).observe_many(seconds)`."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec, lambda: HistogramChild(spec.buckets))

    def collect(self) -> Iterator[Metric]:
        """What a scrape shows (prometheus_client's Collector protocol)."""
        family = HistogramMetricFamily(self.spec.name, self.spec.help, labels=self.spec.label_names)
        for values, child in self.children():
            buckets, total = child.cumulative()
            family.add_metric(values, buckets, total)
        yield family


class Gauge:
    """A gauge of the catalogue. Its series are always replaced together: what is not named any more is gone.

    They are not limited in number: what is left out would pass for well, and what is held or configured is finite.
    """

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self._read: Callable[[], list[tuple[tuple[str | int, ...], float]]] = list

    def set_all(self, values: Mapping[Key, float]) -> None:
        """Show exactly these series until the next call: {(label values): value}."""
        frozen = list(values.items())
        self._read = lambda: list(frozen)

    def computed_by(self, read: Callable[[], Mapping[Key, float]]) -> None:
        """Ask `read` at every scrape, in the scrape's thread. If it fails, the gauge is absent and the log says why."""
        self._read = lambda: list(read().items())

    def collect(self) -> Iterator[Metric]:
        """What a scrape shows (prometheus_client's Collector protocol)."""
        family = GaugeMetricFamily(self.spec.name, self.spec.help, labels=self.spec.label_names)
        try:
            series = self._read()
        except Exception:
            # One broken reading must not blind the whole scrape; a missing gauge raises the absent-data alert.
            get_logger("observe").error("a gauge could not be read", metric=self.spec.name, exc_info=True)
            series = []
        for values, value in series:
            bounded = [label.bounded(str(raw)) for label, raw in zip(self.spec.labels, values, strict=True)]
            family.add_metric(bounded, value)
        yield family
