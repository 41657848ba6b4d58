"""Python source for one Avro schema: functions that read what is wanted and step over the rest.

Generated code is several times faster than a reader that walks the schema for every record. Each record, array and map
becomes a function `(data, position, end) -> (value, position)`; unions and primitives stand inline. Values come out
canonical (see shapes.py). Nothing of the schema enters the source but quoted field names and integers.

Whatever the bytes say, memory stays within a fixed multiple of them: a count beyond the end is refused, and so is a
schema whose arrays hold items of no bytes. Positions only grow; whoever calls compares the last one with the end, so
that a length beyond it is found there.
"""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any

from consumer.events import numbers
from consumer.events.avro_shapes import Names, is_entry, is_null, of_no_bytes, resolve, shape_of
from consumer.events.shapes import converter

Wanted = Mapping[str, Any]  # field name -> what is wanted of its record, or None for all of it
Read = Callable[[bytes, int, int], tuple[Any, int]]


class Malformed(Exception):
    """Bytes that the schema cannot have written."""


def _long(data: bytes, at: int) -> tuple[int, int]:
    """A zigzag varint."""
    first = data[at]
    number, at = (first, at + 1) if first < 128 else _more(data, at + 1, first)
    return (number >> 1) ^ -(number & 1), at


def _more(data: bytes, at: int, first: int) -> tuple[int, int]:
    """The rest of a varint whose first byte is not its last; not yet unzigzagged."""
    number, shift = first & 127, 7
    for byte in data[at : at + 9]:
        at += 1
        if byte < 128:
            number |= byte << shift
            if number >> 64:
                break
            return number, at
        number |= (byte & 127) << shift
        shift += 7
    raise Malformed


