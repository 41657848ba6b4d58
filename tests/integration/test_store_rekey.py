"""Another primary key: events under it fail, and a person's `rekey` makes it the one that counts."""

from __future__ import annotations

from typing import Any

import pytest

from consumer.planning import DocumentWrite, Failure, document_key
from consumer.store import KeyChange, key_change, rekey
from tests.integration.store_bench import SOURCE, Bench, chunk, order, write


def under(source_key: bytes, offset: int, **changes: Any) -> DocumentWrite:
    return write(1, offset, key=document_key(SOURCE, source_key), source_key=source_key, **changes)


def old(number: int, offset: int, **changes: Any) -> DocumentWrite:
    return under(b'{"id":%d}' % number, offset, **changes)


def new(number: int, offset: int, **changes: Any) -> DocumentWrite:
    return under(b'{"id":%d,"shop":1}' % number, offset, **changes)


def living(bench: Bench) -> list[dict[str, Any]]:
    rows = bench.rows("SELECT source_key FROM documents WHERE state <> 'deleted' ORDER BY source_key")
    return [row["source_key"] for row in rows]


@pytest.mark.semantics(
    "operations",
    "primary key that gets other columns, or values of another kind",
    "each event is a failed document (`key_changed`) that names `rekey`: all documents end, a snapshot brings the rows",
)
def test_the_old_documents_end_and_what_comes_late_under_their_key_is_dropped(bench: Bench) -> None:
    failing = old(3, 3, state="failed", failure=Failure("embed", "nan", "why"), fields_hash=None)
    bench.applied(old(1, 1, insert=(chunk("one"),)), old(2, 2, insert=(chunk("two"),)), failing)
    assert key_change(bench.dsn, bench.schema, SOURCE) is None
    for number, offset in ((1, 8), (2, 6), (3, 7)):  # whichever partition is read first
        assert list(bench.applied(new(number, offset)).refused) == [new(number, offset).key]
    assert key_change(bench.dsn, bench.schema, SOURCE) == KeyChange("id", "id, shop", 6)
    assert rekey(bench.dsn, bench.schema, SOURCE) == 6
    assert (living(bench), bench.rows("SELECT FROM chunks"), bench.store.failed_counts()) == ([], [], {})
    assert (key_change(bench.dsn, bench.schema, SOURCE), rekey(bench.dsn, bench.schema, SOURCE)) == (None, 0)

    gravestone = bench.store.lookup([old(1, 1).key])[old(1, 1).key]
    revived = write(1, 6, gravestone, key=old(1, 1).key, order=order(6, partition=1))
    ended = bench.store.lookup([new(1, 1).key])[new(1, 1).key]
    brought = write(1, 9, ended, key=new(1, 9).key, source_key=new(1, 9).source_key, insert=(chunk("one"),))
    outcome = bench.applied(brought, old(4, 4), revived)
    assert outcome.dropped == (old(4, 4).key, revived.key)
    assert living(bench) == [{"id": 1, "shop": 1}]
    [failure] = bench.applied(old(5, 7)).refused.values()
    assert "from (id, shop) to (id)" in failure.error


def test_a_change_back_is_a_change_too(bench: Bench) -> None:
    bench.applied(old(1, 1))
    for write_, number in ((new(1, 5), 2), (old(2, 9), 2)):
        assert list(bench.applied(write_).refused) == [write_.key]
        assert rekey(bench.dsn, bench.schema, SOURCE) == number
        stored = bench.store.lookup([write_.key])[write_.key]
        bench.applied(write(1, 9, stored, key=write_.key, source_key=write_.source_key))
        assert len(living(bench)) == 1
    assert bench.applied(new(2, 8)).dropped == (new(2, 8).key,)
