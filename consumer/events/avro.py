"""Avro bodies to envelopes and keys, by the schema each was written with.

Debezium's semantic types come as `connect.name` beside the Avro type, not as Avro logical types. Framing, and the way
to a schema by its id, are elsewhere: here the schema is an argument.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import fastavro
import msgspec

from consumer.errors import Reject
from consumer.events.avro_code import Malformed, Read, compile_reader
from consumer.events.avro_shapes import present, shape_of, unlogical
from consumer.events.columns import Column, RowType, canonical, row_type, typed
from consumer.events.declared import Declared
from consumer.events.envelope import Envelope, Origin, Source, schema_unusable, undecodable
from consumer.events.keys import key_undecodable
from consumer.events.layout import Columns
from consumer.events.shapes import Shape

_UNREADABLE = (Malformed, IndexError, struct.error, ValueError, TypeError, KeyError, ArithmeticError, RecursionError)
_UNUSABLE = (*_UNREADABLE, fastavro.schema.SchemaParseException, AttributeError, SyntaxError)
_KEPT = 64  # schemas of one table whose decoders are kept
_INTEGERS, _TEXTS = frozenset({"int32", "int64"}), frozenset({"string"})
_KINDS = {"op": _TEXTS, "ts_ms": _INTEGERS, "ts_us": _INTEGERS, "ts_ns": _INTEGERS}
_KINDS |= {"after": frozenset({"struct"}), "source": frozenset({"struct"})}
_SOURCE_KINDS = dict.fromkeys(Source.__struct_fields__, _INTEGERS) | {"sequence": _TEXTS, "file": _TEXTS}
_parse = msgspec.json.Decoder().decode


class AvroSchema:
    """A writer's schema: Avro JSON, with the schemas it refers to, in the order of their dependence.

    Raises Reject (stage decode, schema_unusable) for what is no Avro schema.
    """

    def __init__(self, schema: str, references: Sequence[str] = ()) -> None:
        self.names: dict[str, Any] = {}
        try:
            for reference in references:
                fastavro.parse_schema(unlogical(_parse(reference)), named_schemas=self.names)
            self.root = fastavro.parse_schema(unlogical(_parse(schema)), named_schemas=self.names)
        except (*_UNUSABLE, msgspec.DecodeError):
            raise schema_unusable() from None


class AvroReader:
    """Reads one table's Avro keys and values. `columns` are those in use (None: all), `types` the declared ones."""

    def __init__(self, columns: tuple[str, ...] | None, types: Mapping[str, Declared]) -> None:
        self._columns, self._types = columns, types
        self._values: dict[AvroSchema, tuple[Read, RowType | None]] = {}
        self._keys: dict[AvroSchema, tuple[Read, tuple[Column, ...]]] = {}

    def value(self, data: bytes, offset: int, schema: AvroSchema) -> tuple[Envelope, Columns]:
        """The envelope that begins at `offset`, and the columns of its table. Raises Reject."""
        read, known = self._values.get(schema) or self._learn(self._values, schema, self._value_reader)
        fields = _read(read, data, offset)
        source, row = fields.get("source"), fields.get("after")
        if row is not None and known is not None and known.columns:
            canonical(row, known.columns)
        envelope = Envelope(
            fields.get("op"),
            row,
            Source(**source) if source is not None else None,
            fields.get("ts_ms"),
            fields.get("ts_us"),
            fields.get("ts_ns"),
        )
        return envelope, known.layout if known is not None else None

    def origin(self, data: bytes, offset: int, schema: AvroSchema) -> Origin:
        """The table that an envelope is of, as far as it says so. Raises Reject."""
        names = dict.fromkeys(Origin.__struct_fields__)
        read = compile_reader(_record(schema.root, schema), schema.names, {"source": names})
        said = _read(read, data, offset).get("source") or {}
        return Origin(**{name: value for name, value in said.items() if isinstance(value, str)})

    def key(self, data: bytes, offset: int, schema: AvroSchema) -> dict[str, Any]:
        """The key's columns with canonical values. Raises Reject."""
        read, columns = self._keys.get(schema) or self._learn(self._keys, schema, self._key_reader)
        return canonical(_read(read, data, offset), columns, keep=True)

    def _learn(self, known: dict[AvroSchema, Any], schema: AvroSchema, build: Any) -> Any:
        if len(known) >= _KEPT:
            known.pop(next(iter(known)), None)
        try:
            known[schema] = build(schema)
        except _UNUSABLE:
            raise schema_unusable() from None
        return known[schema]

    def _value_reader(self, schema: AvroSchema) -> tuple[Read, RowType | None]:
        root = _record(schema.root, schema)
        _expect(root, _KINDS, schema)
        wanted: dict[str, Any] = dict.fromkeys(("op", *_clocks(root)))
        known = None
        for field in root["fields"]:
            if field["name"] == "source":
                source = _record(field["type"], schema)
                _expect(source, _SOURCE_KINDS, schema)
                wanted["source"] = dict.fromkeys(("sequence", "file", "pos", "row", *_clocks(source)))
            elif field["name"] == "after":
                after = _record(field["type"], schema)
                wanted["after"] = None if self._columns is None else dict.fromkeys(self._columns)
                known = row_type(_shapes(after, schema), self._columns, self._types, converted=True)
        return compile_reader(root, schema.names, wanted), known

    def _key_reader(self, schema: AvroSchema) -> tuple[Read, tuple[Column, ...]]:
        root = present(schema.root, schema.names)
        if isinstance(root, list) or root["type"] != "record":
            raise key_undecodable("is no record of key columns")
        return compile_reader(root, schema.names, None), typed(_shapes(root, schema), None, self._types, converted=True)


def _shapes(record: Any, schema: AvroSchema) -> list[Shape]:
    return [shape_of(field["type"], schema.names, field["name"]) for field in record["fields"]]


def _record(node: Any, schema: AvroSchema) -> Any:
    """The record's definition, nullable or not."""
    found = present(node, schema.names)
    if isinstance(found, list) or found["type"] != "record":
        raise undecodable("not_an_envelope", "The value is Avro, but no Debezium change event")
    return found


def _clocks(record: Any) -> tuple[str, ...]:
    """The clock's fields that are worth reading."""
    exact = any(field["name"] == "ts_us" for field in record["fields"])
    return ("ts_ms", "ts_us") if exact else ("ts_ms", "ts_ns")


def _expect(record: Any, kinds: Mapping[str, frozenset[str]], schema: AvroSchema) -> None:
    """Compare once per schema what need not be compared for each event."""
    for field in record["fields"]:
        kind = kinds.get(field["name"])
        if kind is not None and shape_of(field["type"], schema.names).type not in kind:
            raise undecodable("not_an_envelope", "The value is Avro, but no Debezium change event")


def _read(read: Read, data: bytes, offset: int) -> Any:
    try:
        value, at = read(data, offset, len(data))
    except _UNREADABLE:
        at = -1
    if at != len(data):
        what = "The Avro bytes do not fit the schema that they name. Check the registry and the converter."
        raise Reject(what, stage="decode", error_type="avro_malformed")
    return value