def _block(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The count of the next block of an array or map; 0 ends it."""
    count, at = _long(data, at)
    if count < 0:  # its size in bytes follows
        count = -count
        _, at = _long(data, at)
    if count > end - at:
        raise Malformed
    return count, at


def _base64(value: bytes) -> str:
    return b64encode(value).decode()


_FLOAT, _DOUBLE = struct.Struct("<f").unpack_from, struct.Struct("<d").unpack_from
_SCOPE: dict[str, Any] = {
    "Malformed": Malformed,
    "more": _more,
    "block": _block,
    "base64": _base64,
    "float4": lambda data, at: numbers.float4_value(_FLOAT(data, at)[0]),
    "float8": lambda data, at: numbers.float_value(_DOUBLE(data, at)[0]),
}
_NUMBER = ("n = d[p]; p += 1", "if n > 127: n, p = more(d, p, n)")
_LENGTH = (*_NUMBER, "q = p + (n >> 1)", "if n & 1: raise Malformed")


def compile_reader(node: Any, names: Names, wanted: Wanted | None) -> Read:
    """The function that reads a record. Raises ValueError for a schema that cannot be read safely."""
    code = _Code(names)
    entry = code.record(resolve(node, names), wanted)
    scope = dict(_SCOPE) | code.constants
    exec(compile("\n".join(code.lines), "<avro schema>", "exec"), scope)  # noqa: S102  made here, of quoted names only
    read: Read = scope[entry]
    return read


class _Code:
    """Functions made so far. A named type is made once for each use of it, however often the schema names it."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._made: dict[tuple[object, ...], str] = {}
        self.lines: list[str] = []
        self.constants: dict[str, Any] = {}

    def record(self, node: Any, wanted: Wanted | None = None) -> str:
        """The name of the function that reads the record, or the wanted fields of it, as a dict."""
        return self._function(("record", id(node), id(wanted)), lambda: self._record(node, wanted))

    def _function(self, key: tuple[object, ...], body: Callable[[], list[str]]) -> str:
        if key not in self._made:
            self._made[key] = name = f"f{len(self._made)}"  # known before its body: a type may contain itself
            self.lines += [f"def {name}(d, p, e):", *_indented(body())]
        return self._made[key]

    def _record(self, node: Any, wanted: Wanted | None) -> list[str]:
        lines, items = [], []
        for number, field in enumerate(node["fields"]):
            name = field["name"]
            if wanted is not None and name not in wanted:
                lines += self._skip(field["type"])
                continue
            lines += self._read(field["type"], f"v{number}", wanted[name] if wanted is not None else None)
            items.append(f"{name!r}: v{number}")
        return [*lines, f"return {{{', '.join(items)}}}, p"]

    def _read(self, node: Any, target: str, wanted: Wanted | None = None) -> list[str]:
        """Lines that read a value into `target`."""
        node = resolve(node, self._names)
        if isinstance(node, list):
            return self._union(node, lambda branch: self._read(branch, target, wanted))
        kind = node["type"]
        convert = converter(shape_of(node, self._names)) if kind != "array" else None
        if kind in ("bytes", "fixed"):
            octets = "d[p:q]" if convert else "base64(d[p:q])"
            lines = [*self._length(node), f"{target} = {octets}; p = q"]
        elif kind == "record":
            lines = [f"{target}, p = {self.record(node, wanted)}(d, p, e)"]
        elif kind in ("array", "map"):
            lines = [f"{target}, p = {self._many(node)}(d, p, e)"]
        else:
            lines = [line.replace("v", target, 1) if line.startswith("v ") else line for line in self._scalar(node)]
        return lines if convert is None else [*lines, f"{target} = {self._constant(convert)}({target})"]

    def _scalar(self, node: Any) -> list[str]:
        """Lines that read a value of no parts into `v`."""
        match node["type"]:
            case "null":
                return ["v = None"]
            case "boolean":
                return ["n = d[p]; p += 1", "if n > 1: raise Malformed", "v = n == 1"]
            case "int" | "long":
                return [*_NUMBER, "v = (n >> 1) ^ -(n & 1)"]
            case "float":
                return ["v = float4(d, p)", "p += 4"]
            case "double":
                return ["v = float8(d, p)", "p += 8"]
            case "string":
                return [*_LENGTH, "v = str(d[p:q], 'utf-8')", "p = q"]
            case "enum":
                return [*_NUMBER, "if n & 1: raise Malformed", f"v = {self._constant(tuple(node['symbols']))}[n >> 1]"]
        raise ValueError(f"no type {node['type']}")

    def _skip(self, node: Any) -> list[str]:
        """Lines that step over a value."""
        node = resolve(node, self._names)
        if isinstance(node, list):
            return self._union(node, self._skip)
        match node["type"]:
            case "null":
                return ["pass"]
            case "boolean" | "int" | "long" | "enum":
                return ["while d[p] > 127: p += 1", "p += 1"]
            case "float":
                return ["p += 4"]
            case "double":
                return ["p += 8"]
            case "string" | "bytes":
                return [*_NUMBER, "p += n >> 1"]
            case "fixed":
                return [f"p += {int(node['size'])}"]
            case "record":
                body = lambda: [*(line for f in node["fields"] for line in self._skip(f["type"])), "return p"]  # noqa: E731
                return [f"p = {self._function(('skip', id(node)), body)}(d, p, e)"]
        return [f"p = {self._function(('skip', id(node)), lambda: self._skip_many(node))}(d, p, e)"]

    def _union(self, branches: list[Any], each: Callable[[Any], list[str]]) -> list[str]:
        lines = ["b = d[p]; p += 1", "if b > 127: b, p = more(d, p, b)"] if len(branches) > 63 else ["b = d[p]; p += 1"]
        for number in sorted(range(len(branches)), key=lambda n: is_null(branches[n])):  # the likelier ones first
            lines += [f"{'el' if len(lines) > 2 else ''}if b == {2 * number}:", *_indented(each(branches[number]))]
        return [*lines, "else: raise Malformed"]

    def _many(self, node: Any) -> str:
        return self._function(("many", id(node)), lambda: self._collect(node))

    def _collect(self, node: Any) -> list[str]:
        item = self._item(node)
        if node["type"] == "map":
            start, each = "{}", [*self._read("string", "k"), *self._read(item, "v"), "out[k] = v"]
        elif is_entry(item):  # a map of other keys than texts: pairs, as in JSON
            start, each = "[]", [*self._read(item, "v"), "out.append([v['key'], v['value']])"]
        else:
            start, each = "[]", [*self._read(item, "v"), "out.append(v)"]
        loop = ["n, p = block(d, p, e)", "if not n: return out, p", "for _ in range(n):", *_indented(each)]
        return [f"out = {start}", "while True:", *_indented(loop)]

    def _skip_many(self, node: Any) -> list[str]:
        each = [*(self._skip("string") if node["type"] == "map" else []), *self._skip(self._item(node))]
        loop = ["n, p = block(d, p, e)", "if not n: return p", "for _ in range(n):", *_indented(each)]
        return ["while True:", *_indented(loop)]

    def _item(self, node: Any) -> Any:
        if node["type"] == "array" and of_no_bytes(node["items"], self._names):
            raise ValueError("an array of items that take no bytes")
        return resolve(node["items"] if node["type"] == "array" else node["values"], self._names)

    def _length(self, node: Any) -> list[str]:
        if node["type"] == "fixed":
            return [f"q = p + {int(node['size'])}"]
        return list(_LENGTH)

    def _constant(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = value
        return name


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]
