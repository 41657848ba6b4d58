"""A record's bytes to a change event: which wire it is on, and with which schema it was written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from consumer.errors import Reject
from consumer.events import envelope as envelopes
from consumer.events.avro import AvroSchema
from consumer.events.envelope import Envelope, Origin
from consumer.events.form import Form
from consumer.events.framing import SchemaRef, framed
from consumer.events.keys import canonical_key, key_missing
from consumer.events.layout import Columns
from consumer.events.model import ChangeEvent, Record
from consumer.events.moves import other_key

Schemas = Mapping[SchemaRef, AvroSchema | Reject]
"""Every schema that the records name; a Reject stands for one that the registry does not have."""

NO_SCHEMAS: Final[Schemas] = MappingProxyType({})
ANY_FORM: Final = Form()


def decode_event(record: Record, form: Form = ANY_FORM, schemas: Schemas = NO_SCHEMAS) -> ChangeEvent:
    """One record to one change event.

    Raises Reject (stage decode), without coordinates, for anything that is not a Debezium change event.
    """
    if record.value is None:
        return envelopes.tombstone(record, decode_key(record, form, schemas))
    envelope, columns = _value(record.value, record, form, schemas)
    key = decode_key(record, form, schemas) if envelopes.has_row(envelope) else b""
    other = other_key(record, envelope.op or "", form) if record.headers else None
    event = envelopes.change(record, envelope, key, other, columns)
    return event if event.op != "t" else msgspec.structs.replace(event, table=_origin(record, form, schemas).named)


def follows_its_delete(record: Record, form: Form = ANY_FORM, schemas: Schemas = NO_SCHEMAS) -> bool:
    """Whether this is the tombstone of the delete right before it: it says nothing that the delete has not said.

    A tombstone has no place in the source's order. Taken by itself it would delete a row anew whose delete was
    delivered again and recognised as old.
    """
    delete = record.delete
    if record.value is not None or delete is None or delete.value is None:
        return False
    try:
        return _value(delete.value, delete, form, schemas)[0].op == "d"
    except Reject:
        return False


def decode_key(record: Record, form: Form = ANY_FORM, schemas: Schemas = NO_SCHEMAS) -> bytes:
    """The record's primary key as canonical JSON, the same whatever wire it came by.

    Raises Reject (stage decode) for a key that is absent (a table without primary key) or names no row.
    """
    key = record.key
    if key is None:
        raise key_missing()
    ref = _framed(key, record, form, "key")
    if ref is None:
        return form.json.key(key)
    return canonical_key(form.avro.key(key, ref[1], _schema(ref[0], schemas)))


def decode_heartbeat(record: Record, form: Form = ANY_FORM, schemas: Schemas = NO_SCHEMAS) -> int | None:
    """When the path was alive, in microseconds; None where there is no possible time.

    A message that went through the source's log (`m`) tells its commit there: all that was committed before is behind
    it. A plain heartbeat has the connector's clock only, and beats also while the log does not move.
    """
    try:
        beat, _ = _value(record.value or b"{}", record, form, schemas)
        return envelopes.within_time(envelopes.micros(beat.source or beat))
    except Reject:
        return None


def refs_of(record: Record, form: Form = ANY_FORM) -> Sequence[SchemaRef]:
    """The schemas that the record's key and value name; none where its framing is not one that can be read."""
    key, value = record.key, record.value
    if not record.headers and key and value and key[:1] == value[:1] == b"{":
        return ()  # no framing begins so, and nearly all events do
    refs: list[SchemaRef] = []
    for part, payload in (("key", key), ("value", value)):
        try:
            ref = _framed(payload, record, form, part) if payload is not None else None  # type: ignore[arg-type]
        except Reject:
            continue
        if ref is not None:
            refs.append(ref[0])
    return refs if record.delete is None else [*refs, *refs_of(record.delete, form)]


def _value(value: bytes, record: Record, form: Form, schemas: Schemas) -> tuple[Envelope, Columns]:
    ref = _framed(value, record, form, "value")
    if ref is not None:
        return form.avro.value(value, ref[1], _schema(ref[0], schemas))
    if form.format == "avro":
        raise envelopes.undecodable("not_avro", "The table's format is avro, but the value names no schema")
    return form.json.value(value)


def _origin(record: Record, form: Form, schemas: Schemas) -> Origin:
    value = record.value or b""
    ref = _framed(value, record, form, "value")
    return form.json.origin(value) if ref is None else form.avro.origin(value, ref[1], _schema(ref[0], schemas))


def _framed(payload: bytes, record: Record, form: Form, part: Literal["key", "value"]) -> tuple[SchemaRef, int] | None:
    """What schema a key or value names, and where its body begins; None for JSON."""
    if (not record.headers and payload.startswith(b"{")) or form.format == "json":  # no framing begins so
        return None
    return framed(payload, record.headers, part, form.framing)


def _schema(ref: SchemaRef, schemas: Schemas) -> AvroSchema:
    schema = schemas.get(ref)
    if schema is None:  # whoever asks without schemas, for a commit time alone, can do without
        raise Reject("The event's schema was not fetched.", stage="decode", error_type="schema_missing")
    if isinstance(schema, Reject):
        raise schema
    return schema
