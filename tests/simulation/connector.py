"""The connector and the broker: changes become records in partitions, some twice, some late, some unreadable."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

from consumer.events import Record
from consumer.source import Holdings
from tests.simulation.source import Change, Row, Source
from tests.unit.records import TOPIC

TOPIC_ID = "topic-1"
LEFT_OUT = "__debezium_unavailable_value"


class Delivery(NamedTuple):
    """What a record is. `number` is that of the change, or of the last one before a read; `full`: nothing left out."""

    partition: int
    offset: int
    op: str  # c u d r t, tombstone (bare: without its delete), or noise: a record that is none of ours
    key: int
    number: int
    full: bool = True
    junk: bool = False
    complete: bool = True  # with both numbers of the sequence


@dataclass(slots=True)
class Log:
    """The topic's partitions. `ends` may lie beyond the last record (control records)."""

    partitions: list[list[Record]]
    ends: list[int]
    deliveries: dict[tuple[int, int], Delivery] = field(default_factory=dict)
    of_key: dict[int, list[Delivery]] = field(default_factory=dict)

    @classmethod
    def of(cls, partitions: int) -> Log:
        return cls([[] for _ in range(partitions)], [0] * partitions)

    def add_partition(self) -> None:
        """From now on keys are spread over one more."""
        self.partitions.append([])
        self.ends.append(0)

    def append(self, delivery: Delivery, key: bytes | None, value: bytes | None, headers: Any = ()) -> None:
        """Store one record at the delivery's partition."""
        partition = delivery.partition
        offset = self.ends[partition]
        self.partitions[partition].append(Record(TOPIC, TOPIC_ID, partition, offset, 0, key, value, 5, tuple(headers)))
        self.ends[partition] = offset + 1
        placed = delivery._replace(offset=offset)
        self.deliveries[partition, offset] = placed
        self.of_key.setdefault(delivery.key, []).append(placed)

    def read(self, partition: int, offset: int) -> Record | None:
        """The record at exactly this place."""
        return next((r for r in self.partitions[partition] if r.offset == offset), None)

    def read_one_before(self, holdings: Holdings, partition: int, position: int) -> None:
        """As every reader does where it begins: a tombstone is told by the record before it."""
        if (record := self.read(partition, position - 1)) is not None:
            holdings.add(record)

    def between(self, key: int, partition: int, start: int, end: int) -> list[Delivery]:
        """The deliveries of a row at offsets start up to, not including, end."""
        return [d for d in self.of_key.get(key, ()) if d.partition == partition and start <= d.offset < end]


@dataclass(slots=True)
class Connector:
    """Delivers the source's changes in their order, at least once.

    Changes before `complete_from` carry an incomplete sequence: it knew no commit before them. `junk`, `gaps`, `bare`
    (a tombstone whose delete was compacted away), `noise` are probabilities.
    """

    source: Source
    log: Log
    random: Random
    complete_from: int = 0
    junk: float = 0.0
    junk_deletes: bool = True
    gaps: float = 0.0
    bare: float = 0.0
    noise: float = 0.0
    position: int = 0
    furthest: int = 0

    @property
    def behind(self) -> int:
        """How many changes are not delivered yet."""
        return len(self.source.changes) - self.position

    def deliver(self, count: int | None = None) -> None:
        """So many changes, by default all that there are."""
        for _ in range(min(self.behind, self.behind if count is None else count)):
            self._deliver(self.source.changes[self.position])
            self.position += 1
        self.furthest = max(self.furthest, self.position)

    def restart(self, position: int) -> None:
        """Go back to what was acknowledged last; it may know a commit by now."""
        self.position = position
        self.complete_from = self.random.randint(0, self.complete_from)

    def read_row(self, key: int, *, blocking: bool = False) -> None:
        """A row of a snapshot.

        That of an incremental one comes when every change before it is delivered. A blocking one does not wait for the
        stream: changes before it may come after it.
        """
        end = len(self.source.changes) if blocking else self.position
        row = self.source.state(key, end - 1)
        if row is not None and (blocking or self.position == self.furthest):
            delivery = Delivery(self.partition_of(key), 0, "r", key, end - 1)
            ts_us = self.source.changes[end - 1].ts_us
            self.log.append(delivery, key_of(key), envelope("r", key, row, ts_us, None))

    def partition_of(self, key: int) -> int:
        """As a partitioner spreads keys: by their number of partitions."""
        return key % len(self.log.partitions)

    def _deliver(self, change: Change) -> None:
        random, key = self.random, change.key
        partition = self.partition_of(key) if key else random.randrange(len(self.log.partitions))
        if random.random() < self.gaps:
            self.log.ends[partition] += 1
        if random.random() < self.noise:
            self.log.append(Delivery(partition, 0, "noise", 0, change.number), b"\xff", b"{}")
        complete = self._complete(change)
        sequence = [str(change.sequence[0]) if complete else None, str(change.sequence[1])]
        value, junk = envelope(change.op, key, change.row, change.ts_us, sequence, change.left_out), False
        if key and random.random() < self.junk and (self.junk_deletes or change.op != "d"):
            value, junk = b"junk", True
        delivery = Delivery(partition, 0, change.op, key, change.number, not change.left_out, junk, complete)
        bare = change.op == "d" and change.other_key is None and not junk and random.random() < self.bare
        if bare:
            self.log.ends[partition] += 1
        else:
            headers = [(_HEADER[change.op], key_of(change.other_key))] if change.other_key else []
            self.log.append(delivery, key_of(key) if key else None, value, headers)
        if change.op == "d":
            op = "bare" if bare else "tombstone"
            self.log.append(Delivery(partition, 0, op, key, change.number), key_of(key), None)

    def _complete(self, change: Change) -> bool:
        """Both halves of a key change are one message."""
        second = change.op == "c" and change.other_key is not None
        return change.number - second >= self.complete_from


_HEADER = {"d": "__debezium.newkey", "c": "__debezium.oldkey"}


def key_of(key: int) -> bytes:
    """The record's key."""
    return b'{"id": %d}' % key


def envelope(
    op: str, key: int, row: Row | None, ts_us: int, sequence: list[str | None] | None, left_out: bool = False
) -> bytes:
    """The record's value as Debezium writes JSON without schema."""
    after = None
    if row is not None:
        body = LEFT_OUT if left_out else row.body
        after = {"id": key, "title": row.title, "body": body, "price": row.price, "unused": ts_us}
    origin = {"connector": "postgresql", "ts_us": ts_us, "sequence": sequence and json.dumps(sequence)}
    return json.dumps({"before": None, "after": after, "source": origin, "op": op, "ts_ms": 1}).encode()
