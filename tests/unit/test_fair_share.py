"""A backlog of model work delays nobody else: what arrives in other partitions takes turns with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from consumer.embedding import Embedded
from consumer.events import Record
from consumer.planning import Advance, Batch
from consumer.source import Holdings
from tests.unit.records import TOPIC, record
from tests.unit.test_pipeline_process import Shelf, Zeros, pipeline
from tests.unit.test_planning_planner import TOAST, row

BACKLOG, LIVE = 0, 1


def costly(partition: int, offset: int) -> Record:
    """As much model work as a part may have."""
    text = " ".join(f"w{partition}x{offset}x{n}" for n in range(6))
    return record(offset, "c", row(text, "", id=100 * partition + offset), partition=partition)


def batch_of(*records: Record) -> Batch:
    """Records whose partitions stand before them."""
    spans: dict[tuple[str, int], Advance] = {}
    for each in records:
        begin = spans.get((TOPIC, each.partition))
        start = begin.start if begin else each.offset
        spans[TOPIC, each.partition] = Advance(TOPIC, each.partition, 1, start, each.offset + 1)
    return Batch(records, spans)


@pytest.fixture
def shelf() -> Shelf:
    shelf = Shelf()
    for partition in (BACKLOG, LIVE):
        shelf.acquire(partition)
    return shelf


@pytest.mark.semantics("order", "a backlog in one partition, live changes in another", "they take turns")
def test_what_arrives_elsewhere_is_applied_between_two_parts_of_a_backlog(shelf: Shelf) -> None:
    stored: list[Advance] = []
    arriving = [batch_of(costly(LIVE, 0)), None, batch_of(costly(LIVE, 1), costly(LIVE, 2))]

    def more() -> Batch | None:
        return arriving.pop(0) if arriving else None

    pipeline(shelf).process([batch_of(*(costly(BACKLOG, n) for n in range(5)))], stored.extend, more)
    assert [(a.partition, a.end) for a in stored] == [
        (LIVE, 1),
        (BACKLOG, 1),
        (LIVE, 2),
        (LIVE, 3),
        (BACKLOG, 2),
        (BACKLOG, 3),
        (BACKLOG, 4),
        (BACKLOG, 5),
    ]


def test_a_backlog_has_a_third_of_the_turns_however_much_arrives(shelf: Shelf) -> None:
    stored: list[Advance] = []
    number = iter(range(1000))
    pipeline(shelf).process(
        [batch_of(*(costly(BACKLOG, n) for n in range(4)))], stored.extend, lambda: batch_of(costly(LIVE, next(number)))
    )
    assert [a.partition for a in stored] == [LIVE, LIVE, BACKLOG] * 4


def test_in_one_batch_the_partition_with_little_work_comes_first(shelf: Shelf) -> None:
    stored: list[Advance] = []
    pipeline(shelf).process([batch_of(*(costly(BACKLOG, n) for n in range(3)), costly(LIVE, 0))], stored.extend)
    assert [(a.partition, a.end) for a in stored] == [(LIVE, 1), (BACKLOG, 1), (BACKLOG, 2), (BACKLOG, 3)]


def test_what_is_not_done_when_the_backlog_is_comes_back_in_order(shelf: Shelf) -> None:
    stored: list[Advance] = []
    more = iter([batch_of(*(costly(LIVE, n) for n in range(4)))])
    work = pipeline(shelf)
    left = work.process(
        [batch_of(costly(BACKLOG, 0), costly(BACKLOG, 1))], stored.extend, lambda: next(more, None)
    ).left
    assert left, "it is a backlog too, and they take turns"
    assert not work.process(left, stored.extend).left
    assert [a.end for a in stored if a.partition == LIVE] == [1, 2, 3, 4]


def test_a_partition_that_was_lost_and_acquired_again_meanwhile_is_not_taken_for_lost(shelf: Shelf) -> None:
    """Its records under the new epoch are applied, those under the old one dropped."""
    stored: list[Advance] = []
    shelf.acquire(LIVE)  # the first epoch is over
    again = batch_of(costly(LIVE, 0))
    again = Batch(again.records, {(TOPIC, LIVE): Advance(TOPIC, LIVE, 2, 0, 1)})
    more = iter([again])
    backlog = [costly(BACKLOG, n) for n in range(3)]
    settled = pipeline(shelf).process([batch_of(costly(LIVE, 0), *backlog)], stored.extend, lambda: next(more, None))
    assert [(a.partition, a.epoch) for a in settled.fenced] == [(LIVE, 1)]
    assert [(a.partition, a.epoch, a.end) for a in stored if a.partition == LIVE] == [(LIVE, 2, 1)]
    assert shelf.offsets[TOPIC, BACKLOG] == (1, 3)


class Slowing(Zeros):
    """The measured rate has fallen to nothing, as on a machine that stood still for a while."""

    tokens_per_second, token_budget = 0.001, 60

    def __init__(self) -> None:
        self.passes: list[int] = []

    def embed(self, token_ids: Sequence[Sequence[int]]) -> Embedded:
        self.passes.append(sum(map(len, token_ids)))
        return super().embed(token_ids)


def test_parts_stay_large_enough_to_measure_the_rate_by(shelf: Shelf) -> None:
    """Else a rate that was low once could never be seen to rise."""
    engine = Slowing()
    work: Any = pipeline(shelf)
    work._steps._embedder = engine
    work.process([batch_of(*(costly(BACKLOG, n) for n in range(40)))])
    assert all(2 * tokens >= engine.token_budget for tokens in engine.passes[:-1])


def held(ends: Mapping[int, int], *, max_events: int = 8) -> Holdings:
    holdings = Holdings(max_events, 1 << 30)
    for partition, end in ends.items():
        holdings.acquire((TOPIC, partition), "topic-1", 1, 0, end)
    return holdings


def test_only_partitions_of_which_nothing_is_under_way_are_taken_beside_a_batch() -> None:
    holdings = held({BACKLOG: 9, LIVE: 9})
    holdings.add(costly(BACKLOG, 0))
    under_way = holdings.take()
    assert under_way is not None
    for each in (costly(BACKLOG, 1), costly(LIVE, 0)):
        holdings.add(each)
    beside = holdings.take_idle()
    assert beside is not None
    assert [(r.partition, r.offset) for r in beside.records] == [(LIVE, 0)]
    holdings.add(costly(LIVE, 1))
    assert holdings.take_idle() is None
    holdings.stored(under_way.advances)
    beside = holdings.take_idle()
    assert beside is not None
    assert [(r.partition, r.offset) for r in beside.records] == [(BACKLOG, 1)]


def test_who_fills_the_buffer_waits_and_no_others_while_they_take_little_of_it() -> None:
    holdings = held({BACKLOG: 99, LIVE: 99})
    for offset in range(7):
        holdings.add(costly(BACKLOG, offset))
    for offset in range(3):
        holdings.add(costly(LIVE, offset))
        assert holdings.full
        assert holdings.greedy() == {(TOPIC, BACKLOG)}
    holdings.add(costly(LIVE, 3))
    assert holdings.greedy() == {(TOPIC, BACKLOG), (TOPIC, LIVE)}, "the buffer is bounded all the same"


def sizes_of(lines: Sequence[Record], shelf: Shelf, batches: int) -> list[int]:
    """How many records the batches have whose worker is behind: at most two where they change something."""
    holdings, work, sizes = held({BACKLOG: len(lines)}, max_events=2), pipeline(shelf, max_events=2), []
    for _ in range(batches):
        for each in lines[holdings.held[TOPIC, BACKLOG].fetched :][: holdings.room]:
            holdings.add(each)
        batch = holdings.take()
        assert batch is not None
        sizes.append(len(batch.records))
        settled = work.process([batch], holdings.stored)
        holdings.expect(changes=settled.changed)
    return sizes


def test_a_batch_may_be_larger_while_events_change_nothing(shelf: Shelf) -> None:
    """What a transaction costs beside its events is most of the cost of one that only moves positions."""
    lines = [record(n, "c" if n < 2 else "u", row("same", "", id=n % 2)) for n in range(20)]
    lines += [record(n, "c", row("new", "", id=n)) for n in range(20, 30)]
    assert sizes_of(lines, shelf, 6) == [2, 2, 8, 8, 8, 2]


def test_what_comes_after_a_pause_may_be_anything_and_so_its_batch_is_no_larger() -> None:
    holdings = held({BACKLOG: 99}, max_events=2)
    holdings.add(costly(BACKLOG, 0))
    assert holdings.take() is not None
    holdings.expect(changes=False)
    assert holdings.room == 2


def test_a_batch_of_left_out_columns_is_no_larger_for_only_the_stored_fields_tell(shelf: Shelf) -> None:
    lines = [record(n, "c" if n < 2 else "u", row("same", "" if n < 2 else TOAST, id=n % 2)) for n in range(10)]
    assert sizes_of(lines, shelf, 5) == [2] * 5


def test_a_large_batch_that_changes_much_after_all_is_cut_before_its_texts_are(shelf: Shelf) -> None:
    """Else all others would wait until the texts of all of it are cut."""
    stored: list[Advance] = []
    work = pipeline(shelf, max_events=4)
    new = [record(n, "c", row("", "", id=n)) for n in range(10)]
    assert not work.process([batch_of(*new)], stored.extend).left
    assert [advance.end for advance in stored] == [4, 8, 10]
    same = [record(n, "u", row("", "", id=n % 10)) for n in range(10, 30)]
    stored.clear()
    assert not work.process([batch_of(*same)], stored.extend).changed
    assert [advance.end for advance in stored] == [30], "one transaction for what has nothing to write"


def test_of_a_large_batch_that_is_cut_the_partition_with_little_to_write_comes_first(shelf: Shelf) -> None:
    """Many small documents before a few large ones, which may be hours of work."""
    stored: list[Advance] = []
    large = [record(n, "c", row("word " * 500, "", id=n), partition=BACKLOG) for n in range(3)]
    small = [record(n, "c", row("", "", id=100 + n), partition=LIVE) for n in range(12)]
    pipeline(shelf, max_events=4).process([batch_of(*large, *small)], stored.extend)
    assert [(a.partition, a.end) for a in stored][:3] == [(LIVE, 4), (LIVE, 8), (LIVE, 12)]
    assert stored[-1].partition == BACKLOG
