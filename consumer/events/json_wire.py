"""Envelopes and keys in JSON, with or without embedded schema.

Connect's JsonConverter writes `{"schema":…,"payload":…}`, whose beginning up to the payload is the same bytes for every
record of one version of a table. So a schema is decoded once; afterwards its bytes are only compared, and skipped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypedDict, TypeVar

import msgspec

from consumer.events.columns import Column, RowType, canonical, row_type, schemaless, typed
from consumer.events.declared import Declared
from consumer.events.envelope import Envelope, Origin, schema_unusable, undecodable
from consumer.events.keys import canonical_key, is_canonical, key_undecodable
from consumer.events.layout import Columns
from consumer.events.shapes import Shape
from consumer.events.times import known_infinity
from consumer.events.toast import untyped_row

T = TypeVar("T")
_OPENING = b'{"schema":'
_KEPT = 16  # versions of one table's schema that are remembered
_LONGEST_PREFIX = 2**20  # bytes; the widest table's schema is a fraction of it
# Where one of `INFINITE_TEXTS` may stand: snapshot and stream write an infinite date in two ways; a row has one key.
_INFINITE = re.compile(rb'"(?:\+29|-5877611|-290308)')
_NO_JSON = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)

_Payload = memoryview | bytes


class _Wrapped(msgspec.Struct):
    schema: msgspec.Raw
    payload: msgspec.Raw


class _Located(msgspec.Struct):
    source: Origin | None = None
    payload: _Located | None = None


_located = msgspec.json.Decoder(_Located).decode
_wrapped = msgspec.json.Decoder(_Wrapped).decode
_shape = msgspec.json.Decoder(Shape | None).decode
_anything = msgspec.json.Decoder().decode


class _Schemas(Generic[T]):
    """What `compile_schema` makes of each embedded schema that came, found again by the bytes before the payload."""

    def __init__(self, compile_schema: Callable[[Shape | None], T]) -> None:
        self._compile = compile_schema
        self._known: list[tuple[bytes, int, T]] = []

    def known(self, data: bytes) -> tuple[_Payload, T] | None:
        """The payload, if the schema before it has come before."""
        for prefix, length, compiled in self._known:
            if data.startswith(prefix) and data.endswith(b"}"):
                return memoryview(data)[length:-1], compiled
        return None

    def learn(self, data: bytes) -> tuple[_Payload, T]:
        """The payload, after decoding the schema too. Raises what msgspec raises, or Reject for a useless schema."""
        wrapped = _wrapped(data)
        compiled = self._compiled(_shape(wrapped.schema))
        payload, whole = memoryview(wrapped.payload), memoryview(data)
        start = len(data) - 1 - len(payload)
        if start < _LONGEST_PREFIX and data.endswith(b"}") and whole[start:-1] == payload:
            prefix = data[:start]
            self._known = [(prefix, len(prefix), compiled), *self._known[: _KEPT - 1]]
        return payload, compiled

    def _compiled(self, shape: Shape | None) -> T:
        try:
            return self._compile(shape)
        except (ValueError, RecursionError):  # a decimal's scale that is no number, arrays of arrays without end
            raise schema_unusable() from None


class JsonReader:
    """Reads one table's keys and values. `columns` are those in use (None: all), `types` the declared ones."""

    def __init__(self, columns: tuple[str, ...] | None, types: Mapping[str, Declared]) -> None:
        self._columns, self._types = columns, types
        self._decode = msgspec.json.Decoder(_envelope_of(columns)).decode
        self._values = _Schemas(self._row_type)
        self._keys = _Schemas(self._key_columns)

    def value(self, data: bytes) -> tuple[Envelope, Columns]:
        """The envelope, and the columns of its table. Raises Reject."""
        try:
            envelope, known = self._value(data)
        except msgspec.ValidationError:
            raise undecodable("not_an_envelope", "The value is JSON, but no Debezium change event") from None
        except _NO_JSON:
            raise undecodable("value_undecodable", "The value is not JSON") from None
        row = envelope.after
        if known is not None:
            if row is not None:
                canonical(row, known.columns)
            return envelope, known.layout
        if row is not None:
            canonical(row, schemaless(row, self._types)) if self._types else untyped_row(row)
        return envelope, data

    def origin(self, data: bytes) -> Origin:
        """The table that an envelope is of, as far as it says so."""
        try:
            whole = _located(data)
        except _NO_JSON:
            return Origin()
        return (whole.payload or whole).source or Origin()

    def key(self, data: bytes) -> bytes:
        """The canonical key. Raises Reject."""
        if not self._types and is_canonical(data) and not _INFINITE.search(data):
            return data
        try:
            return self._key(data)
        except _NO_JSON:
            raise key_undecodable("is not JSON") from None

    def _key(self, data: bytes) -> bytes:
        known = self._keys.known(data) if data.startswith(_OPENING) else None
        if known is None:
            columns = _anything(data)
            if not _has_schema(columns):
                return canonical_key(self._schemaless_key(columns))
            known = self._keys.learn(data)
        payload, special = known
        if not special and is_canonical(payload):
            return bytes(payload)
        columns = _anything(payload)
        return canonical_key(canonical(columns, special, keep=True) if isinstance(columns, dict) else columns)

    def _value(self, data: bytes) -> tuple[Envelope, RowType | None]:
        """The envelope as it stands, and what its schema says of the row; None where it has no schema."""
        known = None
        if data.startswith(_OPENING):
            known = self._values.known(data)
        else:
            envelope = self._decode(data)
            if envelope.op is not None or b'"payload"' not in data:
                return envelope, None
        if known is not None:
            try:
                return self._decode(known[0]), known[1]
            except _NO_JSON:  # it begins like the others, but does not end like them
                pass
        payload, columns = self._values.learn(data)
        return self._decode(payload), columns

    def _row_type(self, shape: Shape | None) -> RowType | None:
        fields = shape.fields if shape is not None else []
        rows = [field.fields for field in fields if field.field == "after"]
        return row_type(rows[0], self._columns, self._types) if rows and rows[0] else None

    def _key_columns(self, shape: Shape | None) -> tuple[Column, ...]:
        return typed(shape.fields if shape is not None else [], None, self._types)

    def _schemaless_key(self, columns: Any) -> Any:
        if not isinstance(columns, dict):
            return columns
        if self._types:
            canonical(columns, schemaless(columns.keys() & self._types.keys(), self._types), keep=True)
        return {name: known_infinity(v) if isinstance(v, str) else v for name, v in columns.items()}


def _has_schema(key: Any) -> bool:
    """Whether a key is Connect's schema and payload. Columns of a table may have these names, but not such values."""
    if not isinstance(key, dict) or key.keys() != {"schema", "payload"}:
        return False
    schema, payload = key["schema"], key["payload"]
    return isinstance(schema, dict) or (schema is None and not isinstance(payload, (str, int, float)))


def _envelope_of(columns: tuple[str, ...] | None) -> Any:
    """The type that msgspec decodes to: of the row only the columns in use, the others are skipped.

    All of them where a name is not ASCII: msgspec does not find such a key of a TypedDict (its issue 1126).
    """
    if columns is None or not all(map(str.isascii, columns)):
        return Envelope
    row = TypedDict("row", dict.fromkeys(columns, Any), total=False)  # type: ignore[misc]
    return msgspec.defstruct("UsedEnvelope", [("after", row | None, None)], bases=(Envelope,), gc=False)
