"""When a record's change was committed on the source."""

from __future__ import annotations

from consumer.errors import Reject
from consumer.events import Record, decode_event


def committed_us(record: Record, now_us: int, behind_us: int = 0) -> int | None:
    """Microseconds since 1970, at most `now_us`; None where nothing tells.

    Where the event does not tell, or tells of a time to come, it is when the producer sent it: a source whose clock
    runs ahead must not make what waits look new for as long. The source's clock is known to be `behind_us` behind.
    """
    try:
        told_us = decode_event(record).order.ts_us
        told_us = None if told_us is None else told_us + behind_us
    except Reject:
        told_us = None
    sent_us = record.timestamp_ms * 1000 if record.timestamp_ms >= 0 else None
    known = [ts_us for ts_us in (told_us, sent_us) if ts_us is not None]
    return next((ts_us for ts_us in known if ts_us <= now_us), now_us if known else None)
