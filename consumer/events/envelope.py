"""Debezium's envelope, from whatever bytes it came, to a `ChangeEvent`."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec

from consumer.errors import Reject
from consumer.events.layout import Columns, Layout
from consumer.events.model import ChangeEvent, Order, Record

_BINLOG = re.compile(r".*\.(\d{1,18})", re.DOTALL).fullmatch
_ROWS = 2**20  # of one binlog event, more than fit its size
_LARGEST = 2**63 - 1
_Lsn = Annotated[int, msgspec.Meta(ge=0, le=_LARGEST)]  # what the store's bigint holds
_lsns = msgspec.json.Decoder(tuple[_Lsn | None, _Lsn], strict=False).decode  # the numbers come as texts
_LAST_US = 253_402_300_799_999_999  # the end of 9999: what both Postgres and Python can say


class Source(msgspec.Struct, gc=False):
    """The parts of `source` that say when and where. `snapshot` is not among them: `op` tells a read from a change."""

    ts_ms: int | None = None
    ts_us: int | None = None
    ts_ns: int | None = None
    sequence: str | None = None
    file: str | None = None
    pos: int | None = None
    row: int | None = None


class Envelope(msgspec.Struct, gc=False):
    """An envelope with the row `after`, canonical by the time it leaves its reader."""

    op: str | None = None
    after: dict[str, Any] | None = None
    source: Source | None = None
    ts_ms: int | None = None
    ts_us: int | None = None
    ts_ns: int | None = None


class Origin(msgspec.Struct):
    """The parts of `source` that name the table; read of a truncate alone. MySQL and MariaDB have no schema."""

    name: str | None = None
    db: str | None = None
    schema: str | None = None
    table: str | None = None

    @property
    def named(self) -> str | None:
        """The table as <topic.prefix>.<schema>.<table>, which is its topic unless a router chose another one."""
        parts = (self.name, self.schema or self.db, self.table)
        return ".".join(part or "" for part in parts) if all(parts) else None


def tombstone(record: Record, key: bytes) -> ChangeEvent:
    """A record without value."""
    return ChangeEvent("tombstone", key, _order(record, None), None, None, within_time(record.timestamp_ms * 1000))


def has_row(envelope: Envelope) -> bool:
    """Whether the event is one of a row: c, u, r or d, and not t or m. Raises Reject for what is no event at all."""
    op = envelope.op
    if op == "c" or op == "u" or op == "r":
        if envelope.after is None:
            raise undecodable("after_missing", f"The value has op {op} but no row in after")
        return True
    if op == "t" or op == "m":
        return False
    if op != "d":
        raise undecodable("op_unknown", "The value has no op of Debezium's (c u d r t m)")
    return True


def change(record: Record, envelope: Envelope, key: bytes, other_key: bytes | None, columns: Columns) -> ChangeEvent:
    """The change that an envelope is; `key` is empty for t and m, `other_key` is that of a key change.

    The sequence of PostgreSQL is `source.sequence`; MySQL and MariaDB have none, so theirs is the number of the binlog
    (`source.file`) and, in one integer, position and row within it. A read carries neither: it stands where its
    snapshot stood. Raises Reject for a commit time that no database can hold.
    """
    op, happened_us = envelope.op, within_time(micros(envelope))
    order = _order(record, envelope.source, snapshot=op == "r")
    if op == "t":
        order = _after_waiting(order, envelope.source, happened_us)
    return ChangeEvent(
        op,  # type: ignore[arg-type]
        key,
        order,
        envelope.after if op != "d" else None,
        happened_us,
        within_time(record.timestamp_ms * 1000),
        other_key,
        columns.of_read if op == "r" and isinstance(columns, Layout) else columns,
    )


def undecodable(error_type: str, what: str) -> Reject:
    """A value that is no change event."""
    what = f"{what}. Check value.converter and transforms of the connector."
    return Reject(what, stage="decode", error_type=error_type)


def schema_unusable() -> Reject:
    """A schema, embedded or in the registry, that nothing can be read by."""
    what = "The schema that the event names cannot be used. Check the registry and the converter."
    return Reject(what, stage="decode", error_type="schema_unusable")


def micros(holder: Envelope | Source) -> int | None:
    """When it happened, by the most exact clock that is given, in microseconds since 1970."""
    if holder.ts_us is not None:
        return holder.ts_us
    if holder.ts_ms is not None:
        return holder.ts_ms * 1000
    return holder.ts_ns // 1000 if holder.ts_ns is not None else None


def within_time(ts_us: int | None) -> int | None:
    """The instant, or None outside of what both the database and the metrics can hold."""
    return ts_us if ts_us is not None and 0 <= ts_us <= _LAST_US else None


def _order(record: Record, source: Source | None, *, snapshot: bool = False) -> Order:
    sequence = ts_us = None
    if source is not None:
        ts_us = micros(source)
        if ts_us is not None and not 0 <= ts_us <= _LAST_US:
            raise undecodable("timestamp_out_of_range", "The event's commit time is not between 1970 and 9999")
        if not snapshot:  # a read's sequence is where the snapshot stood
            sequence = _sequence(source)
    return Order(record.topic, record.topic_id, record.partition, record.offset, sequence, ts_us, snapshot)


def _after_waiting(truncate: Order, source: Source | None, happened_us: int | None) -> Order:
    """A truncate's commit time. MySQL and MariaDB give the second in which the statement began.

    If it waited for a lock, that is before rows which it removes. When the connector read it is after them, and the
    sequence tells the rest.
    """
    if source is None or source.file is None or truncate.ts_us is None or happened_us is None:
        return truncate
    return msgspec.structs.replace(truncate, ts_us=max(truncate.ts_us, happened_us))


def _sequence(source: Source) -> tuple[int, int] | None:
    if source.sequence is not None:
        try:
            commit, lsn = _lsns(source.sequence)
        except msgspec.DecodeError:
            return None
        return commit or 0, lsn  # the connector has seen no commit yet: before every other
    if source.file is None or not source.pos:  # a position of 0 is none
        return None
    binlog, row = _BINLOG(source.file), source.row or 0
    place = source.pos * _ROWS + row
    if binlog is None or not 0 <= row < _ROWS or not 0 <= place <= _LARGEST:
        return None
    return int(binlog[1]), place
