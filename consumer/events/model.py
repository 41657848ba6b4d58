"""What a record and a change event are. Plain data; decoding is next door."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from consumer.events.layout import Columns

Op = Literal["c", "u", "d", "r", "t", "m", "tombstone"]


class Record(msgspec.Struct, frozen=True, gc=False):
    """One Kafka record as fetched, with the epoch and topic id its partition was acquired under."""

    topic: str
    topic_id: str
    partition: int
    offset: int
    epoch: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int  # producer send time (CreateTime); -1 where the broker has none
    headers: tuple[tuple[str, bytes | None], ...] = ()
    delete: Record | None = None  # of a tombstone: the record right before it, if that has the same key

    @property
    def size(self) -> int:
        """Bytes of key and value."""
        return len(self.key or b"") + len(self.value or b"")


class Order(msgspec.Struct, frozen=True, gc=False):
    """Where an event stands: what the ordering guard compares and a document remembers of its last event.

    `sequence` is Debezium's `source.sequence` as two integers (last commit LSN, LSN), None where either is missing.
    `ts_us` is the commit time on the source's clock in microseconds, None for a tombstone without its delete.
    `snapshot` is true for a read (`r`) row: it must never make a streaming event stale.
    """

    topic: str
    topic_id: str
    partition: int
    offset: int
    sequence: tuple[int, int] | None = None
    ts_us: int | None = None
    snapshot: bool = False


class ChangeEvent(msgspec.Struct, frozen=True, gc=False):
    """One decoded change of one row.

    `key` is the primary key as canonical JSON (sorted names, no blanks); empty for `t` and `m`, which have none.
    `after` maps the columns in use to canonical values (docs/values.md), UNCHANGED where the event leaves one out, and
    is None for `d`, `t`, `m` and tombstones. `connector_us` and `broker_us` are when the connector and the producer
    handled the event, in microseconds since 1970, for the stage metrics. `other_key` is the canonical key that a `d`
    says the row has from now on, or a `c` that it had before. `columns` are those of its table, in their order. `table`
    names the table of a `t`, where it is said.
    """

    op: Op
    key: bytes
    order: Order
    after: dict[str, Any] | None = None
    connector_us: int | None = None
    broker_us: int | None = None
    other_key: bytes | None = None
    columns: Columns = None
    table: str | None = None
