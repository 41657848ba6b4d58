"""The local stack: Postgres with pgvector, Kafka, Connect with Debezium, a registry: processes, no Docker, no Java."""

from consumer.local.display import shown
from consumer.local.endpoints import Endpoints
from consumer.local.interrupts import interrupt_on_signals, undisturbed
from consumer.local.resources import resource
from consumer.local.settings_file import EXAMPLE_TABLES, write_settings
from consumer.local.sql_script import write_sql_script
from consumer.local.stack import ServiceStatus, Stack, Unwatched, Watcher

__all__ = [
    "EXAMPLE_TABLES",
    "Endpoints",
    "ServiceStatus",
    "Stack",
    "Unwatched",
    "Watcher",
    "interrupt_on_signals",
    "resource",
    "shown",
    "undisturbed",
    "write_settings",
    "write_sql_script",
]
