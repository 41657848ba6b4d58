"""Kafka: membership and records for the group, ranges of records for jobs. The schema registry of Avro records."""

from consumer.source.client import Broker
from consumer.source.kafka import Claim, KafkaSource
from consumer.source.partitions import Held, Holdings
from consumer.source.reader import Range, Reader, end_offsets, first_offsets, offsets_at
from consumer.source.registry import NoRegistry, SchemaRegistry
from consumer.source.registry_http import Access, RegistryWait

__all__ = [
    "Access",
    "Broker",
    "Claim",
    "Held",
    "Holdings",
    "KafkaSource",
    "NoRegistry",
    "Range",
    "Reader",
    "RegistryWait",
    "SchemaRegistry",
    "end_offsets",
    "first_offsets",
    "offsets_at",
]
