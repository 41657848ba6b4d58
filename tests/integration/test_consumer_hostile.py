"""Values at and beyond every border that JSON, Python or Postgres has: none of them ends the consumer."""

from __future__ import annotations

import pytest

from tests.envelopes import Raw, change, key, row
from tests.world import World

_ENVELOPE = (
    '{"op": "c", "after": {"id": %s, "title": %s, "body": null, "category": %s, "price": 1, "status": "published"},'
    ' "source": {"ts_us": %s, "sequence": %s}, "ts_ms": %s}'
)


def raw(
    number: int,
    title: str = '"t"',
    category: str = '"c"',
    ts_us: str = "1700000000000000",
    sequence: str = "null",
    ts_ms: str = "1",
) -> Raw:
    """A change event whose values are written as they are given, as JSON text."""
    return key(number), (_ENVELOPE % (number, title, category, ts_us, sequence, ts_ms)).encode()


HARMLESS = [
    raw(100, sequence=rf'"[\"{2**70}\", \"{2**70}\"]"'),
    raw(101, sequence=r'"[null, \"12\"]"'),
    raw(102, ts_us="null"),
    raw(103, ts_ms=str(2**80)),
    raw(104, category="[" * 30 + "]" * 30),
    raw(105, category="1" * 300),
    raw(106, category="-0.0"),
    raw(107, category="1e300"),
    raw(108, category=f'"{"x" * 700_000}"'),
    raw(109, title=f'"{"x" * 700_000}"'),
    raw(110, title=f'"{"漢" * 50_000}"'),
    raw(111, title="12345"),
    raw(112, title='["a", {"b": null}]'),
    raw(113, title='"' + r"\u0301" * 5000 + '"'),
    raw(114, title='"' + "a" * 99 + " " + r"\u200b" * 3000 + ' z"'),
    raw(115, title='"' + r" \n" * 1000 + '"'),
]
HOSTILE = [
    raw(200, ts_us=str(2**70)),
    raw(201, ts_us=str(2**63 - 1)),
    raw(202, ts_us=str(-(2**63))),
    raw(203, ts_us="1e30"),
    raw(204, ts_us='"x"'),
    raw(205, title=r'"\ud800 x"'),
    raw(206, category=r'"\udc00\ud800"'),
    raw(207, category="1e999"),
    raw(208, category="NaN"),
    raw(209, category="[" * 20_000 + "]" * 20_000),
    raw(210, category="1" * 5000),
    raw(211, category=r'{"\u0000": 1}'),
    raw(212, title=r'"\u0000"'),
]
GOOD_KEYS = [b'{"id": null}', b'{"id": 1.5}']
OTHER_KEYS = [b'{"id": [1, 2]}', b'{"": 1}', b'{"id": "' + b"x" * 100_000 + b'"}', b'{"schema": 1, "payload": null}']
BAD_KEYS = [
    b'{"id": 1e999}',
    b'{"id": NaN}',
    rb'{"id": "\ud800"}',
    b"{}",
    b"null",
    b"\xff",
    b"[" * 100_000,
    rb'{"id": "\u0000"}',
    rb'{"id": {"a": ["\u0000"]}}',
    rb'{"id": {"\u0000": 1}}',
]


@pytest.mark.semantics(
    "values",
    "huge numbers, deep nesting, NaN, 700 kB of text, odd Unicode",
    "applied where Postgres can hold it, else a failed document; neighbours go on",
)
def test_no_value_ends_the_consumer(world: World) -> None:
    world.tables = world.tables[:1]
    world.create_topic()
    keyed = [(name, change(row(0), "c")[1]) for name in (*GOOD_KEYS, *OTHER_KEYS, *BAD_KEYS)]
    neighbours = range(1000, 1000 + len(HARMLESS + HOSTILE + keyed))
    poison = zip((*HARMLESS, *HOSTILE, *keyed), neighbours, strict=True)
    world.produce(*(record for value, number in poison for record in (value, change(row(number), "c"))))
    world.migrate()
    with world.consumer():
        world.until(lambda: world.caught_up("a"))
    documents = world.store("SELECT source_key, state FROM documents")
    states = {document["source_key"].get("id"): document["state"] for document in documents if _is_number(document)}
    assert states == {
        **dict.fromkeys(range(100, 100 + len(HARMLESS)), "embedded"),
        **dict.fromkeys(range(200, 200 + len(HOSTILE)), "failed"),
        **dict.fromkeys(neighbours, "embedded"),
    }
    assert len(documents) == len(states) + len(GOOD_KEYS + OTHER_KEYS)
    refused = world.store("SELECT count(*) FROM failed_documents WHERE error_type = 'key_changed'")
    assert refused == [{"count": len(OTHER_KEYS)}]
    assert world.store("SELECT count(*) FROM failed_documents WHERE source_key IS NULL") == [{"count": len(BAD_KEYS)}]


def _is_number(document: dict[str, dict[str, object]]) -> bool:
    return isinstance(document["source_key"].get("id"), int)
