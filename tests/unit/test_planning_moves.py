"""Key changes: whatever order the two halves come in, the row under the new key has all of its columns and vectors."""

from __future__ import annotations

import json
from itertools import permutations
from random import Random

import msgspec
import pytest

from consumer.events import Record
from consumer.planning import DocumentKey
from tests.unit.records import record, table
from tests.unit.test_pipeline_process import outcome
from tests.unit.test_planning_planner import TOAST, Memory, row


def key_change(moment: int, old: int, new: int, values: dict[str, object], partitions: tuple[int, int]) -> list[Record]:
    """The delete with its tombstone, and the insert, as the connector writes them; each in its key's partition."""
    first, (here, there) = 10 * moment, partitions
    was, now = {"id": old}, {"id": new}
    return [
        record(first, "d", key=was, partition=here, other_key=now, lsn=moment, ts_us=moment),
        record(first + 1, None, key=was, partition=here),
        record(first + 2, "c", values, key=now, partition=there, other_key=was, lsn=moment, ts_us=moment),
    ]


def stored(body: str = "c d") -> Memory:
    memory = Memory(table(max_tokens=2))
    memory.apply(record(0, "c", row("a b", body, id=1), key={"id": 1}, lsn=1, ts_us=1))
    return memory


WITH_HOLE = row("a b", TOAST, id=2)


@pytest.mark.parametrize("partitions", [(0, 0), (0, 1)])
@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.semantics(
    "TOAST",
    "primary-key change with an unchanged large column",
    "filled from exactly the row that the old key's delete left behind",
)
def test_an_unchanged_large_column_moves_with_its_row(
    partitions: tuple[int, int], order: tuple[int, ...], at_once: bool
) -> None:
    if partitions == (0, 0) and order != (0, 1, 2):
        return  # one partition keeps its order
    memory, halves = stored(), key_change(2, 1, 2, WITH_HOLE, partitions)
    if order.index(1) < order.index(0):
        return  # so do the delete and its tombstone
    batches = [[halves[i] for i in order]] if at_once else [[halves[i]] for i in order]
    for batch in batches:
        memory.apply(*batch)
    if ("failed",) in outcome(memory).values():  # the insert came first: its retry reads the record again
        assert not at_once
        memory.apply(halves[2])
    assert sorted(outcome(memory).values()) == [("deleted",), ("embedded", "a b", "c d")]
    assert not memory.moves


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.semantics("operations", "primary-key change")
def test_a_key_change_asks_the_model_for_nothing(order: tuple[int, ...], at_once: bool) -> None:
    memory, halves = stored(), key_change(2, 1, 2, row("a b", "c d", id=2), (0, 1))
    batches = [[halves[i] for i in order]] if at_once else [[halves[i]] for i in order]
    for batch in batches:
        assert memory.plan(*batch).texts == {}
        memory.apply(*batch)
    assert sorted(outcome(memory).values()) == [("deleted",), ("embedded", "a b", "c d")]


@pytest.mark.parametrize("cut", [2, 3])
@pytest.mark.semantics("operations", "primary-key change")
def test_a_row_that_moves_on_at_once_takes_its_vectors_along(cut: int) -> None:
    """Its document in between never had a chunk: the one before has them, or what that one has left."""
    memory = stored()
    first, second = (key_change(moment, moment - 1, moment, row("a b", "c d", id=moment), (0, 0)) for moment in (2, 3))
    halves = [*first[:2], first[2], *second[:2], second[2]]
    for batch in ([*halves[:5]], [halves[5]]) if cut == 2 else ([*halves[:2]], [*halves[2:5]], [halves[5]]):
        assert memory.plan(*batch).texts == {}
        memory.apply(*batch)
    assert ("embedded", "a b", "c d") in outcome(memory).values()


def test_what_was_edited_in_the_same_batch_moves_too() -> None:
    memory = stored()
    edited = record(5, "u", row("a b", "e f", id=1), key={"id": 1}, lsn=2, ts_us=2)
    memory.apply(edited, *key_change(3, 1, 2, WITH_HOLE, (0, 0)))
    assert sorted(outcome(memory).values()) == [("deleted",), ("embedded", "a b", "e f")]


