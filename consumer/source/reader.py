"""Reads ranges of partitions by assignment, for jobs beside the group: joins nothing, commits nothing."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from threading import Event
from types import TracebackType
from typing import Any, NamedTuple, Self

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import OffsetSpec as _OffsetSpec  # type: ignore[attr-defined]

from consumer.errors import Retry, Stop
from consumer.events import Record
from consumer.planning import Batch, Partition
from consumer.source.client import TIMEOUT_SECONDS, Broker, fault_of
from consumer.source.messages import Notice, begin_again_at, place_of, record_of
from consumer.source.partitions import Holdings

OffsetSpec: Any = _OffsetSpec  # its factories carry no types
_POLL_SECONDS = 0.2
_GONE = (KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET)


class Range(NamedTuple):
    """The records of one partition from offset `start` up to, not including, `end`; `epoch` is the reading job's."""

    topic: str
    topic_id: str
    partition: int
    epoch: int
    start: int
    end: int


class Reader:
    """One Kafka client that reads what it is told to. Not for two threads; a context manager.

    `notice` hears of trouble that passes by itself; reading goes on. Methods raise Retry when the broker does not
    answer, Stop when it refuses.
    """

    def __init__(self, broker: Broker, notice: Notice) -> None:
        self._broker, self._notice = broker, notice
        self._fault: Stop | None = None
        # A new assignment waits for the answer to the fetch under way, by default half a second at a partition's end.
        wait = {"fetch.wait.max.ms": 50}
        self._consumer = Consumer(wait | broker.reader_config() | {"error_cb": self._on_error})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._consumer.close()

    def batches(self, ranges: Sequence[Range], stopping: Event, *, max_events: int, max_bytes: int) -> Iterator[Batch]:
        """The ranges as batches, until all of them are read or `stopping` is set.

        A batch's spans cover every offset of the ranges exactly once, those without a record too (control records,
        compaction gaps). Raises Stop when records of a range have expired.
        """
        holdings = Holdings(max_events, max_bytes)
        ends = {(r.topic, r.partition): r.end for r in ranges if r.start < r.end}
        for r in ranges:
            if r.start < r.end:
                holdings.acquire((r.topic, r.partition), r.topic_id, r.epoch, r.start, r.end)
        self._consumer.assign([TopicPartition(*p, holdings.held[p].first) for p in ends])
        while holdings.held and not stopping.is_set():
            self._gather(holdings, ends)
            if batch := holdings.take():
                yield batch
            done = [place for place, held in holdings.held.items() if held.taken >= ends[place]]
            if done:
                holdings.drop(done)
                self._consumer.incremental_unassign([TopicPartition(*place) for place in done])

    def first_records(
        self, starts: Mapping[Partition, int], topic_ids: Mapping[str, str], *, within: float = 5.0
    ) -> dict[Partition, Record | None]:
        """The first record at or after each offset: None where there is none (yet, or not any more at that offset).

        A partition that gave no answer within so many seconds is absent.
        """
        found: dict[Partition, Record | None] = {}
        self._consumer.assign([TopicPartition(*place, offset) for place, offset in starts.items()])
        deadline = time.monotonic() + within
        while len(found) < len(starts) and (left := deadline - time.monotonic()) > 0:
            message = self._consumer.poll(min(left, _POLL_SECONDS))
            self._raise_fault()
            if message is None or (place := place_of(message)) in found:
                continue
            if (error := message.error()) is None:
                found[place] = record_of(message, place, topic_ids[place[0]], 0)
            elif error.code() in (KafkaError._PARTITION_EOF, *_GONE):
                found[place] = None
        self._consumer.unassign()
        return found

    def read_one(self, topic: str, partition: int, offset: int) -> Record | None:
        """The record at exactly this place; None if it has expired or was compacted away."""
        place = (topic, partition)
        found = self.first_records({place: offset}, self._broker.topic_ids([topic]))
        if place not in found:
            raise Retry(f"Kafka at {self._broker.servers} did not give {topic}[{partition}]@{offset} in time.")
        record = found[place]
        return record if record is not None and record.offset == offset else None

    def _gather(self, holdings: Holdings, ends: Mapping[Partition, int]) -> None:
        """Fill the buffer for one batch: until it is full, or nothing came for a moment."""
        while not holdings.full:
            messages = self._consumer.consume(min(holdings.room, 100), _POLL_SECONDS)
            self._raise_fault()
            for message in messages:
                self._receive(message, holdings, ends)
            if not messages or all(held.reached >= ends[place] for place, held in holdings.held.items()):
                return

    def _receive(self, message: Message, holdings: Holdings, ends: Mapping[Partition, int]) -> None:
        error, place = message.error(), place_of(message)
        held = holdings.held.get(place)
        if held is None:
            return  # prefetched from a partition whose range is done
        if error is None:
            if (message.offset() or 0) < ends[place]:
                holdings.add(record_of(message, place, held.topic_id, held.epoch))
            else:
                holdings.reached_end(place, ends[place])
        elif error.code() == KafkaError._PARTITION_EOF:
            holdings.reached_end(place, min(message.offset() or 0, ends[place]))
        elif error.code() in _GONE:
            if held.first == held.fetched:
                raise _expired(place, held.fetched)
            held.first = held.fetched  # only the record before the first has expired
            begin_again_at(self._consumer, place, held.fetched)
        else:
            self._on_error(error)

    def _on_error(self, error: KafkaError) -> None:
        fault = fault_of(error, self._broker.servers)
        if isinstance(fault, Stop):
            self._fault = fault
        else:
            self._notice("broker trouble", reason=str(fault))

    def _raise_fault(self) -> None:
        if self._fault:
            raise self._fault


def first_offsets(broker: Broker, partitions: Iterable[Partition]) -> dict[Partition, int]:
    """The first offset the broker still has of each partition."""
    return _listed(broker, partitions, OffsetSpec.earliest())


def end_offsets(broker: Broker, partitions: Iterable[Partition]) -> dict[Partition, int]:
    """The offset after the last one that a consumer may read (open transactions excluded)."""
    return _listed(broker, partitions, OffsetSpec.latest())


def offsets_at(broker: Broker, partitions: Iterable[Partition], ts_ms: int) -> dict[Partition, int]:
    """The first offset whose record the producer sent at or after `ts_ms`; past the last one: the end."""
    found = _listed(broker, partitions, OffsetSpec.for_timestamp(ts_ms))
    past_the_end = [place for place, offset in found.items() if offset < 0]
    return found | (end_offsets(broker, past_the_end) if past_the_end else {})


def _listed(broker: Broker, partitions: Iterable[Partition], spec: Any) -> dict[Partition, int]:
    """One request for all partitions, whatever their number."""
    asked = {TopicPartition(*place): spec for place in partitions}
    if not asked:
        return {}
    try:
        futures = broker.admin.list_offsets(
            asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=TIMEOUT_SECONDS
        )
        return {(place.topic, place.partition): future.result().offset for place, future in futures.items()}
    except KafkaException as error:
        raise fault_of(error.args[0], broker.servers) from None


def _expired(place: Partition, offset: int) -> Stop:
    return Stop(
        f"Offset {offset} of {place[0]}[{place[1]}] is not in the topic any more.",
        "Its records expired while or before they were read.",
        "Begin at the first offset there is: run it with --from-beginning.",
    )
