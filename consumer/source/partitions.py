"""What this member holds: its partitions with epoch and position, and the records fetched but not yet taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import msgspec

from consumer.events import Record
from consumer.planning import Advance, Batch, Partition

CALM = 4  # times as many events in a batch where, as in the one before, nothing is to be written but its offsets


@dataclass(slots=True)
class Held:
    """One acquired partition. Offsets are "next": `stored` in the database, `taken` by batches, `fetched` from Kafka.

    `reached` is the end of what is known to hold no further event: at the partition's end, that end. Reading begins at
    `first`, which may be one before `taken`: `last` is the record before the next one, for a tombstone.
    """

    topic_id: str
    epoch: int
    stored: int
    taken: int
    fetched: int
    reached: int
    end: int
    first: int
    last: Record | None = None


class Holdings:
    """The held partitions and the bounded buffer of their records, in arrival order."""

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self._max_events, self._max_bytes = max_events, max_bytes
        self._most = max_events  # that the next batch may have
        self._taken_last = 0  # records of the last batch
        self._buffer: list[Record] = []
        self._bytes = 0
        self._greedy: frozenset[Partition] | None = None  # of the buffer as it is: asked a hundred times a second
        self.held: dict[Partition, Held] = {}

    @property
    def full(self) -> bool:
        """Whether the next batch has all it may have."""
        return len(self._buffer) >= self._most or self._bytes >= self._max_bytes

    def expect(self, *, changes: bool) -> None:
        """Whether the next batch, like the last, has something to write. One that has not may be larger: if the last
        was full, for what comes after a pause is anything."""
        calm = not changes and self._taken_last >= self._max_events
        self._most, self._greedy = self._max_events * (CALM if calm else 1), None

    def greedy(self) -> frozenset[Partition]:
        """Who fills the buffer: partitions that have an even share of it, or more."""
        if self._greedy is None:
            count, size = Counter[Partition](), Counter[Partition]()
            for record in self._buffer:
                count[record.topic, record.partition] += 1
                size[record.topic, record.partition] += record.size
            n = len(self.held) or 1
            full, large = self._most / n, self._max_bytes / n
            self._greedy = frozenset(p for p in count if count[p] >= full or size[p] >= large)
        return self._greedy

    @property
    def room(self) -> int:
        """How many more records fit."""
        return max(self._most - len(self._buffer), 0)

    def acquire(self, partition: Partition, topic_id: str, epoch: int, position: int, end: int) -> None:
        """Hold the partition from `position` on, under `epoch`."""
        self.drop([partition])
        first = max(position - 1, 0)
        self.held[partition] = Held(topic_id, epoch, position, position, position, position, end, first)

    def drop(self, partitions: Collection[Partition]) -> None:
        """Forget partitions and everything fetched from them."""
        for partition in partitions:
            self.held.pop(partition, None)
        self._keep(r for r in self._buffer if (r.topic, r.partition) not in partitions)

    def add(self, record: Record) -> None:
        """Buffer one fetched record; one that was fetched before (a seek races with the prefetch) is passed over.

        A tombstone is told by its delete, which may be in the batch before, or before all that this member has read.
        """
        held = self.held[record.topic, record.partition]
        if record.offset < held.fetched:
            if record.offset == held.fetched - 1:
                held.last = record
            return
        held.fetched = held.reached = record.offset + 1
        held.end = max(held.end, held.fetched)
        if record.value is None and held.last is not None and held.last.key == record.key:
            record = msgspec.structs.replace(record, delete=held.last)
        held.last = record
        self._buffer.append(record)
        self._bytes += record.size
        self._greedy = None

    def reached_end(self, partition: Partition, offset: int) -> None:
        """The broker says that nothing stands between what was fetched and `offset`, the partition's end."""
        if held := self.held.get(partition):
            held.reached, held.end = max(held.reached, offset), max(held.end, offset)

    def take(self) -> Batch | None:
        """Everything buffered as a batch, None if there is nothing to store."""
        return self._taken(self.held, self._buffer)

    def take_idle(self) -> Batch | None:
        """What is buffered of partitions of which nothing else is taken and not stored; None if no record is."""
        idle = {partition for partition, held in self.held.items() if held.taken == held.stored}
        records = [record for record in self._buffer if (record.topic, record.partition) in idle]
        return self._taken(idle, records) if records else None

    def _taken(self, partitions: Collection[Partition], records: Sequence[Record]) -> Batch | None:
        spans = {}
        for partition in partitions:
            held = self.held[partition]
            if held.reached > held.taken:
                spans[partition] = Advance(*partition, held.epoch, held.taken, held.reached)
                held.taken = held.reached
        batch = Batch(tuple(records), spans)
        self._taken_last = len(records)
        self._keep(r for r in self._buffer if (r.topic, r.partition) not in partitions)
        return batch if spans else None

    def stored(self, advances: Iterable[Advance]) -> None:
        """These positions are committed in the database."""
        for advance in advances:
            held = self.held.get((advance.topic, advance.partition))
            if held and held.epoch == advance.epoch:
                held.stored = max(held.stored, advance.end)

    def oldest(self) -> dict[Partition, Record]:
        """The first buffered record of each partition."""
        first: dict[Partition, Record] = {}
        for record in self._buffer:
            first.setdefault((record.topic, record.partition), record)
        return first

    def _keep(self, records: Iterable[Record]) -> None:
        self._buffer = list(records)
        self._bytes = sum(record.size for record in self._buffer)
        self._greedy = None
