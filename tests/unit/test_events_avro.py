"""Avro bodies: equal to the reference implementation, by the writer's schema, and harmless whatever the bytes are."""

from __future__ import annotations

import io
import json
import math
import random
import tracemalloc
from typing import Any

import fastavro
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.errors import Reject
from consumer.events import AvroSchema, Form, Record, SchemaRef, decode_event, decode_heartbeat, decode_key
from consumer.planning import schema_refs, take_in
from tests.unit.records import HEARTBEATS, TOPIC, table

REF = SchemaRef("content", 7)
FRAME = b"\0\0\0\0\7"


def envelope(column: Any, name: str = "v") -> dict[str, Any]:
    """An Avro schema of Debezium's envelope for a row of one column."""
    row = {"type": "record", "name": "Value", "fields": [{"name": name, "type": column}]}
    source = [{"name": "ts_ms", "type": "long"}, {"name": "sequence", "type": ["null", "string"]}]
    return {
        "type": "record",
        "name": "Envelope",
        "namespace": "shop.public.items",
        "fields": [
            {"name": "before", "type": ["null", row], "default": None},
            {"name": "after", "type": ["null", "Value"], "default": None},
            {"name": "source", "type": {"type": "record", "name": "Source", "fields": source}},
            {"name": "op", "type": "string"},
            {"name": "ts_ms", "type": ["null", "long"], "default": None},
        ],
    }


def written(schema: Any, datum: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(json.dumps(schema))), datum)
    return out.getvalue()


def event_of(schema: Any, row: Any, op: str = "c") -> Record:
    datum = {"after": row, "before": row, "op": op, "ts_ms": 5, "source": {"ts_ms": 3, "sequence": '["1","2"]'}}
    return Record(TOPIC, "i", 0, 1, 1, b'{"id":1}', FRAME + written(schema, datum), 5)


def read(schema: Any, record: Record, *references: Any, form: Form | None = None) -> Any:
    parsed = AvroSchema(json.dumps(schema), [json.dumps(reference) for reference in references])
    return decode_event(record, form or Form(), {REF: parsed})


def refused(schema: Any, value: bytes) -> str:
    with pytest.raises(Reject) as caught:
        read(schema, Record(TOPIC, "i", 0, 1, 1, b'{"id":1}', FRAME + value, 5))
    assert caught.value.stage == "decode"
    return caught.value.error_type


PLAIN: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(allow_nan=False, allow_infinity=False),
    "string": st.text(st.characters(exclude_categories=["Cs"])),
}


@st.composite
def schema_and_value(draw: st.DrawFn, depth: int = 3, named: list[int] | None = None) -> tuple[Any, Any]:
    """A schema, and a value that both readers must give back."""
    named = [0] if named is None else named
    kind = draw(st.sampled_from([*PLAIN, "array", "map", "record", "union", "enum"] if depth else list(PLAIN)))
    if kind in PLAIN:
        return kind, draw(PLAIN[kind])
    inner, value = draw(schema_and_value(depth=depth - 1, named=named))
    named[0] += 1
    if kind == "array" and inner != "null" and not isinstance(inner, list) and not _empty(inner):
        return {"type": "array", "items": inner}, [value] * draw(st.integers(0, 3))
    if kind == "map" and inner in ("int", "long", "boolean", "double"):  # one of texts would be an hstore
        keys = draw(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=3), max_size=3))
        return {"type": "map", "values": inner}, dict.fromkeys(keys, value)
    if kind == "record":
        fields = [{"name": "skipped", "type": "string"}, {"name": "x", "type": inner}]
        return {"type": "record", "name": f"r{named[0]}", "fields": fields}, {"skipped": "s", "x": value}
    if kind == "enum":
        return {"type": "enum", "name": f"e{named[0]}", "symbols": ["A", "B"]}, draw(st.sampled_from("AB"))
    if inner in ("null", "double") or isinstance(inner, list):
        return ["null", "string"], draw(st.none() | PLAIN["string"])
    return ["null", inner], draw(st.sampled_from([None, value]))


def _empty(schema: Any) -> bool:
    return isinstance(schema, dict) and schema["type"] == "record" and not schema["fields"]


