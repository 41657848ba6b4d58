"""One canonical value per type: from every mode of the real connector (tests/recorded), on every wire."""

from __future__ import annotations

import json
from typing import Any

import pytest

from consumer.errors import Exit, Reject, Stop
from consumer.events import AvroSchema, ChangeEvent, Form, Record, SchemaRef, declared_types, decode_event
from tests.all_types import CANONICAL, DECLARED, LOST, MODES, Raw, recorded
from tests.connect_avro import to_avro

OPS = ("r", "c", "u")


def decode(raw: Raw, form: Form | None = None) -> ChangeEvent:
    return decode_event(Record("t", "i", 0, 1, 1, *raw, 5), form or Form())


def decode_as_avro(raw: Raw, form: Form | None = None) -> ChangeEvent:
    """The same record as it would have come through Connect's Avro converter."""
    schemas, framed = {}, []
    for number, part in enumerate(raw, 1):
        schema, body = to_avro(part)
        schemas[SchemaRef("content", number)] = AvroSchema(schema)
        framed.append(b"\0" + number.to_bytes(4, "big") + body)
    return decode_event(Record("t", "i", 0, 1, 1, framed[0], framed[1], 5), form or Form(), schemas)


def same(after: dict[str, Any] | None, wanted: dict[str, Any]) -> bool:
    """Equal in value and in type: 1, 1.0 and true are three."""
    return after is not None and json.dumps(after, sort_keys=True) == json.dumps(wanted, sort_keys=True)


@pytest.mark.semantics("values", "NULL of a column with a default")
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("mode", MODES)
def test_snapshot_and_stream_give_the_canonical_row_in_every_mode(mode: str, op: str) -> None:
    event = decode(recorded(mode)[op])
    assert same(event.after, CANONICAL | LOST.get(mode, {}) | {"id": 2 if op == "c" else 1})
    assert event.key == (b'{"id":2}' if op == "c" else b'{"id":1}')


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "plain"])
def test_avro_gives_what_json_gives(mode: str, op: str) -> None:
    raw = recorded(mode)[op]
    assert decode_as_avro(raw) == decode(raw)
    assert same(decode_as_avro(raw).after, decode(raw).after or {})


@pytest.mark.parametrize("wire", [decode, decode_as_avro])
@pytest.mark.parametrize("mode", DECLARED)
def test_a_declared_type_restores_what_a_mode_leaves_untyped(mode: str, wire: Any) -> None:
    form = Form(types=declared_types("t", DECLARED[mode]))
    lost = {name: value for name, value in LOST[mode].items() if name not in DECLARED[mode]}
    assert same(wire(recorded(mode)["r"], form).after, CANONICAL | lost)


# Every column whose text or number says nothing of its type, as settings would declare it.
TYPES = {
    "adaptive_time": {"ts3": "timestamp(3)"},
    "micros": {},
    "precise": {"ts3": "timestamp(3)", "t3": "time(3)"}
    | {"n2": "numeric(10, 2)", "n_neg": "numeric(8,3)", "n_zero": "numeric(8,3)", "n0": "numeric(5,0)"}
    | {"n_any": "numeric", "n_small": "decimal", "n_big": "numeric", "m": "numeric(19,2)", "a_n2": "numeric(10,2)[]"},
}
TIMES = {"d": "date", "d_first": "date", "d_far": "date", "d_inf": "date", "d_neg_inf": "date"}
TIMES |= {"t": "time", "t3": "time without time zone", "t_whole": "time", "t24": "time", "tz": "timetz"}
TIMES |= {"ts": "timestamp", "ts3": "timestamp", "ts_whole": "timestamp", "ts_bc": "timestamp", "ts_inf": "timestamp"}
TIMES |= {"ts_neg_inf": "timestamp without time zone", "tstz_inf": "timestamptz", "i8": "bigint", "tx": "text"}
TIMES |= {"a_d": "date[]", "a_t": "time[]", "a_ts": "timestamp[]", "a_tstz": "timestamptz[]", "by": "bytea"}


@pytest.mark.parametrize("mode", TYPES)
def test_json_without_schema_is_equal_where_types_are_declared(mode: str) -> None:
    key, value = recorded(mode)["c"]
    without = key, json.dumps(json.loads(value)["payload"]).encode()
    form = Form(types=declared_types("t", TIMES | TYPES[mode]))
    assert same(decode(without, form).after, CANONICAL | LOST.get(mode, {}) | {"id": 2})


def test_plain_json_is_not_changed_by_declaring_what_it_is() -> None:
    types = declared_types("t", TIMES | TYPES["precise"] | {"a_n2": "numeric(10,2)[]"})
    assert same(decode(recorded("plain")["r"], Form(types=types)).after, CANONICAL)