@pytest.mark.parametrize("seed", range(200))
def test_a_row_that_moves_again_and_again_keeps_its_column_in_whatever_order_partitions_are_read(seed: int) -> None:
    random, memory = Random(seed), Memory(table(max_tokens=2))
    logs: dict[int, list[Record]] = {1: [], 2: [], 3: [], 4: []}  # each key has a partition of its own
    logs[1].append(record(0, "c", row("a b", "c d", id=1), key={"id": 1}, partition=1, lsn=1, ts_us=1))
    for moment, (old, new) in enumerate([(1, 2), (2, 3), (3, 1), (1, 2), (2, 4)], 2):
        insert = row(f"at {moment}", TOAST, id=new)
        for half in key_change(moment, old, new, insert, (old, new)):
            logs[half.partition].append(half)
        if random.random() < 0.3:
            edit = row(f"edit {moment}", TOAST, id=new)
            logs[new].append(record(10 * moment + 5, "u", edit, key={"id": new}, partition=new, lsn=moment + 50,
                                    ts_us=moment))  # fmt: skip
    everything = {(each.partition, each.offset): each for log in logs.values() for each in log}
    expected = outcome_one_by_one(everything)
    while any(logs.values()):
        batch = []
        for log in logs.values():
            count = random.randint(0, len(log))
            batch += log[:count]
            del log[:count]
        memory.apply(*batch)
        for head in [head for head in memory.heads.values() if head.state == "failed"]:  # as the retry worker does
            memory.apply(everything[head.order.partition, head.order.offset])
    assert outcome(memory) == expected
    assert next(texts for state, *texts in expected.values() if state == "embedded")[-1] == "c d"


def outcome_one_by_one(everything: dict[tuple[int, int], Record]) -> dict[DocumentKey, tuple[str, ...]]:
    memory = Memory(table(max_tokens=2))
    for each in sorted(everything.values(), key=lambda each: each.offset):
        memory.apply(each)
    assert not memory.moves
    return outcome(memory)


@pytest.mark.semantics("TOAST", "primary-key change with an unchanged large column")
def test_an_insert_takes_nothing_from_another_key_change_of_the_same_keys() -> None:
    memory = stored()
    memory.apply(*key_change(2, 1, 2, WITH_HOLE, (0, 0))[:2])
    assert len(memory.moves) == 1
    memory.apply(key_change(7, 1, 2, WITH_HOLE, (0, 0))[2])
    assert ("failed",) in outcome(memory).values()


def test_a_document_that_was_incomplete_leaves_no_fields() -> None:
    memory = Memory(table(max_tokens=2))
    memory.apply(record(0, "u", row("a b", TOAST, id=1), key={"id": 1}, lsn=1, ts_us=1))
    memory.apply(*key_change(2, 1, 2, WITH_HOLE, (0, 0)))
    assert sorted(outcome(memory).values()) == [("deleted",), ("failed",)]


def test_a_header_that_cannot_be_read_is_as_good_as_none() -> None:
    memory = Memory(table(max_tokens=2))
    insert = key_change(2, 1, 2, row("a b", "c d", id=2), (0, 0))[2]
    memory.apply(msgspec.structs.replace(insert, headers=(("__debezium.oldkey", b"\xff"),)))
    assert list(outcome(memory).values()) == [("embedded", "a b", "c d")]


def test_a_row_that_moves_hundreds_of_times_in_one_batch_keeps_its_column() -> None:
    memory, records = stored(), []
    for moment in range(2, 700):
        old, new = (1, 2) if moment % 2 == 0 else (2, 1)
        records += key_change(moment, old, new, row("a b", TOAST, id=new), (0, 0))
    memory.apply(*records)
    assert sorted(outcome(memory).values()) == [("deleted",), ("embedded", "a b", "c d")]


def test_a_delete_that_is_delivered_again_leaves_what_the_first_one_left() -> None:
    """Without sequences, as some connectors are, it is not recognised as old."""
    memory = stored()
    halves = [_without_sequence(half) for half in key_change(2, 1, 2, WITH_HOLE, (0, 1))]
    again = [msgspec.structs.replace(half, offset=half.offset + 100) for half in halves]
    memory.apply(*halves[:2], *again[:2])
    memory.apply(*again[:2])
    memory.apply(halves[2])
    assert sorted(outcome(memory).values()) == [("deleted",), ("embedded", "a b", "c d")]


def test_a_snapshot_that_is_ahead_of_the_key_change_lends_it_nothing() -> None:
    """Row 1 moved to key 2, then came a new row 1; a snapshot read both before the stream comes to the move."""
    memory = stored("old body")
    memory.apply(
        record(1, "r", row("a b", "new body", id=1), key={"id": 1}, ts_us=100),
        record(2, "r", row("a b", "old body", id=2), key={"id": 2}, ts_us=100),
    )
    memory.apply(*key_change(5, 1, 2, WITH_HOLE, (0, 0)))
    memory.apply(record(60, "c", row("a b", "new body", id=1), key={"id": 1}, lsn=6, ts_us=6))
    assert sorted(outcome(memory).values()) == [("embedded", "a b", "new body"), ("embedded", "a b", "old body")]


def _without_sequence(half: Record) -> Record:
    if half.value is None:
        return half
    envelope = json.loads(half.value)
    envelope["source"]["sequence"] = None
    return msgspec.structs.replace(half, value=json.dumps(envelope).encode())
