"""A snapshot reads columns that no change has: once a change has told which, they are kept out of the row's layout."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from consumer.events import Layout, is_same, layout_of
from tests.integration.store_bench import Bench, order, write


def layout(names: str, op: str = "u") -> bytes:
    """Of a row with columns of one letter."""
    found = layout_of(b'{"op":"%s","after":{%s}}' % (op.encode(), ",".join(f'"{name}":1' for name in names).encode()))
    assert isinstance(found, Layout)
    return found.packed


def read(bench: Bench, number: int) -> bytes:
    """What planning sees of the document."""
    stored = bench.stored(number).document_id
    return bench.store.details(bench.generation, [stored])[stored].layout or b""


def test_a_column_that_changes_had_is_told_from_one_that_only_a_snapshot_has(bench: Bench) -> None:
    """b was streamed and dropped, so that a may be what b was; g never was, and says nothing."""
    for number in (1, 2):
        place = replace(order(number), snapshot=True, sequence=None)
        bench.applied(write(number, number, order=place, layout=layout("abg", "r")))
    assert is_same("a", layout("ac"), read(bench, 1)), "nothing tells yet whether b was ever streamed"
    bench.applied(write(3, 3, layout=layout("ab")))
    bench.applied(write(3, 4, bench.stored(3), layout=layout("ac")))
    assert not is_same("a", layout("ac"), read(bench, 1)), "b was"
    assert is_same("b", layout("ab"), read(bench, 1)), "g was not"


@pytest.mark.parametrize("behind", [False, True])
def test_a_later_snapshot_goes_by_the_last_change_whichever_is_read_last(bench: Bench, behind: bool) -> None:
    """b became a generated column: it is streamed no more. c was renamed since, or is new."""
    for offset in (9, 5) if behind else (5, 9):
        bench.applied(write(offset, offset, layout=layout("abd" if offset == 5 else "ad")))
    later = replace(order(12), snapshot=True, sequence=None)
    bench.applied(write(1, 12, order=later, layout=layout("abcd", "r")))
    assert [is_same(name, layout(now), read(bench, 1)) for now in ("ad", "acd") for name in "ad"] == [True] * 4
    assert not is_same("a", layout("bad"), read(bench, 1))
