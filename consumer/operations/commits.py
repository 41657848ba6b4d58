"""When a record's change was committed on the source."""

from __future__ import annotations

from consumer.errors import Reject
from consumer.events import Record, decode_event


def committed_us(record: Record) -> int | None:
    """Microseconds since 1970. Where the event does not tell, when the producer sent it; None if that is not known."""
    try:
        ts_us = decode_event(record).order.ts_us
    except Reject:
        ts_us = None
    sent_us = record.timestamp_ms * 1000 if record.timestamp_ms >= 0 else None
    return sent_us if ts_us is None else ts_us
