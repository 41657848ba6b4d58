"""Mutated records of the real connector, on every wire: each decodes, or is rejected with a reason, and nothing else.

The ordinary run takes 20,000 of them; `EMBED_FUZZ_RECORDS=1000000 pytest tests/unit/test_events_fuzz.py` as many as
one likes. A failure prints the seed and number of the record, which make it again.
"""

from __future__ import annotations

import os
import random
import resource
import tracemalloc
from collections.abc import Callable
from functools import cache

import pytest

from consumer.content import ContentSpec, TableContent
from consumer.errors import Reject
from consumer.events import AvroSchema, Form, Record, SchemaRef, declared_types, decode_event, layout_of
from consumer.planning import Table, take_in
from tests.all_types import DECLARED, recorded
from tests.connect_avro import to_avro
from tests.unit.records import TOPIC

RECORDS = int(os.environ.get("EMBED_FUZZ_RECORDS", "20000"))
SEED = 20261121
COLUMNS = ("tx", "n_big", "m", "d", "t", "ts", "tstz", "pt", "v", "sv", "a_d", "a_ts", "a_n2", "by", "a_i8", "jb")
REFS = SchemaRef("content", 0), SchemaRef("content", 1)
Made = tuple[bytes, bytes, dict[SchemaRef, AvroSchema | Reject]]


@cache
def originals() -> list[Made]:
    """Records on each wire, as key, value and schemas."""
    found: list[Made] = [(*recorded("plain")[op], {}) for op in ("r", "c")]
    found += [(*recorded(name)["u"], {}) for name in ("toast_plain", "precise", "toast_hex")]
    for name in ("schema", "precise", "toast_schema"):
        (key_schema, key), (schema, value) = map(to_avro, recorded(name)["u"])
        made = (AvroSchema(key_schema), AvroSchema(schema))
        found.append((b"\0\0\0\0\0" + key, b"\0\0\0\0\1" + value, dict(zip(REFS, made, strict=True))))
    return found


FORMS = (
    Form(),
    Form(columns=COLUMNS),
    Form(columns=COLUMNS, types=declared_types("t", DECLARED["double"] | {"d": "date", "ts": "timestamp(3)"})),
)
WORDS = (
    b"null",
    b"{",
    b"[",
    b'"',
    b"}",
    b"-",
    b"9" * 30,
    b"1e999",
    b"\\u0000",
    b"\\ud800",
    b"\xff",
    b"\0",
    b"\x80" * 9,
)


def flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.randrange(1, 4)):
        data[chance.randrange(len(data))] = chance.randrange(256)


def cut(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    del data[start : start + chance.choice((1, 2, 30, len(data)))]


def insert(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data) + 1)
    data[at:at] = chance.choice(WORDS)


def repeat(data: bytearray, chance: random.Random) -> None:
    start, at = chance.randrange(len(data)), chance.randrange(len(data))
    data[at:at] = data[start : start + chance.randrange(1, 60)] * chance.randrange(1, 4)


def replace(data: bytearray, chance: random.Random) -> None:
    at, word = chance.randrange(len(data)), chance.choice(WORDS)
    data[at : at + len(word)] = word


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (flip, cut, insert, repeat, replace)


def mutated(data: bytes, chance: random.Random) -> bytes:
    """`data` with one to three accidents; half of them near its end, where the payload is."""
    head = 0 if chance.random() < 0.5 else max(0, len(data) - 2500)
    tail = bytearray(data[head:])
    for _ in range(chance.randrange(1, 4)):
        chance.choice(MUTATIONS)(tail or bytearray(b"x"), chance)
    return data[:head] + bytes(tail)


@pytest.mark.semantics("wire forms", "mutated records", "an event, or rejected with a reason")
def test_mutated_records_decode_or_are_rejected_with_a_reason() -> None:
    chance = random.Random(SEED)
    outcomes: dict[str, int] = {}
    originals()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(RECORDS):
        key, value, schemas = chance.choice(originals())
        if chance.random() < 0.2:
            key = mutated(key, chance)
        record = Record(TOPIC, "i", 0, number, 1, key, mutated(value, chance), 5)
        try:
            event = decode_event(record, chance.choice(FORMS), schemas)
            layout_of(event.columns)
            outcome: str = event.op
        except Reject as reject:
            outcome = reject.error_type if reject.stage == "decode" and reject.what else "no reason"
        except BaseException:
            print(f"seed {SEED}, record {number}")
            raise
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    assert "no reason" not in outcomes
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB
    # Neither all garbage nor all sound: every way out was taken.
    wanted = {"u", "value_undecodable", "not_an_envelope", "avro_malformed", "value_unfit", "key_undecodable"}
    assert wanted <= outcomes.keys(), outcomes


def test_hostile_bytes_pass_through_a_batch() -> None:
    """What no mutation finds: each stands between sound records, which are not disturbed."""
    _, value = recorded("plain")["r"]
    deep = [b'{"op":"c","after":{"tx":' + b"[" * n + b"]" * n + b"}}" for n in (90, 900, 100_000)]
    bad = [b"\xff" * 100, b"", b'{"schema":', b'{"schema":{"type":' * 50_000, b"\0" * 5, b"\0\0\0\0\1", b"\0" * 100_000]
    table = Table("s", TOPIC, TableContent(ContentSpec("s", "{{ tx }}")), form=Form(columns=("tx",)))
    values = [value, *(item for odd in (*deep, *bad) for item in (odd, value))]
    records = [Record(TOPIC, "i", 0, n, 1, b'{"id":%d}' % n, item, 5) for n, item in enumerate(values)]
    schemas = {SchemaRef("content", n): Reject("unknown", stage="decode", error_type="schema_unknown") for n in (0, 1)}
    intake = take_in(records, {TOPIC: table}, schemas)
    assert len(intake.arrivals) == len(records)
    assert [
        key for key, (first,) in intake.arrivals.items() if first.order.offset % 2 == 0 and not hasattr(first, "op")
    ] == []


@pytest.mark.parametrize("columns", [("tx",), ("id",)])
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.semantics("wire forms", "values of 100 MB", "take little more memory than themselves")
def test_a_json_value_of_100_mb_takes_little_more_than_itself(wrapped: bool, columns: tuple[str, ...]) -> None:
    value = b'{"op":"c","after":{"id":1,"tx":"' + b"x" * 100_000_000 + b'"}}'
    if wrapped:
        value = b'{"schema":{"type":"struct"},"payload":' + value + b"}"
    record, form = Record(TOPIC, "i", 0, 1, 1, b'{"id":1}', value, 5), Form(columns=columns)
    tracemalloc.start()
    event = decode_event(record, form)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert list(event.after or {}) == list(columns)
    assert peak < 350_000_000


def test_schemas_that_never_come_twice_do_not_pile_up() -> None:
    form = Form(columns=("v",))
    tracemalloc.start()
    for number in range(3000):
        doc = b"x" * 2000 + str(number).encode()
        value = b'{"schema":{"type":"struct","doc":"' + doc + b'"},"payload":{"op":"c","after":{"v":1}}}'
        assert decode_event(Record(TOPIC, "i", 0, 1, 1, b'{"id":1}', value, 5), form).after == {"v": 1}
    assert tracemalloc.get_traced_memory()[0] < 1_000_000
    tracemalloc.stop()
