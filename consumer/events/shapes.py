"""What a schema says of a value, in Connect's words, and what follows from it: conversion and placeholders.

JSON carries Connect's own schema; Avro carries the same names as `connect.name` and `connect.parameters`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from consumer.events import numbers, times
from consumer.events.toast import (
    PLACEHOLDER,
    PLACEHOLDER_BASE64,
    PLACEHOLDER_CODES,
    PLACEHOLDER_HSTORE,
    PLACEHOLDER_UUID,
)

Convert = Callable[[Any], Any]
_encode = msgspec.json.Encoder().encode
_KAFKA, _TIME = "org.apache.kafka.connect.data.", "io.debezium.time."


class Shape(msgspec.Struct, frozen=True):
    """Connect's schema of one value. `field` is its name where it is a struct's field."""

    type: str = ""
    name: str | None = None
    parameters: dict[str, str] = {}
    items: Shape | None = None
    keys: Shape | None = None
    values: Shape | None = None
    fields: list[Shape] = []
    field: str = ""

    @property
    def scale(self) -> int:
        """Of a Decimal."""
        return int(self.parameters.get("scale", "0"))


def _of_day(per_second: int) -> Convert:
    return partial(_time, per_second=per_second)


def _time(value: int, per_second: int) -> str:
    return times.time_text(value, per_second)


def hstore_text(value: Any) -> str:
    """An hstore that came as a map, as the text that hstore.handling.mode=json gives."""
    return _encode(dict(value)).decode()


# By semantic name: what turns a value of the wire into the canonical one. All others are canonical on the wire.
_SEMANTIC: dict[str, Convert] = {
    _KAFKA + "Date": times.day_text,
    _KAFKA + "Time": _of_day(1000),
    _KAFKA + "Timestamp": times.millis_text,
    _TIME + "Date": times.day_text,
    _TIME + "Time": _of_day(1000),
    _TIME + "MicroTime": _of_day(10**6),
    _TIME + "NanoTime": _of_day(10**9),
    _TIME + "Timestamp": times.millis_text,
    _TIME + "MicroTimestamp": times.micros_text,
    _TIME + "NanoTimestamp": times.nanos_text,
    _TIME + "IsoDate": times.known_infinity,
    _TIME + "IsoTimestamp": times.known_infinity,
    _TIME + "ZonedTimestamp": times.known_infinity,
    "io.debezium.data.VariableScaleDecimal": numbers.variable_decimal_text,
}
_TEXT_ARRAY_FORMS: dict[str | None, list[str]] = {"io.debezium.data.Uuid": [PLACEHOLDER_UUID]}


def converter(shape: Shape) -> Convert | None:
    """From a non-null value as JSON has it to the canonical value; None where they are the same."""
    if shape.name == _KAFKA + "Decimal":
        return partial(numbers.decimal_text, scale=shape.scale)
    if shape.name in _SEMANTIC:
        return _SEMANTIC[shape.name]
    if shape.type == "array" and shape.items is not None:
        each = converter(shape.items)
        return None if each is None else partial(_each, convert=each)
    if is_hstore(shape):
        return hstore_text
    return None


def placeholders(shape: Shape) -> tuple[Any, ...]:
    """The canonical values that stand for "unchanged" in a column of this shape."""
    if shape.type == "string":
        return (PLACEHOLDER, PLACEHOLDER_HSTORE) if shape.name == "io.debezium.data.Json" else (PLACEHOLDER,)
    if shape.type == "bytes" and shape.name is None:
        return (PLACEHOLDER_BASE64,)
    if is_hstore(shape):
        return (PLACEHOLDER_HSTORE,)
    if shape.type != "array" or shape.items is None:
        return ()
    item = shape.items
    if item.type == "string":
        return (_TEXT_ARRAY_FORMS.get(item.name, [PLACEHOLDER]),)
    if item.type == "bytes" and item.name is None:
        return ([PLACEHOLDER_BASE64],)
    if item.type in ("int32", "int64"):
        each = converter(item)
        return (PLACEHOLDER_CODES if each is None else [each(code) for code in PLACEHOLDER_CODES],)
    return ()


def is_hstore(shape: Shape) -> bool:
    """A map of texts by text: no other type of PostgreSQL comes so."""
    texts = all(part is not None and part.type == "string" for part in (shape.keys, shape.values))
    return shape.type == "map" and shape.name is None and texts


def _each(values: list[Any], convert: Convert) -> list[Any]:
    return [None if value is None else convert(value) for value in values]