@settings(max_examples=300, deadline=None)
@given(schema_and_value())
@pytest.mark.semantics("wire forms", "nested records, nullable unions and named types in Avro")
def test_any_schema_is_read_as_the_reference_reads_it(made: tuple[Any, Any]) -> None:
    column, value = made
    schema = envelope(column)
    record = event_of(schema, {"v": value})
    body = (record.value or b"")[5:]
    parsed = fastavro.parse_schema(json.loads(json.dumps(schema)))
    reference: Any = fastavro.schemaless_reader(io.BytesIO(body), parsed, None)
    assert read(schema, record).after == reference["after"]
    assert read(schema, record, form=Form(columns=())).after == {}  # everything is stepped over
    for cut in range(0, len(body), max(1, len(body) // 7)):
        refused(schema, body[:cut])
    assert refused(schema, body + b"\0") == "avro_malformed"


@pytest.mark.parametrize(
    ("column", "value", "canonical"),
    [
        ("float", 0.1, 0.1),
        ("float", math.nan, "NaN"),
        ("double", -math.inf, "-Infinity"),
        ("bytes", b"\xde\xad", "3q0="),
        ({"type": "fixed", "name": "F", "size": 2}, b"\xde\xad", "3q0="),
        ({"type": "array", "items": ["null", "bytes"]}, [b"\xde\xad", None], ["3q0=", None]),
        ({"type": "int", "logicalType": "date"}, 19782, "2024-02-29Z"),
        ({"type": "long", "logicalType": "timestamp-micros"}, 0, "1970-01-01T00:00:00Z"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, b"\x04\xce", "12.30"),
        (["null", "string", "long"], 5, 5),
        ([{"type": "string"}, {"type": "null"}], None, None),
    ],
)
def test_avro_types_have_the_values_of_json(column: Any, value: Any, canonical: Any) -> None:
    schema = envelope(column)
    plain = json.loads(json.dumps(schema).replace("logicalType", "ignored"))
    assert read(schema, event_of(plain, {"v": value})).after == {"v": canonical}


def test_maps_by_other_keys_than_texts_are_pairs() -> None:
    entry = {"type": "record", "name": "MapEntry", "fields": [{"name": n, "type": "int"} for n in ("key", "value")]}
    schema = envelope({"type": "array", "items": entry})
    assert read(schema, event_of(schema, {"v": [{"key": 1, "value": 2}]})).after == {"v": [[1, 2]]}


def test_a_delete_and_a_truncate_have_no_row() -> None:
    schema = envelope("string")
    deleted = read(schema, event_of(schema, None, "d"))
    assert (deleted.op, deleted.after, deleted.key, deleted.order.sequence) == ("d", None, b'{"id":1}', (1, 2))
    truncate = read(schema, event_of(schema, None, "t"))
    assert (truncate.key, truncate.table) == (b"", None)


def test_a_truncate_names_its_table() -> None:
    schema, names = envelope("string"), {"name": "shop", "db": "d", "schema": "public", "table": "items"}
    schema["fields"][2]["type"]["fields"] += [{"name": name, "type": "string"} for name in names]
    datum = {"op": "t", "ts_ms": 5, "source": {"ts_ms": 3, "sequence": '["1","2"]', **names}}
    event = read(schema, Record(TOPIC, "i", 0, 1, 1, None, FRAME + written(schema, datum), 5))
    assert (event.table, event.order.sequence) == ("shop.public.items", (1, 2))


@pytest.mark.semantics("wire forms", "columns added, dropped, renamed or retyped mid-stream")
def test_each_record_is_read_by_the_schema_it_was_written_with() -> None:
    """A column is added, renamed and retyped; one form reads all versions, in any order."""
    form = Form(columns=("v",))
    versions: list[Any] = [(envelope("int"), 5, {"v": 5}), (envelope("string"), "5", {"v": "5"})]
    versions.append((envelope("string", "w"), "5", {}))
    for schema, value, after in [*versions, *versions[::-1]]:
        name = schema["fields"][0]["type"][1]["fields"][0]["name"]
        assert read(schema, event_of(schema, {name: value}), form=form).after == after


@pytest.mark.parametrize("framing", ["auto", "its own"])
@pytest.mark.parametrize(
    ("kind", "frame", "headers"),
    [
        ("confluent", FRAME, ()),
        ("apicurio8", b"\0" + (7).to_bytes(8, "big"), ()),
        ("headers", b"", (("apicurio.value.globalId", (7).to_bytes(8, "big")), ("apicurio.value.encoding", b"BINARY"))),
        ("headers", b"", (("apicurio.value.contentId", (7).to_bytes(8, "big")),)),
    ],
)
@pytest.mark.semantics("wire forms", "framing: Confluent and Apicurio 4 bytes, Apicurio 8 bytes, Apicurio headers")
def test_an_event_is_the_same_in_every_framing(kind: Any, frame: bytes, headers: Any, framing: str) -> None:
    schema, form = envelope("string"), Form(framing="auto" if framing == "auto" else kind)
    expected = event_of(schema, {"v": "x"})
    body = (expected.value or b"").removeprefix(FRAME)
    framed = msgspec.structs.replace(expected, value=frame + body, headers=headers)
    [ref] = schema_refs([framed], {TOPIC: table(form=form)})
    assert decode_event(framed, form, {ref: AvroSchema(json.dumps(schema))}) == read(schema, expected)


@pytest.mark.semantics(
    "wire forms",
    "nested records, nullable unions and named types in Avro",
    "read as the reference implementation reads them",
)
def test_a_type_is_named_once_and_used_again() -> None:
    point = {"type": "record", "name": "Point", "fields": [{"name": "x", "type": "int"}]}
    mood = {"type": "enum", "name": "Mood", "symbols": ["glad", "sad"]}
    fields = {"a": point, "b": ["null", "Point"], "c": {"type": "array", "items": "Point"}, "d": mood, "e": "Mood"}
    named = [{"name": name, "type": kind} for name, kind in fields.items()]
    schema = envelope(["null", {"type": "record", "name": "Nested", "fields": named}])
    value = {"a": {"x": 1}, "b": None, "c": [{"x": 2}, {"x": 3}], "d": "sad", "e": "glad"}
    for each in (value, value | {"b": {"x": 4}}, None):
        assert read(schema, event_of(schema, {"v": each})).after == {"v": each}


@pytest.mark.semantics("wire forms", "nested records, nullable unions and named types in Avro")
def test_types_may_come_from_referenced_schemas() -> None:
    point = {"type": "record", "name": "geo.Point", "fields": [{"name": "x", "type": "int"}]}
    schema = envelope("geo.Point")
    inline = envelope(point)
    assert read(schema, event_of(inline, {"v": {"x": 1}}), point).after == {"v": {"x": 1}}


@pytest.mark.semantics("wire forms", "key in Avro", "the same canonical key as from JSON")
def test_keys_come_in_avro_too() -> None:
    schema = {"type": "record", "name": "Key", "fields": [{"name": n, "type": "long"} for n in ("b", "a")]}
    record = Record(TOPIC, "i", 0, 1, 1, FRAME + written(schema, {"b": 1, "a": 2}), None, 5)
    schemas = {REF: AvroSchema(json.dumps(schema))}
    assert decode_key(record, Form(), schemas) == b'{"a":2,"b":1}'
    assert decode_event(record, Form(), schemas).op == "tombstone"
    for body, kind in ((b"", "avro_malformed"), (b"\0" * 20, "avro_malformed")):
        with pytest.raises(Reject) as caught:
            decode_key(Record(TOPIC, "i", 0, 1, 1, FRAME + body, None, 5), Form(), schemas)
        assert caught.value.error_type == kind
    with pytest.raises(Reject) as caught:
        decode_key(record, Form(), {REF: AvroSchema('"string"')})
    assert caught.value.error_type == "key_undecodable"


def test_heartbeats_come_in_avro_too() -> None:
    schema = {"type": "record", "name": "Heartbeat", "fields": [{"name": "ts_ms", "type": "long"}]}
    record = Record(HEARTBEATS, "i", 0, 1, 1, None, FRAME + written(schema, {"ts_ms": 5}), 5)
    assert decode_heartbeat(record, Form(), {REF: AvroSchema(json.dumps(schema))}) == 5000


def test_marks_of_the_log_come_in_avro_too() -> None:
    origin = {"type": "record", "name": "Source", "fields": [{"name": "ts_us", "type": ["null", "long"]}]}
    message = {
        "type": "record",
        "name": "Block",
        "fields": [{"name": "prefix", "type": ["null", "string"]}, {"name": "content", "type": ["null", "bytes"]}],
    }
    fields = [("op", "string"), ("ts_ms", ["null", "long"]), ("source", origin), ("message", message)]
    schema = {"type": "record", "name": "Envelope", "fields": [{"name": name, "type": kind} for name, kind in fields]}
    mark = {"op": "m", "ts_ms": 9, "source": {"ts_us": 7001}, "message": {"prefix": "embed-heartbeat", "content": b""}}
    record = Record(HEARTBEATS, "i", 0, 1, 1, None, FRAME + written(schema, mark), 5)
    assert decode_heartbeat(record, Form(), {REF: AvroSchema(json.dumps(schema))}) == 7001


def test_a_batch_names_its_schemas_and_fails_the_events_of_those_that_are_not_known() -> None:
    record, tables = event_of(envelope("string"), {"v": "x"}), {TOPIC: table()}
    beat = Record(HEARTBEATS, "i", 0, 1, 1, None, b"\0\0\0\0\x08\0", 5)
    assert schema_refs([record, beat], tables) == {REF, SchemaRef("content", 8)}
    unknown = Reject("The registry has no schema 7.", stage="decode", error_type="schema_unknown")
    ((arrivals),) = take_in([record], tables, {REF: unknown}).arrivals.values()
    assert arrivals[0].failure.error_type == "schema_unknown"  # type: ignore[union-attr]


@pytest.mark.parametrize("schema", ["", "{}", '{"type": "nope"}', '["null"', "[" * 5000])
def test_what_is_no_schema_is_rejected(schema: str) -> None:
    with pytest.raises(Reject) as caught:
        AvroSchema(schema)
    assert caught.value.error_type == "schema_unusable"


@pytest.mark.parametrize("schema", ['"string"', '{"type":"record","name":"x","fields":[{"name":"op","type":"int"}]}'])
def test_a_schema_that_is_no_envelope_is_rejected(schema: str) -> None:
    record = Record(TOPIC, "i", 0, 1, 1, b'{"id":1}', FRAME + b"\2", 5)
    with pytest.raises(Reject) as caught:
        decode_event(record, Form(), {REF: AvroSchema(schema)})
    assert caught.value.error_type == "not_an_envelope"


def long(number: int) -> bytes:
    """A zigzag varint."""
    number, out = (number << 1) ^ (number >> 63), bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


BEFORE_ROW = b"\0\2"  # before is null, after is a row
LIST = {"type": "record", "name": "List", "fields": [{"name": "next", "type": ["null", "List"]}]}
BOMBS = [
    ({"type": "array", "items": "int"}, long(2**40) + b"\2"),
    ({"type": "array", "items": "int"}, long(-(2**62)) + long(2**62) + b"\2"),
    ({"type": "map", "values": "int"}, long(2**40)),
    ("string", long(2**40)),
    ("string", long(-5)),
    ("bytes", long(2**62)),
    ("string", b"\xff" * 20),
    ("long", b"\xff" * 12),
    ("string", long(2) + b"\xff\xfe"),
    (["null", "int"], long(2) + b"\2"),
    ({"type": "enum", "name": "E", "symbols": ["A"]}, long(4)),
    ("boolean", b"\2"),
    (LIST, b"\2" * 100_000 + b"\0"),
]


@pytest.mark.parametrize(("column", "body"), BOMBS)
@pytest.mark.parametrize("tail", [b"", b"\0" * 50])
@pytest.mark.semantics("wire forms", "Avro bombs", "refused in little memory")
def test_bombs_are_refused_in_little_memory(column: Any, body: bytes, tail: bytes) -> None:
    schema = AvroSchema(json.dumps(envelope(column)))
    record = Record(TOPIC, "i", 0, 1, 1, b'{"id":1}', FRAME + BEFORE_ROW + body + tail, 5)
    for form in (Form(), Form(columns=())):
        tracemalloc.start()
        with pytest.raises(Reject):
            decode_event(record, form, {REF: schema})
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
        tracemalloc.stop()


@pytest.mark.parametrize(
    "items", ["null", {"type": "record", "name": "N", "fields": []}, {"type": "fixed", "name": "F", "size": 0}]
)
def test_arrays_of_nothing_are_refused(items: Any) -> None:
    assert refused(envelope({"type": "array", "items": items}), BEFORE_ROW + long(2**40)) == "schema_unusable"


def test_a_schema_that_doubles_with_every_level_stays_small() -> None:
    """Each type holds the one below it twice: written out, that would be 2^40 fields."""
    column: Any = "int"
    for level in range(40):
        again = f"shop.public.items.T{level - 1}" if level else "int"
        fields = [{"name": "a", "type": column}, {"name": "b", "type": again}]
        column = {"type": "record", "name": f"T{level}", "fields": fields}
    assert refused(envelope(column), BEFORE_ROW) == "avro_malformed"


@pytest.mark.semantics("wire forms", "values of 100 MB")
def test_a_value_of_100_mb_takes_little_more_than_itself() -> None:
    schema = envelope("string")
    record = event_of(schema, {"v": "x" * 50_000_000})
    parsed = AvroSchema(json.dumps(schema))
    tracemalloc.start()
    decode_event(record, Form(columns=()), {REF: parsed})
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    assert len((decode_event(record, Form(), {REF: parsed}).after or {})["v"]) == 50_000_000
    assert tracemalloc.get_traced_memory()[1] < 120_000_000
    tracemalloc.stop()


def test_float4_is_the_shortest_number_that_means_it() -> None:
    numpy = pytest.importorskip("numpy")
    chance, schema = random.Random(4), envelope("float")
    values = [numpy.frombuffer(chance.randbytes(4), "<f4")[0] for _ in range(2000)]
    values += [numpy.float32(2.0**power) for power in range(-126, 128)]  # where the gaps above and below differ
    parsed, form = {REF: AvroSchema(json.dumps(schema))}, Form()
    for value in values:
        after = decode_event(event_of(schema, {"v": float(value)}), form, parsed).after or {}
        assert after["v"] == float(str(value)) or not math.isfinite(value)
