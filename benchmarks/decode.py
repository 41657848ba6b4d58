"""Bytes to planned events: `take_in` over a batch of records, one thread, on each wire.

Records are what the connector writes for a row with a 40-character title and a body of 500 characters. The baseline is
what one would write first: `json.loads`, or fastavro with the parsed schema, on the same records, measured alternately
in the same run; it does not even look at the key. A ratio is the median over the rounds.
"""

from __future__ import annotations

import io
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fastavro

from benchmarks.figures import Figure
from consumer.content import ContentSpec, TableContent
from consumer.events import AvroSchema, Form, Record, SchemaRef
from consumer.local import Endpoints
from consumer.planning import Table, take_in
from tests.connect_avro import to_avro

EVENTS, ROUNDS = 1000, 101  # a batch as the consumer takes it, by default
TOPIC = "shop.public.items"
BODY = ('A line of a description, with "quotes", some commas and an é.\n' * 10)[:500]
_TEXT = {"type": "string", "optional": True}
_LONG = {"type": "int64", "optional": True}
_ROW = [{"type": "int32", "optional": False, "field": "id"}]
_ROW += [{**_TEXT, "field": name} for name in ("title", "body", "category", "price", "status")]
_ROW += [{**_TEXT, "name": "io.debezium.time.ZonedTimestamp", "version": 1, "field": "updated_at"}]
_CLOCK = [{**_LONG, "field": name} for name in ("ts_ms", "ts_us", "ts_ns")]
_SOURCE = [
    {**_TEXT, "field": name} for name in ("version", "connector", "name", "snapshot", "db", "sequence", "schema")
]
_SOURCE += [{**_TEXT, "field": "table"}, *({**_LONG, "field": name} for name in ("txId", "lsn", "xmin")), *_CLOCK]


def _struct(field: str, name: str, fields: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "struct", "fields": fields, "optional": True, "name": f"{TOPIC}.{name}", "field": field}


SCHEMA = _struct("", "Envelope", [_struct("before", "Value", _ROW), _struct("after", "Value", _ROW)])
SCHEMA["fields"] += [_struct("source", "Source", _SOURCE), {**_TEXT, "field": "op"}, *_CLOCK]
KEY_SCHEMA = _struct("", "Key", _ROW[:1])


def measure(_: Endpoints, __: Path) -> Sequence[Figure]:
    """`decode_json_per_s`, `decode_json_schema_per_s` and `decode_avro_per_s`: the median round of each."""
    return compare(ROUNDS)


def compare(rounds: int) -> Sequence[Figure]:
    """The same in so many rounds; needs no services."""
    plain = [(_dump({"id": n}), _dump(_event(n))) for n in range(EVENTS)]
    wrapped = [(_wrap(KEY_SCHEMA, {"id": n}), _wrap(SCHEMA, _event(n))) for n in range(EVENTS)]
    schema, _body = to_avro(wrapped[0][1])
    parsed = fastavro.parse_schema(json.loads(schema))
    avro = [(key, b"\0\0\0\0\1" + to_avro(value)[1]) for (key, _), (_, value) in zip(plain, wrapped, strict=True)]
    schemas = {SchemaRef("content", 1): AvroSchema(schema)}
    fast = "fastavro.schemaless_reader"
    return [
        _figure("decode_json_per_s", plain, {}, json.loads, "json.loads", rounds),
        _figure("decode_json_schema_per_s", wrapped, {}, json.loads, "json.loads", rounds),
        _figure("decode_avro_per_s", avro, schemas, lambda v: _reference(v, parsed), fast, rounds),
    ]


def _figure(
    name: str,
    raw: Sequence[tuple[bytes, bytes]],
    schemas: dict[SchemaRef, AvroSchema],
    reference: Callable[[bytes], object],
    baseline: str,
    rounds: int,
) -> Figure:
    content = TableContent(ContentSpec(TOPIC, "{{ title }}\n\n{{ body }}", None, ("category", "price")))
    tables = {TOPIC: Table(TOPIC, TOPIC, content, form=Form(columns=content.columns))}
    records = [Record(TOPIC, "id", 0, n, 1, key, value, 1) for n, (key, value) in enumerate(raw)]
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(_rate(lambda: take_in(records, tables, schemas)))
        theirs.append(_rate(lambda: [reference(value) for _, value in raw]))
    assert len(take_in(records, tables, schemas).arrivals) == EVENTS
    ratio = statistics.median(mine / plain for mine, plain in zip(ours, theirs, strict=True))
    return Figure(name, round(statistics.median(ours)), "events/s", f"{baseline} of the same values", round(ratio, 2))


def _rate(work: Callable[[], object]) -> float:
    start = time.thread_time()  # per core, whoever else runs
    work()
    return EVENTS / (time.thread_time() - start)


def _reference(value: bytes, parsed: Any) -> object:
    return fastavro.schemaless_reader(io.BytesIO(value[5:]), parsed, None)


def event_of(number: int, op: str, change: int) -> tuple[bytes, bytes]:
    """Key and value of a record in JSON without schemas: the row's change of that number, later than those before."""
    return _dump({"id": number}), _dump({**_event(number, change), "op": op})


def _event(number: int, change: int = 0) -> dict[str, Any]:
    row = {"id": number, "title": f"Title number {number:06} of forty characters.", "body": BODY, "category": "home"}
    row |= {"price": "12.30", "status": "published", "updated_at": "2026-01-02T03:04:05.678900Z"}
    place = change * 10**8 + number
    us = 1_700_000_000_000_000 + place
    clock = {"ts_ms": us // 1000, "ts_us": us, "ts_ns": us * 1000}
    source = {"version": "3.6.3.Final", "connector": "postgresql", "name": "shop", "snapshot": "false", "db": "shop"}
    source |= {"sequence": f'["{26_000_000 + place}","{26_000_100 + place}"]', "schema": "public", "table": "items"}
    origin = {**source, "txId": number, "lsn": 26_000_100 + place, "xmin": None, **clock}
    return {"before": None, "after": row, "source": origin, "op": "c", **clock}


def _wrap(schema: dict[str, Any], payload: object) -> bytes:
    return b'{"schema":' + _dump(schema) + b',"payload":' + _dump(payload) + b"}"


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
