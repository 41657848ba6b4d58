"""Fetched messages as records, and the one thing both readers of Kafka say: trouble that passes by itself."""

from __future__ import annotations

from typing import Protocol, cast

from confluent_kafka import Consumer, Message, TopicPartition

from consumer.events import Record
from consumer.planning import Partition

Headers = list[tuple[str, bytes | None]]  # what the client really returns: never a dict, never text


class Notice(Protocol):
    """Told of trouble that passes by itself."""

    def __call__(self, what: str, **context: object) -> None: ...


def place_of(message: Message) -> Partition:
    """The message's topic and partition."""
    return message.topic() or "", message.partition() or 0


def record_of(message: Message, partition: Partition, topic_id: str, epoch: int) -> Record:
    """A fetched message as a record of its partition, held under `epoch`."""
    kind, timestamp = message.timestamp()
    topic, number = partition
    return Record(
        topic,
        topic_id,
        number,
        message.offset() or 0,
        epoch,
        message.key(),
        message.value(),
        timestamp if kind else -1,
        tuple(cast(Headers, message.headers() or ())),
    )


def begin_again_at(consumer: Consumer, partition: Partition, offset: int) -> None:
    """Fetch from elsewhere after the broker refused an offset: fetching has ended, and no seek begins it again."""
    consumer.incremental_unassign([TopicPartition(*partition)])
    consumer.incremental_assign([TopicPartition(*partition, offset)])
