"""What `doctor` asks Kafka: facts, without judging them. Raises Retry or Stop as `Broker` does. Changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from confluent_kafka import KafkaException
from confluent_kafka.admin import ConfigResource, ResourceType  # type: ignore[attr-defined]

from consumer.events import Record
from consumer.planning import Partition
from consumer.source.client import TIMEOUT_SECONDS, Broker, fault_of
from consumer.source.reader import Reader, end_offsets, first_offsets


def cluster(broker: Broker) -> tuple[int, dict[str, int]]:
    """How many brokers there are, and how many partitions every topic has; 0 where none has a leader yet."""
    try:
        known = broker.admin.list_topics(timeout=TIMEOUT_SECONDS)
    except KafkaException as error:
        raise fault_of(error.args[0], broker.servers) from None
    return len(known.brokers), {name: len(topic.partitions) for name, topic in known.topics.items()}


def topic_settings(broker: Broker, topics: Sequence[str]) -> dict[str, dict[str, str]]:
    """Topic -> its settings, the broker's defaults included. A topic whose settings may not be read is absent."""
    if not topics:
        return {}
    asked = [ConfigResource(ResourceType.TOPIC, topic) for topic in topics]
    found: dict[str, dict[str, str]] = {}
    for resource, future in broker.admin.describe_configs(asked, request_timeout=TIMEOUT_SECONDS).items():
        try:
            entries = future.result(TIMEOUT_SECONDS + 1)
        except (KafkaException, TimeoutError):
            continue
        found[resource.name] = {name: entry.value for name, entry in entries.items() if entry.value is not None}
    return found


def last_records(broker: Broker, topics: Collection[str]) -> dict[str, Record]:
    """Topic -> the last record of its partition 0; a topic that is empty or gives no answer in time is absent."""
    places: list[Partition] = [(topic, 0) for topic in sorted(topics)]
    if not places:
        return {}
    ends, firsts = end_offsets(broker, places), first_offsets(broker, places)
    starts = {place: end - 1 for place, end in ends.items() if end > firsts[place]}
    if not starts:
        return {}
    ids = broker.topic_ids({topic for topic, _ in starts})
    with Reader(broker, lambda what, **context: None) as reader:
        found = reader.first_records(starts, ids, within=3.0)
    return {topic: record for (topic, _), record in found.items() if record is not None}
