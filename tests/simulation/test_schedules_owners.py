"""Named schedules of owners: who else writes meanwhile, and who never learns what became of a transaction."""

from __future__ import annotations

import pytest

from consumer.errors import Retry
from tests.simulation.script import FIRST, SECOND, happened, stored, world
from tests.simulation.source import Row
from tests.unit.records import TOPIC

# --- fence at a rebalance


@pytest.mark.semantics("faults", "consumer that wakes up after its partitions have gone")
@pytest.mark.parametrize("notice", ["late", "never"])
@pytest.mark.parametrize("step", ["lookup", "embed", "begin", "committed"])
def test_a_former_owner_writes_nothing_once_the_partition_has_another(step: str, notice: str) -> None:
    w = world()
    former = w.member(0, 1)
    happened(w, ("insert", 1, FIRST))
    former.start().until(step)
    heir = w.join()
    w.assign(1, heir, notice=notice)
    happened(w, ("update", 1, SECOND))
    heir.work()
    version = stored(w, 1).version
    former.end()
    assert (stored(w, 1).texts, stored(w, 1).version) == (("b a", "c d"), version)
    w.rest()


@pytest.mark.parametrize("step", ["lookup", "embed", "begin", "committed"])
def test_what_a_crashed_member_has_not_committed_is_read_again(step: str) -> None:
    w = world()
    member = w.member(0, 1)
    happened(w, ("insert", 1, FIRST))
    member.start().until(step)
    w.crash(member)
    w.member(0, 1).work()
    assert (stored(w, 1).version, stored(w, 1).texts) == (1, ("a b", "c d"))
    w.rest()


# --- slow embeds


def test_two_retries_of_one_document_that_embed_at_the_same_time_write_it_once() -> None:
    """The model takes longer than the schedule of failed documents waits."""
    w = world()
    slow = w.member(0, 1)
    happened(w, ("insert", 1, Row("h", "b")))
    slow.work()
    assert (stored(w, 1).write.state, stored(w, 1).version) == ("failed", 1)
    w.pass_time(300)
    slow.retry().until("embed")
    w.pass_time(3000)
    other = w.join()
    other.retry()
    other.end()
    slow.end()
    assert (stored(w, 1).write.state, stored(w, 1).version, stored(w, 1).texts) == ("embedded", 2, ("h b",))
    w.rest()


def test_a_document_that_changes_while_its_old_text_is_embedded_ends_at_its_last_state() -> None:
    w = world()
    slow = w.member(0, 1)
    happened(w, ("insert", 1, FIRST))
    slow.start().until("embed")
    w.assign(1, heir := w.join(), notice="late")
    happened(w, ("update", 1, SECOND), ("delete", 1), ("insert", 1, SECOND))
    heir.work()
    w.pass_time(100_000)
    slow.end()
    assert stored(w, 1).texts == ("b a", "c d")
    w.rest()


# --- lost COMMIT


@pytest.mark.semantics("faults", "connection lost at COMMIT")
@pytest.mark.parametrize("step", ["commit", "committed"])
def test_a_commit_whose_reply_is_lost_is_found_out_and_never_done_twice(step: str) -> None:
    w = world()
    member = w.member(0, 1)
    happened(w, ("insert", 1, FIRST))
    w.planned[member.name, step] = Retry("The connection is gone.")
    member.work()
    assert (stored(w, 1).version, w.next_offset(1)) == (1, 1)
    assert member.holdings.held[TOPIC, 1].stored == 1, "it knows, and nobody has fenced it"
    w.rest()


@pytest.mark.parametrize("step", ["commit", "committed"])
def test_a_lost_commit_and_a_new_owner_before_it_is_found_out(step: str) -> None:
    w = world()
    former = w.member(0, 1)
    happened(w, ("insert", 1, FIRST))
    w.planned[former.name, step] = Retry("The connection is gone.")
    former.start().until("wait")
    heir = w.join()
    w.assign(1, heir, notice="late")
    heir.work()
    former.end()
    assert (stored(w, 1).version, w.next_offset(1)) == (1, 1)
    w.rest()


# --- a refused value beside another writer


def test_a_refused_document_that_another_writer_changes_meanwhile_stops_nobody() -> None:
    """It is refused at first; by the time its document is looked for, it is another's."""
    w = world()
    member = w.member(0, 1)
    happened(w, ("insert", 1, FIRST))
    member.work()
    happened(w, ("update", 1, Row("p", "c")))
    former = w.owners[1]
    task = former.start()
    task.until("begin")  # apply
    task.until("begin")  # the rehearsal of what was refused
    heir = w.join()
    w.assign(1, heir, notice="late")
    heir.work()
    former.end()
    assert stored(w, 1).write.state == "failed"
    w.rest()
