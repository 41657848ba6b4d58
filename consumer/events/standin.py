"""STAND-IN until the Avro decoder of the events room is merged: Avro by way of JSON, no semantic types."""

from __future__ import annotations

import io
from collections.abc import Mapping

import fastavro
import msgspec

from consumer.errors import Reject
from consumer.events.framing import Framing, SchemaRef, framed
from consumer.events.model import Record
from consumer.events.schema import AvroSchema


def as_json(record: Record, framing: Framing, schemas: Mapping[SchemaRef, AvroSchema | Reject]) -> Record:
    """The record with its Avro value, if it is one, as JSON. Raises Reject."""
    found = framed(record.value, record.headers, "value", framing)
    if found is None or record.value is None:
        return record
    schema = schemas[found[0]]
    if isinstance(schema, Reject):
        raise schema
    try:
        value = fastavro.schemaless_reader(io.BytesIO(record.value[found[1] :]), schema.root, None)
    except Exception:
        raise Reject("The value is not Avro.", stage="decode", error_type="avro_undecodable") from None
    return msgspec.structs.replace(record, value=msgspec.json.encode(value))
