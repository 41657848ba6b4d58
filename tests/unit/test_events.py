"""Bytes to change events: envelopes, keys, placeholders, and bytes that are none of it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.errors import Reject
from consumer.events import ChangeEvent, Form, Record, decode_event, decode_heartbeat, decode_key
from tests.unit.records import record

ROW = {"id": 1, "title": "a"}


def keyed(key: bytes | None) -> Record:
    return msgspec.structs.replace(record(1, "c", ROW), key=key)


def beat(value: bytes | None) -> Record:
    return msgspec.structs.replace(record(1, "c", ROW), value=value)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("op", ["c", "u", "r"])
@pytest.mark.semantics("wire forms", "JSON with and without its embedded schema", "one and the same event")
def test_a_row_event_carries_row_order_and_key(op: str, wrapped: bool) -> None:
    event = decode_event(record(7, op, ROW, lsn=12, ts_us=99, wrapped=wrapped))
    assert (event.op, event.key, event.after) == (op, b'{"id":1}', ROW)
    assert (event.order.offset, event.order.ts_us) == (7, 99)
    # the sequence of a read is where its snapshot stood: a change committed later may be below it
    assert event.order.sequence == (None if op == "r" else (12, 12))
    assert event.order.snapshot is (op == "r")


@pytest.mark.semantics("operations", "tombstone without its delete (compaction)")
def test_a_delete_and_a_tombstone_carry_no_row() -> None:
    deleted = decode_event(record(7, "d", key={"id": 1}))
    assert (deleted.op, deleted.after, deleted.order.ts_us) == ("d", None, 7000)
    lone = decode_event(record(8, None, key={"id": 1}))
    assert (lone.op, lone.after, lone.order.ts_us, lone.order.sequence) == ("tombstone", None, None, None)


@pytest.mark.parametrize("sequence", [None, '["5",null]', "[]", "x", '["1","2","3"]'])
@pytest.mark.semantics("order", "`source.sequence` that is not complete", "no sequence: offset or commit time decides")
def test_a_sequence_that_is_not_complete_is_none(sequence: str | None) -> None:
    envelope = {"op": "u", "after": ROW, "source": {"ts_ms": 3, "sequence": sequence}}
    event = decode_event(msgspec.structs.replace(record(1, "u", ROW), value=json.dumps(envelope).encode()))
    assert event.order.sequence is None
    assert event.order.ts_us == 3000


def test_before_its_first_commit_a_connector_orders_by_lsn() -> None:
    envelope = {"op": "u", "after": ROW, "source": {"ts_ms": 3, "sequence": '[null,"5"]'}}
    event = decode_event(msgspec.structs.replace(record(1, "u", ROW), value=json.dumps(envelope).encode()))
    assert event.order.sequence == (0, 5)


@pytest.mark.semantics("order", "`source.sequence`", "two integers, compared as numbers")
def test_sequences_are_compared_as_numbers() -> None:
    nine, ten = (decode_event(record(1, "u", ROW, lsn=lsn)).order.sequence for lsn in (999, 1000))
    assert nine is not None
    assert ten is not None
    assert nine < ten


@pytest.mark.parametrize(
    ("value", "error_type"),
    [
        (b"", "value_undecodable"),
        (b"not json", "value_undecodable"),
        (b"\xff\xfe", "value_undecodable"),
        (b"[1]", "not_an_envelope"),
        (b'{"id": 1}', "op_unknown"),
        (b'{"op": "x"}', "op_unknown"),
        (b'{"op": 5}', "not_an_envelope"),
        (b'{"op": "c", "after": null}', "after_missing"),
        (b'{"op": "c", "after": [1]}', "not_an_envelope"),
        (b'{"schema": {}, "payload": {"op": "q"}}', "op_unknown"),
        (b'{"op":"c","after":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, "value_undecodable"),
    ],
)
@pytest.mark.semantics(
    "wire forms",
    "bytes that are no change event",
    "failed document with stage `decode` and the reason",
)
def test_what_is_no_change_event_is_rejected_with_its_reason(value: bytes, error_type: str) -> None:
    with pytest.raises(Reject) as caught:
        decode_event(msgspec.structs.replace(record(1, "c", ROW), value=value))
    assert (caught.value.stage, caught.value.error_type) == ("decode", error_type)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("place", ["value", "key"])
@pytest.mark.semantics("wire forms", "bytes that are not UTF-8", "rejected by what they stand in, never replaced")
def test_bytes_that_are_not_utf_8_are_rejected(place: str, wrapped: bool) -> None:
    bad = {name: b"\xc3\x28" if name == place else b"x" for name in ("value", "key")}
    value = b'{"op":"c","after":{"id":1,"title":"' + bad["value"] + b'"}}'
    if wrapped:
        value = b'{"schema":{"type":"struct"},"payload":' + value + b"}"
    with pytest.raises(Reject) as caught:
        decode_event(msgspec.structs.replace(record(1, "c", ROW), key=b'{"id":"' + bad["key"] + b'"}', value=value))
    assert caught.value.error_type == f"{place}_undecodable"


@given(st.binary(max_size=200))
@pytest.mark.semantics("wire forms", "bytes that are no change event")
def test_any_bytes_are_an_event_or_a_reject(value: bytes) -> None:
    raw = Record("t", "i", 0, 1, 1, value, value, 5)
    try:
        event = decode_event(raw)
    except Reject as reject:
        event = None
        stage = reject.stage
    assert event is not None or stage == "decode"


@pytest.mark.parametrize(
    ("key", "canonical"),
    [
        (b'{"id":1}', b'{"id":1}'),
        (b' { "b" : 2 , "a" : "x" } ', b'{"a":"x","b":2}'),
        (b'{"schema":{"type":"struct"},"payload":{"id":1}}', b'{"id":1}'),
        (b'{"schema":{"type":"struct"},"payload":{"b":1,"a":-7}}', b'{"a":-7,"b":1}'),
        (b'{"payload":{"id":1},"schema":{"type":"struct"}}', b'{"id":1}'),
        (b'{"id":-0}', b'{"id":0}'),
        (b'{"id":12345678901234567890}', b'{"id":12345678901234567890}'),
        *(
            (b'{"id":1,"to":"%s"}' % to, b'{"id":1,"to":"infinity"}')
            for to in (b"+292278994-08-16Z", b"-5877611-06-21Z")
        ),
        (b'{"to":"+292269055-12-02Z"}', b'{"to":"-infinity"}'),
        (b'{"to":"-5877611-06-22Z"}', b'{"to":"-infinity"}'),
        (b'{"to":"+294247-01-10T04:00:25.2Z"}', b'{"to":"infinity"}'),
        # 44 BC, 1 BC and AD 1, in a stream: the connector's snapshot writes the first two without their era.
        (b'{"day":"-0043-03-15Z","id":""}', b'{"day":"0044-03-15Z","id":""}'),
        (b'{"day":"0000-12-31Z"}', b'{"day":"0001-12-31Z"}'),
        (b'{"day":"0001-12-31Z","at":"-0043-03-15T10:00:00Z"}', b'{"at":"-0043-03-15T10:00:00Z","day":"0001-12-31Z"}'),
        (
            b'{"schema":{"type":"struct","fields":[{"type":"int32","name":"io.debezium.time.Date","field":"day"}]},'
            b'"payload":{"day":-735160}}',
            b'{"day":"0044-03-15Z"}',
        ),
        # Columns that are called as the parts of a key with its schema.
        (b'{"schema":"public","payload":7}', b'{"payload":7,"schema":"public"}'),
        (b'{"payload": "x", "schema": 1}', b'{"payload":"x","schema":1}'),
        (b'{"schema":null,"payload":"x"}', b'{"payload":"x","schema":null}'),
        (b'{"schema":"public"}', b'{"schema":"public"}'),
        (b'{"schema":"public","id":1}', b'{"id":1,"schema":"public"}'),
        (b'{"schema":{"type":"struct"},"payload":{"schema":"a","payload":2}}', b'{"payload":2,"schema":"a"}'),
        (b'{"schema":null,"payload":{"schema":"a","payload":2}}', b'{"payload":2,"schema":"a"}'),
    ],
)
@pytest.mark.semantics("wire forms", "key as JSON, in any order of names, with or without schema", "one canonical key")
def test_a_key_is_canonical_whatever_bytes_carry_it(key: bytes, canonical: bytes) -> None:
    assert decode_key(keyed(key)) == canonical


@pytest.mark.parametrize(
    "key",
    [None, b"", b"7", b"[]", b"{}", b"nope", b'{"schema":{},"payload":null}', b'{"id":"\\u0000"}']
    + [b'{"id":"\xff\xfe"}', b'{"id":["a\\u0000"]}', b'{"id":{"\\u0000":1}}', b'{"id":"\\ud800"}', b'{"id":1e400}']
    + [b'{"id":' + b"[" * depth + b'"\\u0000"' + b"]" * depth + b"}" for depth in (300, 980, 100_000)],
)
@pytest.mark.semantics(
    "wire forms",
    "key that names no row, or cannot be stored",
    "rejected event with its Kafka coordinates",
)
def test_a_key_that_names_no_row_is_rejected(key: bytes | None) -> None:
    with pytest.raises(Reject) as caught:
        decode_key(keyed(key))
    assert caught.value.stage == "decode"


@pytest.mark.semantics(
    "wire forms",
    "heartbeat",
    "when a mark in the source's log was committed there, else the connector's clock; what is none tells nothing",
)
def test_heartbeats_tell_when_the_path_was_alive_in_microseconds() -> None:
    mark = b'{"op": "m", "ts_ms": 9, "source": {"ts_us": 7001}, "message": {"prefix": "embed-heartbeat"}}'
    assert decode_heartbeat(beat(mark)) == 7001
    assert decode_heartbeat(beat(b'{"op": "m", "ts_ms": 9, "source": {}}')) is None, "when it was read says nothing"
    assert decode_heartbeat(beat(b'{"ts_ms": 5}')) == 5000
    assert decode_heartbeat(beat(b'{"ts_ns": 5999}')) == 5
    assert decode_heartbeat(beat(b'{"schema": {}, "payload": {"ts_ms": 5, "ts_us": 5001}}')) == 5001
    assert decode_heartbeat(beat(b"junk")) is None
    assert decode_heartbeat(beat(None)) is None


@pytest.mark.parametrize(
    "value", [b'{"ts_ms":9000000000000000000}', b'{"ts_us":1' + b"0" * 300 + b"}", b'{"a":"\xff"}']
)
def test_a_heartbeat_that_no_database_can_hold_tells_nothing(value: bytes) -> None:
    assert decode_heartbeat(beat(value)) is None


def test_a_connectors_clock_that_cannot_be_true_is_not_measured() -> None:
    value = json.dumps({"op": "c", "after": ROW, "source": {"ts_ms": 3}, "ts_ms": 10**400}).encode()
    assert decode_event(msgspec.structs.replace(record(1, "c", ROW), value=value)).connector_us is None


@pytest.mark.parametrize("ts_us", [-1, 2**62, 2**70])
@pytest.mark.semantics("wire forms", "commit time beyond what a timestamp holds", "failed document")
def test_a_commit_time_that_no_database_can_hold_is_rejected(ts_us: int) -> None:
    with pytest.raises(Reject) as caught:
        decode_event(record(1, "u", ROW, ts_us=ts_us))
    assert caught.value.error_type in ("timestamp_out_of_range", "not_an_envelope")


@pytest.mark.semantics("order", "`source.sequence` that is not complete")
def test_a_sequence_beyond_64_bits_is_no_sequence() -> None:
    assert decode_event(record(1, "u", ROW, lsn=10**30)).order.sequence is None


@pytest.mark.semantics(
    "operations", '`snapshot` null, false, "false", or any other', "`op` alone tells a read from a change"
)
@pytest.mark.parametrize("snapshot", [None, False, "false", True, "true", "first", "last", "incremental"])
def test_every_way_to_say_snapshot_is_read(snapshot: Any) -> None:
    event = _sourced("u", snapshot=snapshot, ts_ms=3, sequence='["1","2"]')
    assert (event.order.sequence, event.order.snapshot, event.order.ts_us) == ((1, 2), False, 3000)


@pytest.mark.parametrize(
    ("clocks", "ts_us"),
    [({}, None), ({"ts_ms": 5}, 5000), ({"ts_us": 5001, "ts_ms": 5}, 5001), ({"ts_ns": 5001999}, 5001)],
)
def test_the_most_exact_clock_counts(clocks: dict[str, int], ts_us: int | None) -> None:
    assert _sourced("u", **clocks).order.ts_us == ts_us


@pytest.mark.parametrize(
    ("place", "sequence"),
    [
        ({"file": "mysql-bin.000003", "pos": 197, "row": 2}, (3, 197 * 2**20 + 2)),
        ({"file": "mariadb.host.bin.000010", "pos": 4}, (10, 4 * 2**20)),
        ({"file": "mysql-bin", "pos": 4}, None),
        ({"file": "mysql-bin.000003"}, None),
        ({"pos": 4}, None),
        ({"file": "mysql-bin.000003", "pos": 2**43}, None),
        ({"file": "mysql-bin.000003", "pos": 4, "row": 2**20}, None),
        ({"file": "mysql-bin.000003", "pos": -1}, None),
    ],
)
@pytest.mark.semantics("order", "MySQL and MariaDB, which have no sequence", "binlog file and position are the order")
def test_the_binlog_gives_the_order_where_there_is_no_sequence(
    place: dict[str, Any], sequence: tuple[int, int] | None
) -> None:
    assert _sourced("u", ts_ms=1, **place).order.sequence == sequence
    assert _sourced("r", ts_ms=1, **place).order.sequence is None


def test_later_binlogs_are_later_whatever_their_digits() -> None:
    first, second = (
        _sourced("u", file=f"bin.{file}", pos=pos, row=0).order.sequence
        for file, pos in (("999999", 900), ("1000000", 4))
    )
    assert first is not None
    assert second is not None
    assert first < second


@pytest.mark.parametrize("name", ["Größe", "数量", "π_", 'a "quoted" name', "back\\slash", "tab\there"])
def test_a_column_in_use_is_read_whatever_its_name(name: str) -> None:
    """Made anew here: msgspec finds a name that is not ASCII only if its UTF-8 form has been asked for before."""
    for escaped in (False, True):
        used = "".join(list(name))
        value = json.dumps({"op": "c", "after": {name: 5, "other": 6}, "source": {"ts_us": 1}}, ensure_ascii=escaped)
        event = decode_event(
            msgspec.structs.replace(record(1, "c", {"id": 1}), value=value.encode()), Form(columns=(used,))
        )
        assert event.after is not None
        assert event.after.get(name) == 5


def test_only_columns_in_use_are_decoded() -> None:
    event = decode_event(record(1, "u", {"id": 1, "title": "a", "body": "b"}), Form(columns=("title", "gone")))
    assert event.after == {"title": "a"}


def test_a_format_of_json_never_asks_for_a_schema() -> None:
    framed = msgspec.structs.replace(record(1, "u", ROW), value=b"\0\0\0\0\1abc")
    with pytest.raises(Reject) as caught:
        decode_event(framed, Form("json"))
    assert caught.value.error_type == "value_undecodable"


def test_a_format_of_avro_refuses_json() -> None:
    with pytest.raises(Reject) as caught:
        decode_event(record(1, "u", ROW), Form("avro"))
    assert caught.value.error_type == "not_avro"


def _sourced(op: str, **source: Any) -> ChangeEvent:
    value = json.dumps({"op": op, "after": ROW, "source": source}).encode()
    return decode_event(msgspec.structs.replace(record(1, op, ROW), value=value))


@pytest.mark.parametrize("op", ["u", None])
@pytest.mark.parametrize("sent_ms", [-1, 1_700_000_000_000_000_000])  # none; nanoseconds, as some producers write them
def test_a_producers_time_that_is_none_is_left_out(op: str | None, sent_ms: int) -> None:
    sent = msgspec.structs.replace(record(1, op, ROW if op else None, key={"id": 1}), timestamp_ms=sent_ms)
    assert decode_event(sent).broker_us is None
