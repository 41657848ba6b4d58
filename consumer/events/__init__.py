"""Bytes in, change events out. Pure: the schema and everything else it needs are arguments."""

from consumer.events.avro import AvroSchema
from consumer.events.declared import Declared, declared_types
from consumer.events.decode import (
    NO_SCHEMAS,
    Schemas,
    decode_event,
    decode_heartbeat,
    decode_key,
    follows_its_delete,
    refs_of,
)
from consumer.events.form import Form
from consumer.events.framing import Framing, SchemaRef, framed
from consumer.events.layout import Columns, Layout, are_same, as_streamed, is_another, is_same, layout_of
from consumer.events.model import ChangeEvent, Op, Order, Record
from consumer.events.toast import UNCHANGED, is_placeholder

__all__ = [
    "NO_SCHEMAS",
    "UNCHANGED",
    "AvroSchema",
    "ChangeEvent",
    "Columns",
    "Declared",
    "Form",
    "Framing",
    "Layout",
    "Op",
    "Order",
    "Record",
    "SchemaRef",
    "Schemas",
    "are_same",
    "as_streamed",
    "declared_types",
    "decode_event",
    "decode_heartbeat",
    "decode_key",
    "follows_its_delete",
    "framed",
    "is_another",
    "is_placeholder",
    "is_same",
    "layout_of",
    "refs_of",
]
