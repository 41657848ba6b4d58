"""What an Avro schema says in Connect's words. Connect's converters keep their own in `connect.name` and
`connect.parameters`; where they were told not to (`connect.meta.data=false`), Avro's logical types are left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from consumer.events.shapes import Shape

Names = Mapping[str, Any]  # named types by full name
_TYPES = {"int": "int32", "long": "int64", "float": "float", "double": "double", "record": "struct", "enum": "string"}
_KAFKA, _TIME = "org.apache.kafka.connect.data.", "io.debezium.time."
_ASIDE = "embed.logicalType"
_LOGICAL = {
    "decimal": _KAFKA + "Decimal",
    "date": _KAFKA + "Date",
    "time-millis": _KAFKA + "Time",
    "time-micros": _TIME + "MicroTime",
    "timestamp-millis": _KAFKA + "Timestamp",
    "timestamp-micros": _TIME + "MicroTimestamp",
    "uuid": "io.debezium.data.Uuid",
}


def unlogical(node: Any) -> Any:
    """The schema with its logical types under a name that means nothing to Avro's parser.

    It refuses decimals of more than 64 digits or a negative scale, as PostgreSQL has them; Avro says to ignore those.
    """
    if isinstance(node, list):
        return [unlogical(item) for item in node]
    if isinstance(node, dict):
        return {_ASIDE if name == "logicalType" else name: unlogical(item) for name, item in node.items()}
    return node


def resolve(node: Any, names: Names) -> Any:
    """The definition behind a name: a dict with `type`, or a list for a union."""
    if isinstance(node, str):
        return names.get(node, {"type": node})
    if isinstance(node, dict) and not isinstance(node["type"], str):
        return resolve(node["type"], names)
    if isinstance(node, dict) and node["type"] in names:
        return names[node["type"]]
    return node


def present(node: Any, names: Names) -> Any:
    """The definition of a value that is not null; the union itself where it leaves a choice."""
    node = resolve(node, names)
    if isinstance(node, list):
        rest = [branch for branch in node if not is_null(branch)]
        return resolve(rest[0], names) if len(rest) == 1 else node
    return node


def shape_of(node: Any, names: Names, field: str = "") -> Shape:
    """The shape of a value, nullable or not, with that of its items; a struct's fields are left out."""
    node = present(node, names)
    if isinstance(node, list):
        return Shape("union", field=field)
    kind, parameters = node["type"], node.get("connect.parameters") or {}
    name = node.get("connect.name") or _LOGICAL.get(node.get(_ASIDE, ""))
    if kind == "fixed":
        kind = "bytes"
    if kind == "record":
        return Shape("struct", name, field=field)
    return Shape(
        node.get("connect.type") or _TYPES.get(kind, kind),
        name,
        {"scale": str(node.get("scale", 0)), **parameters},
        items=shape_of(node["items"], names) if kind == "array" else None,
        keys=Shape("string") if kind == "map" else None,
        values=shape_of(node["values"], names) if kind == "map" else None,
        field=field,
    )


def is_null(node: Any) -> bool:
    """Whether the type is null."""
    return node == "null" or (isinstance(node, dict) and node["type"] == "null")


def is_entry(node: Any) -> bool:
    """Whether an array's items are a map's entries: Connect writes maps so whose keys are no texts."""
    return isinstance(node, dict) and [f["name"] for f in node.get("fields", ())] == ["key", "value"]


def of_no_bytes(node: Any, names: Names, within: tuple[int, ...] = ()) -> bool:
    """Whether values may take no bytes at all, so that any number of them fits into nothing."""
    node = resolve(node, names)
    if isinstance(node, list) or node["type"] not in ("null", "record", "fixed"):
        return False
    if node["type"] == "fixed":
        return bool(node["size"] == 0)
    if id(node) in within:
        return True
    return all(of_no_bytes(field["type"], names, (*within, id(node))) for field in node.get("fields", ()))
