"""Debezium's envelope in JSON, with or without embedded schema, to a `ChangeEvent`."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from consumer.errors import Reject
from consumer.events.keys import decode_key
from consumer.events.model import ChangeEvent, Order, Record
from consumer.events.moves import other_key

_SEQUENCE = re.compile(r'\s*\[\s*"?(\d{1,18})"?\s*,\s*"?(\d{1,18})"?\s*\]\s*')  # what 64 bits hold
_ROW_OPS = ("c", "u", "r")
_LAST_US = 253_402_300_799_999_999  # the end of 9999: what both Postgres and Python can say


class _Source(msgspec.Struct):
    ts_ms: int | None = None
    ts_us: int | None = None
    sequence: str | None = None


class _Envelope(msgspec.Struct):
    op: str | None = None
    after: dict[str, Any] | None = None
    source: _Source | None = None
    ts_ms: int | None = None
    ts_us: int | None = None


class _Wire(_Envelope):
    """Either the envelope itself or, where schemas are enabled, the envelope under `payload`."""

    payload: _Envelope | None = None


_wire = msgspec.json.Decoder(_Wire)


class _Heartbeat(msgspec.Struct):
    ts_ms: int | None = None
    ts_us: int | None = None


class _HeartbeatWire(_Heartbeat):
    payload: _Heartbeat | None = None


_heartbeat = msgspec.json.Decoder(_HeartbeatWire)


def decode_event(record: Record, key: bytes | None = None) -> ChangeEvent:
    """One record to one change event; `key` is its canonical key if the caller has decoded it already.

    Raises Reject (stage decode), without coordinates, for anything that is not a Debezium change event.
    """
    if record.value is None:
        return ChangeEvent("tombstone", key or decode_key(record.key), _order(record, None), broker_us=_broker(record))
    envelope = _decode_value(record.value)
    op, source = envelope.op, envelope.source
    if op in ("t", "m"):
        return ChangeEvent(op, b"", _order(record, source), broker_us=_broker(record))  # type: ignore[arg-type]
    if op not in _ROW_OPS and op != "d":
        raise _undecodable("op_unknown", "The value has no op of Debezium's (c u d r t m)")
    if op in _ROW_OPS and envelope.after is None:
        raise _undecodable("after_missing", f"The value has op {op} but no row in after")
    return ChangeEvent(
        op,  # type: ignore[arg-type]
        key or decode_key(record.key),
        _order(record, source, snapshot=op == "r"),
        after=envelope.after if op != "d" else None,
        connector_us=_within_time(_micros(envelope)),
        broker_us=_broker(record),
        other_key=other_key(record, op) if record.headers else None,
    )


def follows_its_delete(record: Record) -> bool:
    """Whether this is the tombstone of the delete right before it: it says nothing that the delete has not said.

    A tombstone has no place in the source's order. Taken by itself it would delete a row anew whose delete was
    delivered again and recognised as old.
    """
    if record.value is not None or record.delete is None:
        return False
    try:
        return _decode_value(record.delete).op == "d"
    except Reject:
        return False


def decode_heartbeat(value: bytes | None) -> int | None:
    """The connector's clock in microseconds in a heartbeat record's value; None where there is no possible time."""
    try:
        wire = _heartbeat.decode(value or b"{}")
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return _within_time(_micros(wire.payload or wire))


def _decode_value(value: bytes) -> _Envelope:
    try:
        wire = _wire.decode(value)
    except msgspec.ValidationError:
        raise _undecodable("not_an_envelope", "The value is JSON, but no Debezium change event") from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise _undecodable("value_undecodable", "The value is not JSON") from None
    return wire.payload if wire.payload is not None else wire


def _undecodable(error_type: str, what: str) -> Reject:
    return Reject(
        f"{what}. Check value.converter and transforms of the connector.", stage="decode", error_type=error_type
    )


def _order(record: Record, source: _Source | None, *, snapshot: bool = False) -> Order:
    given = source.sequence if source is not None and not snapshot else None  # a read's is where the snapshot stood
    sequence = _SEQUENCE.fullmatch(given) if given else None
    ts_us = _micros(source) if source is not None else None
    if ts_us is not None and _within_time(ts_us) is None:
        raise _undecodable("timestamp_out_of_range", "The event's commit time is not between 1970 and 9999")
    return Order(
        record.topic,
        record.topic_id,
        record.partition,
        record.offset,
        (int(sequence[1]), int(sequence[2])) if sequence else None,
        ts_us,
        snapshot,
    )


def _micros(holder: _Source | _Envelope | _Heartbeat) -> int | None:
    if holder.ts_us is not None:
        return holder.ts_us
    return holder.ts_ms * 1000 if holder.ts_ms is not None else None


def _within_time(ts_us: int | None) -> int | None:
    """The instant, or None outside of what both the database and the metrics can hold."""
    return ts_us if ts_us is not None and 0 <= ts_us <= _LAST_US else None


def _broker(record: Record) -> int | None:
    return record.timestamp_ms * 1000 if record.timestamp_ms >= 0 else None
