"""The least that anybody must do to skip events that change nothing: the ceiling that the product is compared with.

One loop, one thread: a thousand records at a time, decode with msgspec, hash the used columns, ask Postgres for the
stored hashes of these keys, compare, move the offset in the same transaction. It knows no order of events, no TOAST, no
truncate, no key change, no other member and no metric.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from hashlib import sha256

import msgspec
import psycopg
from confluent_kafka import Consumer, Message, TopicPartition
from psycopg import sql

from tests.world import World

_AT_ONCE = 1000
_encode = msgspec.json.encode


class _Row(msgspec.Struct):
    title: str
    body: str
    category: str
    price: str
    status: str


class _Envelope(msgspec.Struct):
    op: str
    after: _Row


_decode = msgspec.json.Decoder(_Envelope).decode
_STORED = "SELECT key_hash, fields_hash FROM documents WHERE source = %s AND key_hash = ANY(%s)"
_MOVE = "UPDATE ceiling SET next_offset = next_offset + %s"


def events_per_s(world: World, starts: Sequence[int], events: int) -> float:
    """Read so many events of the first table's topic, from these offsets on; each must prove unchanged."""
    with psycopg.connect(world.endpoints.migrator_dsn) as store:
        store.execute(sql.SQL("SET search_path = {}").format(sql.Identifier(world.name)))
        store.execute("CREATE TABLE ceiling AS SELECT 0::bigint AS next_offset")
        store.commit()
        began = 0.0
        for messages in _batches(world, starts, events):
            began = began or time.perf_counter()
            _skip(store, world.topic(), messages)
        return events / (time.perf_counter() - began)


def _skip(store: psycopg.Connection, source: str, messages: Sequence[Message]) -> None:
    hashes = {}
    for message in messages:
        row = _decode(message.value() or b"").after
        values = [row.body, row.category, row.price, row.status, row.title]
        hashes[sha256(message.key() or b"").digest()[:16]] = sha256(_encode(values)).digest()
    stored: dict[bytes, bytes] = dict(store.execute(_STORED, [source, list(hashes)], binary=True).fetchall())
    if stored != hashes:
        raise AssertionError("an event was to change nothing, and does")
    store.execute(_MOVE, [len(messages)])
    store.commit()


def _batches(world: World, starts: Sequence[int], events: int) -> Iterator[list[Message]]:
    settings = {"bootstrap.servers": world.endpoints.bootstrap_servers, "group.id": "ceiling"}
    consumer = Consumer({**settings, "enable.auto.commit": False, "fetch.queue.backoff.ms": 10})
    try:
        consumer.assign([TopicPartition(world.topic(), number, start) for number, start in enumerate(starts)])
        while events > 0:
            messages = consumer.consume(min(_AT_ONCE, events), 1.0)
            events -= len(messages)
            if messages:
                yield messages
    finally:
        consumer.close()
