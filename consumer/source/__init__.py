"""Kafka: membership and records for the group, ranges of records for jobs."""

from consumer.source.client import Broker
from consumer.source.kafka import Claim, KafkaSource
from consumer.source.partitions import Held, Holdings
from consumer.source.reader import Range, Reader, end_offsets, first_offsets, offsets_at

__all__ = [
    "Broker",
    "Claim",
    "Held",
    "Holdings",
    "KafkaSource",
    "Range",
    "Reader",
    "end_offsets",
    "first_offsets",
    "offsets_at",
]
