"""Bytes to change events: envelopes, keys, placeholders, and bytes that are none of it."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.errors import Reject
from consumer.events import Record, decode_event, decode_heartbeat, decode_key, is_placeholder
from tests.unit.records import record

ROW = {"id": 1, "title": "a"}


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


@pytest.mark.parametrize("sequence", [None, '[null,"5"]', '["5",null]', "[]", "x", '["1","2","3"]'])
@pytest.mark.semantics("order", "`source.sequence` that is not complete", "no sequence: offset or commit time decides")
def test_a_sequence_that_is_not_complete_is_none(sequence: str | None) -> None:
    envelope = {"op": "u", "after": ROW, "source": {"ts_ms": 3, "sequence": sequence}}
    event = decode_event(msgspec.structs.replace(record(1, "u", ROW), value=json.dumps(envelope).encode()))
    assert event.order.sequence is None
    assert event.order.ts_us == 3000


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
    ],
)
@pytest.mark.semantics("wire forms", "key as JSON, in any order of names, with or without schema", "one canonical key")
def test_a_key_is_canonical_whatever_bytes_carry_it(key: bytes, canonical: bytes) -> None:
    assert decode_key(key) == canonical


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
        decode_key(key)
    assert caught.value.stage == "decode"


TEXT = "__debezium_unavailable_value"


@pytest.mark.parametrize(
    "value",
    [
        TEXT,
        base64.b64encode(TEXT.encode()).decode(),
        TEXT.encode().hex(),
        [TEXT],
        list(TEXT.encode()),
        ["b68a35a7-17ad-35b3-af2a-ae46edb4545a"],
        {TEXT: TEXT},
    ],
)
@pytest.mark.semantics(
    "TOAST",
    "placeholder of text, bytea (base64, hex), text array, integer array, uuid array, hstore",
    "recognised",
)
def test_every_form_of_the_placeholder_is_known(value: Any) -> None:
    assert is_placeholder(value)


@pytest.mark.parametrize("value", [None, "", 1, f"about {TEXT}", [TEXT, TEXT], {"a": TEXT}, [], {}, 3.5, True])
@pytest.mark.semantics("TOAST", "user text that contains the placeholder", "data, embedded as it is")
def test_a_value_that_merely_contains_it_is_data(value: Any) -> None:
    assert not is_placeholder(value)


@pytest.mark.semantics("wire forms", "heartbeat", "the connector's clock; what is none tells nothing")
def test_heartbeats_give_the_connectors_clock_in_microseconds() -> None:
    assert decode_heartbeat(b'{"ts_ms": 5}') == 5000
    assert decode_heartbeat(b'{"schema": {}, "payload": {"ts_ms": 5, "ts_us": 5001}}') == 5001
    assert decode_heartbeat(b"junk") is None
    assert decode_heartbeat(None) is None


@pytest.mark.parametrize(
    "value", [b'{"ts_ms":9000000000000000000}', b'{"ts_us":1' + b"0" * 300 + b"}", b'{"a":"\xff"}']
)
def test_a_heartbeat_that_no_database_can_hold_tells_nothing(value: bytes) -> None:
    assert decode_heartbeat(value) is None


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