def connect(value: Any, **shape: Any) -> Raw:
    """A change event with embedded schema whose one column, v, has this shape."""
    column = {"optional": True, "field": "v", **shape}
    after = {"type": "struct", "fields": [column], "optional": True, "field": "after", "name": "t.Value"}
    op = {"type": "string", "optional": False, "field": "op"}
    schema = {"type": "struct", "fields": [after, op], "optional": False, "name": "t.Envelope"}
    id_ = {"type": "int32", "optional": False, "field": "id"}
    key_schema = {"type": "struct", "fields": [id_], "optional": False, "name": "t.Key"}
    key = json.dumps({"schema": key_schema, "payload": {"id": 1}})
    document = {"schema": schema, "payload": {"op": "c", "after": {"v": value}}}
    return key.encode(), json.dumps(document).encode()


DECIMAL = {"type": "bytes", "name": "org.apache.kafka.connect.data.Decimal"}
TEXT = {"type": "string", "optional": True}
WKB = [{"type": "bytes", "optional": False, "field": "wkb"}, {"type": "int32", "optional": True, "field": "srid"}]
GEOMETRY = {"type": "struct", "name": "io.debezium.data.geometry.Geometry", "fields": WKB}


@pytest.mark.parametrize("wire", [decode, decode_as_avro])
@pytest.mark.parametrize(
    ("value", "shape", "canonical"),
    [
        # types that the stack's Postgres does not have
        ({"wkb": "AQEA", "srid": 4326}, GEOMETRY, {"wkb": "AQEA", "srid": 4326}),
        ({"b": "1", "a": None}, {"type": "map", "keys": TEXT, "values": TEXT}, '{"b":"1","a":null}'),
        ('{"b":"1","a":null}', {"type": "string", "name": "io.debezium.data.Json"}, '{"b":"1","a":null}'),
        ("a.b.c", {"type": "string", "name": "io.debezium.data.Ltree"}, "a.b.c"),
        ("<a/>", {"type": "string", "name": "io.debezium.data.Xml"}, "<a/>"),
        # numerics at their ends
        ("AA==", {**DECIMAL, "parameters": {"scale": "0"}}, "0"),
        ("/w==", {**DECIMAL, "parameters": {"scale": "5"}}, "-0.00001"),
        ("gAAAAAAAAAAA", {**DECIMAL, "parameters": {"scale": "1"}}, "-236118324143482260684.8"),
        ("Ag==", {**DECIMAL, "parameters": {"scale": "-3"}}, "2000"),
        # instants at their ends
        (-719163, {"type": "int32", "name": "io.debezium.time.Date"}, "0000-12-31Z"),
        (2932897, {"type": "int32", "name": "io.debezium.time.Date"}, "+10000-01-01Z"),
        (-1, {"type": "int64", "name": "io.debezium.time.MicroTimestamp"}, "1969-12-31T23:59:59.999999Z"),
        (-1, {"type": "int64", "name": "io.debezium.time.NanoTimestamp"}, "1969-12-31T23:59:59.999999999Z"),
        ("+294247-01-10T04:00:25.2Z", {"type": "string"}, "+294247-01-10T04:00:25.2Z"),
    ],
)
def test_hand_made_values(value: Any, shape: dict[str, Any], canonical: Any, wire: Any) -> None:
    assert same(wire(connect(value, **shape)).after, {"v": canonical})


def test_a_numeric_as_a_json_number_keeps_its_scale() -> None:
    assert decode(connect(12.3, **DECIMAL, parameters={"scale": "2"})).after == {"v": "12.30"}


def test_an_unsigned_64_bit_number_is_one_value_from_every_wire_where_it_is_declared() -> None:
    form, text = Form(types=declared_types("t", {"v": "numeric(20,0)"})), "18446744073709551615"
    with_schema = connect("AP//////////", **DECIMAL, parameters={"scale": "0"})
    plain = b'{"id":1}', json.dumps({"op": "c", "after": {"v": int(text)}}).encode()
    values = [decode(with_schema, form).after, decode_as_avro(with_schema, form).after, decode(plain, form).after]
    assert values == [{"v": text}] * 3


