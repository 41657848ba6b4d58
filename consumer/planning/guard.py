"""The ordering guard: is an event newer than what a document already holds? Pure arithmetic on two `Order`s."""

from __future__ import annotations

from typing import Literal

import msgspec

from consumer.events import Order

Verdict = Literal["newer", "same", "stale"]


def classify(event: Order, stored: Order) -> Verdict:
    """`same` is the very event the document stands at; a stale event changes nothing.

    The Kafka offset decides within a partition of one topic, except for an event the connector delivered again, which
    carries a sequence and a commit time the document has already seen. `source.lsn` alone is no order: a change keeps
    its own WAL position, and transactions arrive by commit. Both tests together keep an LSN that restarted (a restored
    or failed-over source) from hiding new events.
    """
    if event.topic_id != stored.topic_id:
        return "newer"  # the topic was made anew: its offsets say nothing about the old one's
    same_partition = event.partition == stored.partition
    if same_partition and event.offset <= stored.offset:
        return "same" if event.offset == stored.offset else "stale"
    if event.sequence is not None and stored.sequence is not None:
        redelivered = event.sequence <= stored.sequence and _not_later(event, stored)
        return "stale" if redelivered else "newer"
    return "newer" if same_partition else _across_partitions(event, stored)


def _across_partitions(event: Order, stored: Order) -> Verdict:
    """Two partitions share no offsets; without two sequences only commit time is left."""
    if event.ts_us is None:
        return "stale"  # a lone tombstone from a partition the row has left must not delete the row that moved on
    if stored.ts_us is None or (stored.snapshot and not event.snapshot):
        return "newer"
    return "stale" if event.ts_us < stored.ts_us else "newer"


def _not_later(event: Order, stored: Order) -> bool:
    return event.ts_us is None or stored.ts_us is None or event.ts_us <= stored.ts_us


def merge(event: Order, stored: Order | None, *, confirms: bool = False) -> Order:
    """What the document remembers after `event`, of which only a read keeps the known sequence.

    Any other event without one may be an old state that was delivered again: remembering more than it says would make
    the newer states behind it stale. `confirms` is a delete of what is deleted: it moves nothing back.
    """
    if stored is None or event.topic_id != stored.topic_id:
        return event
    return msgspec.structs.replace(
        event,
        sequence=event.sequence or (stored.sequence if event.snapshot or confirms else None),
        ts_us=stored.ts_us if event.ts_us is None else event.ts_us,
    )
