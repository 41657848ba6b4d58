"""A connector that restarts delivers again what it had delivered: nothing moves back, whatever was delivered."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from consumer.events import Record
from consumer.planning import DocumentKey
from consumer.source import Holdings
from tests.unit.records import TOPIC, record
from tests.unit.test_pipeline_process import outcome
from tests.unit.test_planning_planner import Memory, row

Life = list[tuple[str | None, int, int]]  # op, key, moment; a delete has its tombstone behind it


def life(random: Random, changes: int) -> Life:
    """Inserts, edits, deletes and inserts again of three rows."""
    alive: set[int] = set()
    played: Life = []
    for moment in range(1, changes):
        key = random.randint(1, 3)
        if key not in alive:
            played.append(("c", key, moment))
            alive.add(key)
        elif random.random() < 0.4:
            played.append(("u", key, moment))
        else:
            played += [("d", key, moment), (None, key, moment)]
            alive.remove(key)
    return played


def again(random: Random, played: Life) -> Life:
    """From some change on; a delete and its tombstone come from one change."""
    start = random.randrange(len(played))
    return played[start - (played[start][0] is None) :]


def as_records(played: Life, first: int, *, complete_from: int = 0) -> list[Record]:
    """The changes as records from an offset on; before moment `complete_from` the connector knew no last commit."""
    return [
        record(
            offset,
            op,
            row(f"at {moment}", "", id=key) if op in ("c", "u") else None,
            key={"id": key},
            lsn=moment if moment >= complete_from else None,
            ts_us=moment,
        )
        for offset, (op, key, moment) in enumerate(played, first)
    ]


def received(random: Random, log: list[Record], start: int = 0) -> Iterator[list[Record]]:
    """The log from an offset on as a member of the group takes it: in batches cut anywhere."""
    holdings = Holdings(1000, 1 << 30)
    holdings.acquire((TOPIC, 0), "topic-1", 1, start, len(log))
    for each in log[max(start - 1, 0) :]:  # a member reads one record more, which is not its own
        holdings.add(each)
        if random.random() < 0.4 and (batch := holdings.take()):
            yield list(batch.records)
    if batch := holdings.take():
        yield list(batch.records)


def applied(memory: Memory, batches: Iterator[list[Record]]) -> dict[DocumentKey, tuple[str, ...]]:
    for batch in batches:
        memory.apply(*batch)
    return outcome(memory)


@pytest.mark.parametrize("seed", range(100))
@pytest.mark.semantics("order", "events that a restarted connector delivers again")
def test_what_is_delivered_again_changes_nothing_at_any_moment(seed: int) -> None:
    random = Random(seed)
    played = life(random, 30)
    log = as_records(played, 0)
    log += as_records(again(random, played), len(log))
    memory = Memory()
    for batch in received(random, log):
        known = batch[-1].offset >= len(played)  # everything was delivered once before this batch
        before = outcome(memory)
        memory.apply(*batch)
        assert not known or batch[0].offset < len(played) or outcome(memory) == before
    assert outcome(memory) == applied(Memory(), received(random, as_records(played, 0)))


def test_a_member_that_begins_between_a_delete_and_its_tombstone_deletes_no_row_that_came_back() -> None:
    played: Life = [("c", 1, 1), ("d", 1, 2), (None, 1, 2), ("c", 1, 3)]
    log = as_records(played, 0) + as_records(played[1:], 4)
    memory = Memory()
    applied(memory, received(Random(0), log[:5]))  # up to the delete that was delivered again
    (batch,) = received(Random(3), log[:6], 5)
    memory.apply(*batch)
    assert memory.outcomes == ["ignored"]
    assert list(outcome(memory).values()) == [("embedded", "at 3")]


@pytest.mark.parametrize("seed", range(100))
def test_a_connector_without_a_last_commit_and_a_consumer_that_restarts_end_right(seed: int) -> None:
    """Incomplete sequences cannot be recognised as seen: what they move back, the rest of the redelivery mends."""
    random = Random(seed)
    played = life(random, 30)
    complete_from = random.randint(0, 30)
    log = as_records(played, 0, complete_from=complete_from)
    log += as_records(again(random, played), len(log), complete_from=random.randint(0, complete_from))
    memory = Memory()
    stop = random.randrange(len(log))
    applied(memory, received(random, log[:stop]))
    final = applied(memory, received(random, log, stop))  # a new member, that has not seen what stands before
    assert final == applied(Memory(), received(random, as_records(played, 0)))
