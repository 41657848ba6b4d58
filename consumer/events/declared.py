"""The types that settings declare for columns (`columns: {price: numeric(10,2)}`), for wires that do not carry them."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from consumer.errors import Exit, Stop
from consumer.events import numbers, times
from consumer.events.shapes import Convert, hstore_text
from consumer.events.toast import (
    PLACEHOLDER,
    PLACEHOLDER_BASE64,
    PLACEHOLDER_CODES,
    PLACEHOLDER_HSTORE,
    PLACEHOLDER_UUID,
)

_TYPE = re.compile(r"\s*([a-z_0-9 ]+?)\s*(?:\(\s*(\w+)\s*(?:,\s*(\d+)\s*)?\))?\s*(\[\])?\s*")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_ALIASES = {
    "decimal": "numeric",
    "smallint": "int2",
    "integer": "int4",
    "int": "int4",
    "bigint": "int8",
    "real": "float4",
    "double precision": "float8",
    "boolean": "bool",
    "character varying": "varchar",
    "character": "char",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
    "time without time zone": "time",
    "time with time zone": "timetz",
}
# Types whose JSON is canonical whatever the connector's modes; declaring them only says which placeholder they have.
_TEXTUAL = frozenset(
    {"char", "cidr", "citext", "inet", "interval", "json", "jsonb", "ltree", "macaddr", "macaddr8", "money", "text"}
    | {"timetz", "tsvector", "uuid", "varchar", "xml", "int4range", "int8range", "numrange", "tsrange", "tstzrange"}
    | {"daterange"}
)
_PLAIN = _TEXTUAL | {"bit", "varbit", "bool", "float4", "float8", "int2", "int4", "int8"}
_PLAIN |= {"geography", "geometry", "halfvec", "oid", "point", "sparsevec", "vector"}
_CONVERTED = frozenset({"bytea", "date", "hstore", "numeric", "time", "timestamp", "timestamptz"})
_TEXTS_OF_NUMERIC = frozenset({PLACEHOLDER, *numbers.SPECIAL_DECIMALS.values()})
_decode_json = msgspec.json.Decoder(dict[str, str | None]).decode
_encode_sorted = msgspec.json.Encoder(order="deterministic").encode


@dataclass(frozen=True, slots=True)
class Declared:
    """A declared type: how a value without a type on the wire becomes canonical, and which values mean "unchanged"."""

    convert: Convert | None
    placeholders: tuple[Any, ...]


def declared_types(table: str, types: Mapping[str, str]) -> dict[str, Declared]:
    """The declared types of a table by column. Raises Stop (exit 2) for a name that is no type."""
    return {column: _declared(table, column, text) for column, text in types.items()}


def _declared(table: str, column: str, text: str) -> Declared:
    match = _TYPE.fullmatch(text.lower())
    name = _ALIASES.get(match[1], match[1]) if match else ""
    if match is None or name not in _PLAIN | _CONVERTED or not _sensible(name, match[2]):
        raise Stop(
            f"Table {table} declares column {column} as {text!r}.",
            "That is no type this version knows.",
            f"Use one of {', '.join(sorted(_PLAIN | _CONVERTED))}, with [] for an array.",
            exit_code=Exit.USAGE,
        )
    convert = _converter(name, match[2], match[3])
    if match[4]:
        return Declared(partial(_each, convert=convert) if convert else None, _array_forms(name, convert))
    return Declared(convert, _forms(name))


def _sensible(name: str, first: str | None) -> bool:
    return first is None or first.isdecimal() or (name == "bytea" and first == "hex")


def _converter(name: str, first: str | None, second: str | None) -> Convert | None:
    if name == "numeric":
        return partial(_numeric, scale=int(second or 0) if first else None)
    if name == "time":
        return partial(_time, per_second=_units(first))
    if name == "timestamp":
        return partial(_timestamp, per_second=_units(first))
    simple: dict[str, Convert] = {"date": _date, "timestamptz": times.known_infinity, "hstore": _hstore}
    if name == "bytea":
        return _hex if first == "hex" else _base64
    return simple.get(name)


def _units(precision: str | None) -> int:
    """Units a second of an integer, as `adaptive` modes choose them by the column's precision."""
    digits = int(precision) if precision else 6
    return 10**3 if digits <= 3 else 10**6 if digits <= 6 else 10**9


def _numeric(value: Any, scale: int | None) -> Any:
    if isinstance(value, dict):
        return numbers.variable_decimal_text(value)
    if isinstance(value, (int, float)):
        return numbers.float_decimal_text(value, scale)
    if value in numbers.SPECIAL_DECIMALS:  # a float of decimal.handling.mode=double
        return numbers.SPECIAL_DECIMALS[value]
    if scale is None or _NUMBER.fullmatch(value) or value in _TEXTS_OF_NUMERIC:
        return value
    return numbers.decimal_text(value, scale)


def _date(value: Any) -> str:
    return times.day_text(value) if isinstance(value, int) else times.known_infinity(value)


def _time(value: Any, per_second: int) -> Any:
    return times.time_text(value, per_second) if isinstance(value, int) else value


def _timestamp(value: Any, per_second: int) -> str:
    if not isinstance(value, int):
        return times.known_infinity(value)
    by_unit = {10**3: times.millis_text, 10**6: times.micros_text, 10**9: times.nanos_text}
    return by_unit[per_second](value)


def _base64(value: str) -> str:
    """Base64 in either alphabet; the URL-safe one is translated."""
    return value.replace("-", "+").replace("_", "/") if value != PLACEHOLDER else value


def _hex(value: str) -> str:
    return b64encode(bytes.fromhex(value)).decode() if value != PLACEHOLDER else value


def _hstore(value: Any) -> str:
    """One text for a map and for JSON, by sorted keys: the connector promises no order."""
    if value == PLACEHOLDER_HSTORE:
        return PLACEHOLDER_HSTORE
    pairs = _decode_json(value) if isinstance(value, str) else value
    return _encode_sorted(pairs).decode() if isinstance(pairs, dict) else hstore_text(pairs)


def _forms(name: str) -> tuple[Any, ...]:
    if name == "hstore":
        return (PLACEHOLDER_HSTORE,)
    if name == "bytea":
        return (PLACEHOLDER_BASE64, PLACEHOLDER)
    return (PLACEHOLDER,) if name in _TEXTUAL | _CONVERTED else ()


def _array_forms(name: str, convert: Convert | None) -> tuple[Any, ...]:
    if name == "uuid":
        return ([PLACEHOLDER_UUID],)
    if name == "bytea":
        return ([PLACEHOLDER_BASE64],)
    if name in ("int4", "int8", "date"):
        return ([convert(code) for code in PLACEHOLDER_CODES] if convert else PLACEHOLDER_CODES,)
    return ([PLACEHOLDER],) if name in _TEXTUAL else ()


def _each(values: list[Any], convert: Convert) -> list[Any]:
    return [None if value is None else convert(value) for value in values]
