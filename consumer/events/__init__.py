"""Bytes in, change events out. Pure: the schema and everything else it needs are arguments."""

from consumer.events.envelope import decode_event, decode_heartbeat, follows_its_delete
from consumer.events.framing import Framing, SchemaRef, framed
from consumer.events.keys import decode_key
from consumer.events.model import ChangeEvent, Op, Order, Record
from consumer.events.schema import AvroSchema
from consumer.events.toast import is_placeholder

__all__ = [
    "AvroSchema",
    "ChangeEvent",
    "Framing",
    "Op",
    "Order",
    "Record",
    "SchemaRef",
    "decode_event",
    "decode_heartbeat",
    "decode_key",
    "follows_its_delete",
    "framed",
    "is_placeholder",
]
