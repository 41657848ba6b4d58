"""Another primary key: the consumers stop, and a person's `rekey` lets them go on under the new one."""

from __future__ import annotations

from typing import Any

import pytest

from consumer.errors import Stop
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
    "the process stops (exit 4) and names `rekey`: old documents end, a snapshot brings the rows under their new key",
)
def test_the_old_documents_end_and_what_comes_late_under_their_key_is_dropped(bench: Bench) -> None:
    failing = old(3, 3, state="failed", failure=Failure("embed", "nan", "why"), fields_hash=None)
    bench.applied(old(1, 1, insert=(chunk("one"),)), old(2, 2, insert=(chunk("two"),)), failing)
    assert key_change(bench.dsn, bench.schema, SOURCE) is None
    for offset in (8, 6, 7):  # whichever partition is read first
        with pytest.raises(Stop):
            bench.apply(new(1, offset))
    assert key_change(bench.dsn, bench.schema, SOURCE) == KeyChange("id", "id, shop", 3)
    assert rekey(bench.dsn, bench.schema, SOURCE) == 3
    assert (living(bench), bench.rows("SELECT FROM chunks"), bench.store.failed_counts()) == ([], [], {})
    assert (key_change(bench.dsn, bench.schema, SOURCE), rekey(bench.dsn, bench.schema, SOURCE)) == (None, 0)

    gravestone = bench.store.lookup([old(1, 1).key])[old(1, 1).key]
    revived = write(1, 6, gravestone, key=old(1, 1).key, order=order(6, partition=1))
    outcome = bench.applied(new(1, 7, insert=(chunk("one"),)), old(4, 4), revived)
    assert outcome.dropped == (old(4, 4).key, revived.key)
    assert living(bench) == [{"id": 1, "shop": 1}]
    with pytest.raises(Stop, match=r"from \(id, shop\) to \(id\)"):
        bench.apply(old(5, 7))


def test_a_change_back_is_a_change_too(bench: Bench) -> None:
    bench.applied(old(1, 1))
    for write_, number in ((new(1, 5), 1), (old(1, 9), 1)):
        with pytest.raises(Stop):
            bench.apply(write_)
        assert rekey(bench.dsn, bench.schema, SOURCE) == number
        stored = bench.store.lookup([write_.key]).get(write_.key)
        again = write(1, 9, stored, key=write_.key, source_key=write_.source_key) if stored else write_
        bench.applied(again)
        assert len(living(bench)) == 1
    assert bench.applied(new(2, 8)).dropped == (new(2, 8).key,)
