"""The topics as they are: every record read with a client of its own, decoded with nothing of the product."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, TopicPartition

Place = tuple[str, int]  # topic, partition


class Event(NamedTuple):
    """One record. `key` is the row's key as sorted JSON; `after` is None for a delete and for a tombstone.

    `sequence` is the connector's place of the change in the source's log, the same if the change is delivered again.
    """

    topic: str
    partition: int
    offset: int
    key: str
    op: str
    after: dict[str, Any] | None
    ts_us: int | None
    sequence: str | None = None


def read_topics(bootstrap_servers: str, topics: Iterable[str]) -> list[Event]:
    """Every record from the first to what is now the end of each partition, in order within a partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "topic-log",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
        }
    )
    try:
        places = {
            (topic, partition)
            for topic in topics
            for partition in consumer.list_topics(topic, timeout=10).topics[topic].partitions
        }
        consumer.assign([TopicPartition(topic, partition, 0) for topic, partition in places])
        events = []
        while places:
            message = consumer.poll(20)
            assert message is not None, f"no answer for {places}"
            topic, partition, error = message.topic() or "", message.partition(), message.error()
            if error is None:
                event = _event(topic, partition or 0, message.offset() or 0, message.key(), message.value())
                events.append(event)
            else:
                assert error.code() == KafkaError._PARTITION_EOF, error
                places.discard((topic, partition or 0))
        return events
    finally:
        consumer.close()


def up_to(events: Iterable[Event], next_offsets: Mapping[Place, int]) -> list[Event]:
    """The events before the given positions; a partition without one has no events yet."""
    return [event for event in events if event.offset < next_offsets.get((event.topic, event.partition), 0)]


def fold(events: Iterable[Event]) -> dict[tuple[str, str], Event]:
    """The last event of each (topic, key). One key stays in one partition, where offsets are the order."""
    return {(event.topic, event.key): event for event in events}


def _event(topic: str, partition: int, offset: int, key: bytes | None, value: bytes | None) -> Event:
    name = json.dumps(json.loads(key or b"null"), sort_keys=True)
    if value is None:
        return Event(topic, partition, offset, name, "tombstone", None, None)
    envelope = json.loads(value)
    after = envelope["after"] if envelope["op"] not in "dm" else None
    origin = envelope["source"]
    return Event(topic, partition, offset, name, envelope["op"], after, origin["ts_us"], origin.get("sequence"))
