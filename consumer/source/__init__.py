"""Kafka: membership and records for the group, ranges of records for jobs. The schema registry of Avro records.

And the source database itself, which only `doctor` and the metric of its replication slots ask.
"""

from consumer.source.checkup import cluster, last_records, topic_settings
from consumer.source.claims import Claim
from consumer.source.client import Broker
from consumer.source.database import Column, Published, Slot, SourceDatabase, SourceServer, SourceTable, is_foreign
from consumer.source.kafka import KafkaSource
from consumer.source.partitions import Held, Holdings
from consumer.source.reader import Range, Reader, end_offsets, first_offsets, offsets_at
from consumer.source.registry import NoRegistry, SchemaRegistry
from consumer.source.registry_http import Access, RegistryWait

__all__ = [
    "Access",
    "Broker",
    "Claim",
    "Column",
    "Held",
    "Holdings",
    "KafkaSource",
    "NoRegistry",
    "Published",
    "Range",
    "Reader",
    "RegistryWait",
    "SchemaRegistry",
    "Slot",
    "SourceDatabase",
    "SourceServer",
    "SourceTable",
    "cluster",
    "end_offsets",
    "first_offsets",
    "is_foreign",
    "last_records",
    "offsets_at",
    "topic_settings",
]
