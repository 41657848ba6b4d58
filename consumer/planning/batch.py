"""A batch: records in arrival order, and for each partition the span of offsets they move the group over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from consumer.events import Order, Record
from consumer.planning.model import Advance

Partition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Batch:
    """`spans` may reach beyond the records: offsets that hold no event (control records, compaction gaps)."""

    records: tuple[Record, ...]
    spans: Mapping[Partition, Advance]

    @property
    def advances(self) -> tuple[Advance, ...]:
        """The fence of each partition, in (topic, partition) order."""
        return tuple(self.spans[partition] for partition in sorted(self.spans))

    def cut(self, count: int) -> tuple[Batch, Batch]:
        """The first `count` records and the rest; the rest's spans begin where the first's end."""
        head, tail = self.records[:count], self.records[count:]
        reached = {(r.topic, r.partition): r.offset + 1 for r in head}
        remaining = {(r.topic, r.partition) for r in tail}
        first, rest = {}, {}
        for partition, span in self.spans.items():
            if partition not in remaining:
                first[partition] = span
            elif partition in reached:
                first[partition] = _between(span, span.start, reached[partition])
                rest[partition] = _between(span, reached[partition], span.end)
            else:
                rest[partition] = span
        return Batch(head, first), Batch(tail, rest)

    def parts(self, counts: Iterable[int]) -> tuple[Batch, ...]:
        """The batch in parts of so many records, and the rest."""
        made, rest = [], self
        for count in counts:
            part, rest = rest.cut(count)
            made.append(part)
        return (*made, rest)

    def smaller(self, changing: Iterable[Order], count: int) -> tuple[Batch, ...]:
        """The batch in parts of `count` records; partitions with few bytes in the events `changing` come first."""
        places = {(order.topic, order.partition, order.offset) for order in changing}
        cost = Counter[Partition]()
        for r in self.records:
            if (r.topic, r.partition, r.offset) in places:
                cost[r.topic, r.partition] += r.size
        return self.sorted_by(cost).parts([count] * ((len(self.records) - 1) // count))

    def sorted_by(self, cost: Mapping[Partition, float]) -> Batch:
        """The batch with the records of partitions of low cost first; within a partition the order stays."""
        return replace(self, records=tuple(sorted(self.records, key=lambda r: cost.get((r.topic, r.partition), 0))))

    def without(self, partitions: Collection[Partition]) -> Batch:
        """The batch less everything of `partitions`."""
        if not partitions:
            return self
        records = tuple(r for r in self.records if (r.topic, r.partition) not in partitions)
        return replace(self, records=records, spans={p: span for p, span in self.spans.items() if p not in partitions})


def _between(span: Advance, start: int, end: int) -> Advance:
    return Advance(span.topic, span.partition, span.epoch, start, end)
