"""Connect's JSON with embedded schema to Avro, as Connect's Avro converters write it: named records, unions with null,
semantic types as `connect.name` and `connect.parameters`. The bytes are fastavro's."""

from __future__ import annotations

import io
import json
from base64 import b64decode
from typing import Any

import fastavro

_PRIMITIVES = {"int8": "int", "int16": "int", "int32": "int", "int64": "long"}


def to_avro(data: bytes) -> tuple[str, bytes]:
    """The Avro schema (JSON) and body of a `{"schema", "payload"}` document."""
    document = json.loads(data)
    schema, names = document["schema"], set[str]()
    avro = _schema({**schema, "optional": False}, names)
    body = io.BytesIO()
    text = json.dumps(avro)
    written = json.loads(text.replace('"logicalType"', '"ignored"'))  # fastavro knows fewer decimals than Connect
    fastavro.schemaless_writer(body, fastavro.parse_schema(written), _datum(document["payload"], schema))
    return text, body.getvalue()


def _schema(connect: dict[str, Any], names: set[str]) -> Any:
    avro = _present(connect, names)
    if not connect.get("optional"):
        return avro
    return [avro, "null"] if connect.get("default") is not None else ["null", avro]


def _present(connect: dict[str, Any], names: set[str]) -> Any:
    kind, name = connect["type"], connect.get("name")
    marks = {"connect.name": name, "connect.version": connect.get("version"), "connect.parameters": None}
    marks["connect.parameters"] = connect.get("parameters")
    marks = {mark: value for mark, value in marks.items() if value is not None}
    if kind == "struct":
        if name in names:
            return name
        names.add(str(name))
        fields = [_field(field, names) for field in connect["fields"]]
        return {"type": "record", "name": name, "fields": fields, **marks}
    if kind == "array":
        return {"type": "array", "items": _schema(connect["items"], names), **marks}
    if kind == "map" and connect["keys"]["type"] == "string":
        return {"type": "map", "values": _schema(connect["values"], names), **marks}
    if kind == "map":
        entry = [_field({**connect[part], "field": part[:-1]}, names) for part in ("keys", "values")]
        return {"type": "array", "items": {"type": "record", "name": f"MapEntry{len(names)}", "fields": entry}, **marks}
    if name == "org.apache.kafka.connect.data.Decimal":
        marks |= {"logicalType": "decimal", "precision": 64, "scale": int(connect["parameters"]["scale"])}
    if kind in ("int8", "int16"):
        marks["connect.type"] = kind
    avro = _PRIMITIVES.get(kind, kind)
    return {"type": avro, **marks} if marks else avro


def _field(connect: dict[str, Any], names: set[str]) -> dict[str, Any]:
    field: dict[str, Any] = {"name": connect["field"], "type": _schema(connect, names)}
    if connect.get("optional"):
        field["default"] = connect.get("default")
    return field


def _datum(value: Any, connect: dict[str, Any]) -> Any:
    if value is None:
        return None
    kind = connect["type"]
    if kind == "struct":
        return {field["field"]: _datum(value.get(field["field"]), field) for field in connect["fields"]}
    if kind == "array":
        return [_datum(item, connect["items"]) for item in value]
    if kind == "map" and isinstance(value, dict):
        return {key: _datum(item, connect["values"]) for key, item in value.items()}
    if kind == "map":
        return [{"key": _datum(k, connect["keys"]), "value": _datum(v, connect["values"])} for k, v in value]
    if kind == "bytes":
        return b64decode(value)
    return float(value) if kind in ("float", "double") else value
