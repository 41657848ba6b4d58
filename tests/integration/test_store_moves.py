"""Key changes in the store: what a delete leaves, who finds it, and when it goes."""

from __future__ import annotations

import msgspec
import numpy as np

from consumer.planning import DocumentWrite, Failure, Move
from tests.integration.store_bench import VECTORS, Bench, chunk, chunk_hash, delete, key, write

INCOMPLETE = Failure("plan", "incomplete", "why")


MOVE = b"m" * 16


def moved(bench: Bench, awaits: bytes | None = None) -> None:
    """Document 1, of two chunks, becomes document 2 at offset 5."""
    bench.applied(write(1, 1, insert=(chunk("one"), chunk("two", 1))))
    gone = delete(1, 5, bench.stored(1))
    bench.applied(msgspec.structs.replace(gone, leaves=(Move(MOVE, b'{"title":"t"}', awaits),)))


def incomplete(number: int, awaits: bytes | None = MOVE) -> DocumentWrite:
    return write(number, 5, state="failed", failure=INCOMPLETE, fields=b"{}", fields_complete=False, awaits=awaits)


def test_a_delete_leaves_fields_and_vectors_until_they_are_used(bench: Bench) -> None:
    moved(bench)
    found = bench.store.moves(bench.generation, [MOVE, b"other"])
    assert found.keys() == {MOVE}
    assert (found[MOVE].fields, found[MOVE].awaits) == (b'{"title":"t"}', None)
    assert found[MOVE].vectors.keys() == {chunk_hash("one"), chunk_hash("two")}
    np.testing.assert_allclose(found[MOVE].vectors[chunk_hash("one")], VECTORS[chunk_hash("one")])
    assert not bench.chunks(1)
    bench.applied(write(2, 6, insert=(chunk("one"),), used=(MOVE,)))
    assert not bench.rows("SELECT 1 FROM moves")


def test_what_a_key_change_awaits_is_found_with_it(bench: Bench) -> None:
    moved(bench, awaits=b"n" * 16)
    bench.applied(delete(7, 1))
    gone = delete(7, 2, bench.stored(7))
    bench.applied(msgspec.structs.replace(gone, leaves=(Move(b"n" * 16, b'{"body":"b"}'),)))
    assert bench.store.moves(bench.generation, [MOVE]).keys() == {MOVE, b"n" * 16}


def test_an_insert_that_came_first_is_due_as_soon_as_the_delete_is_applied(bench: Bench) -> None:
    bench.applied(incomplete(2), incomplete(9, None))
    assert not bench.store.claim_failed(10)
    moved(bench)
    assert [row.key for row in bench.store.claim_failed(10)] == [key(2)]


def test_one_that_was_planned_before_the_delete_and_written_after_it_is_due_at_once(bench: Bench) -> None:
    moved(bench)
    bench.applied(incomplete(2))
    assert [row.key for row in bench.store.claim_failed(10)] == [key(2)]


def test_it_remembers_what_it_awaits(bench: Bench) -> None:
    bench.applied(incomplete(2))
    stored = bench.stored(2)
    detail = bench.store.details(bench.generation, [stored.document_id])[stored.document_id]
    assert (detail.fields, detail.awaits, stored.fields_complete) == (b"{}", MOVE, False)


def test_what_nobody_comes_for_goes_after_a_week(bench: Bench) -> None:
    moved(bench)
    assert bench.store.expire_moves() == 0
    bench.rows("UPDATE moves SET left_at = now() - interval '169 hours'")
    assert bench.store.expire_moves() == 1
    assert not bench.rows("SELECT 1 FROM moves")