def test_the_largest_numerics_are_read_and_larger_ones_refused() -> None:
    shape: dict[str, Any] = {"type": "struct", "name": "io.debezium.data.VariableScaleDecimal"}
    shape["fields"] = [{"type": "int32", "field": "scale"}, {"type": "bytes", "field": "value"}]
    largest = decode(connect({"scale": 0, "value": "f" + "/" * 39999}, **shape)).after or {}
    assert len(largest["v"]) > 70_000
    for value in ({"scale": 2**31 - 1, "value": "AQ=="}, {"scale": 0, "value": "f" + "/" * 99999}):
        with pytest.raises(Reject) as caught:
            decode(connect(value, **shape))
        assert caught.value.error_type == "value_unfit"


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        ("soon", {"type": "int32", "name": "io.debezium.time.Date"}),
        ("%%%", {**DECIMAL, "parameters": {"scale": "0"}}),
        ([1], {"type": "struct", "name": "io.debezium.data.VariableScaleDecimal"}),
        (5, {"type": "array", "items": {"type": "int32", "name": "io.debezium.time.Date"}}),
    ],
)
def test_a_value_that_its_type_cannot_have_is_rejected_by_column(value: Any, shape: dict[str, Any]) -> None:
    with pytest.raises(Reject) as caught:
        decode(connect(value, **shape))
    assert caught.value.error_type == "value_unfit"
    assert "Column v " in caught.value.what


def test_a_schema_that_says_nonsense_is_rejected() -> None:
    key, value = connect("AA==", **DECIMAL, parameters={"scale": "two"})
    for raw in ((key, value), (value, key)):
        with pytest.raises(Reject) as caught:
            decode(raw)
        assert caught.value.error_type in ("schema_unusable", "op_unknown")


@pytest.mark.semantics(
    "values",
    "key under other modes or converters of the connector",
    "one canonical key: the row keeps its identity",
)
def test_keys_are_canonical_in_every_mode() -> None:
    """A row keeps its identity when the connector's modes or converters change."""
    day = {"type": "int32", "optional": False, "field": "d", "name": "io.debezium.time.Date"}
    price = {**DECIMAL, "optional": False, "field": "p", "parameters": {"scale": "2"}}
    schema = {"type": "struct", "fields": [price, day], "optional": False, "name": "t.Key"}
    _, value = connect(1, type="int32")
    key = json.dumps({"schema": schema, "payload": {"p": "BM4=", "d": 19782}}).encode()
    wanted = b'{"d":"2024-02-29Z","p":"12.30"}'
    assert decode((key, value)).key == wanted
    assert decode_as_avro((key, value)).key == wanted
    assert decode((b'{"p":"12.30","d":"2024-02-29Z"}', value)).key == wanted
    declared = Form(types=declared_types("t", {"p": "numeric(10,2)", "d": "date"}))
    assert decode((b'{"p":"BM4=","d":19782}', value), declared).key == wanted


def test_a_new_version_of_a_table_is_learned_and_the_old_one_kept() -> None:
    form = Form(columns=("v",))
    old, new = connect(19782, type="int32", name="io.debezium.time.Date"), connect(19782, type="int32")
    assert [(decode(raw, form).after or {})["v"] for raw in (old, new, old, new)] == ["2024-02-29Z", 19782] * 2


def test_a_record_that_only_begins_like_the_others_is_read_in_full() -> None:
    form = Form()
    key, value = connect(19782, type="int32", name="io.debezium.time.Date")
    with pytest.raises(Reject):
        decode((key, value[:-1] + b"x"), form)
    for odd in (value, value + b" ", value[:-1] + b',"more":1}', value[:-1] + b"} \n"):
        assert decode((key, odd), form).after == {"v": "2024-02-29Z"}


@pytest.mark.parametrize("text", ["numerc", "numeric(ten)", "timestamp(hex)", "", "int[", "bytea(base64)"])
def test_an_unknown_type_stops_the_start_and_names_the_known_ones(text: str) -> None:
    with pytest.raises(Stop) as caught:
        declared_types("shop.items", {"price": text})
    assert caught.value.exit_code == Exit.USAGE
    assert all(word in str(caught.value) for word in ("shop.items", "price", text, "timestamptz"))


@pytest.mark.parametrize(
    "text", ["NUMERIC(10, 2)", "double precision", "timestamp(3)", "int8[]", "bytea(hex)", "character varying(20)"]
)
def test_types_are_written_as_in_postgres(text: str) -> None:
    assert declared_types("t", {"v": text}).keys() == {"v"}


def test_declared_hstores_are_equal_whatever_their_order() -> None:
    form = Form(types=declared_types("t", {"v": "hstore"}))
    for given in ({"b": "1", "a": None}, '{"b":"1","a":null}', '{"a": null, "b": "1"}'):
        value = json.dumps({"op": "c", "after": {"v": given}}).encode()
        assert decode((b'{"id":1}', value), form).after == {"v": '{"a":null,"b":"1"}'}
