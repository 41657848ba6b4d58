"""Named schedules of order: one interleaving each that guard, marker and moves exist for.

Every commit and the end are checked as ever.
"""

from __future__ import annotations

import pytest

from tests.simulation.invariants import document_key
from tests.simulation.script import FIRST, SECOND, happened, stored, world
from tests.simulation.source import Row

# --- the guard's invariant


@pytest.mark.semantics("operations", "update there and back again within one batch")
def test_what_changes_and_changes_back_behind_a_left_out_column_moves_the_document_on() -> None:
    """Else a replay that ends in between would bring the middle state back."""
    w = world(toast=True)
    member = w.member(0, 1)
    happened(w, ("insert", 1, FIRST))
    member.work()
    happened(w, ("update", 1, SECOND), ("update", 1, FIRST))
    w.connector.read_row(1)  # says all of it, and that nothing has changed
    member.work()
    assert stored(w, 1).write.order.offset == 3
    w.rest()


def test_an_update_that_changes_nothing_moves_the_offset_alone() -> None:
    w = world(toast=True)
    member = w.member(0, 1)
    happened(w, ("insert", 1, FIRST))
    member.work()
    happened(w, ("update", 1, FIRST))
    member.work()
    assert (stored(w, 1).version, w.next_offset(1)) == (1, 2)
    w.rest()


# --- redelivery


@pytest.mark.semantics("order", "events that a restarted connector delivers again")
@pytest.mark.parametrize("position", range(4))
@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_what_a_restarted_connector_delivers_again_moves_nothing_back(position: int, at_once: int) -> None:
    """However it is cut into batches, and by whomever it is read."""
    w = world()
    happened(w, ("insert", 1, FIRST), ("delete", 1), ("insert", 1, FIRST), ("update", 1, SECOND))
    w.member(0, 1).work()
    version = stored(w, 1).version
    w.connector.restart(position)
    while w.connector.behind:
        w.connector.deliver(at_once)
        w.member(0, 1).work()
        assert (stored(w, 1).version, stored(w, 1).texts) == (version, ("b a", "c d"))
    w.rest()


# --- replay beside live


@pytest.mark.semantics("operations", "replay of a range beside a running group")
@pytest.mark.parametrize(
    ("step", "force"),
    [("lookup", False), ("begin", False), ("lookup", True), ("details", True), ("embed", True), ("begin", True)],
)
def test_a_replay_that_is_overtaken_changes_nothing_newer(step: str, force: bool) -> None:
    w = world()
    member = w.member(0, 1)
    happened(w, ("insert", 1, FIRST))
    member.work()
    replay = w.replay(1, 0, force=force)
    assert replay.task is not None
    replay.task.until(step)
    happened(w, ("update", 1, SECOND))
    member.work()
    w.rest()
    assert stored(w, 1).texts == ("b a", "c d")


def test_a_forced_replay_leaves_a_key_change_on_its_way_alone() -> None:
    """The delete is applied, its insert is not read yet: what the row was must not be forgotten."""
    w = world(toast=True)
    member = w.member(0, 1)
    happened(w, ("insert", 1, FIRST))
    member.work()
    happened(w, ("move", 1, 2, SECOND))
    w.assign(0, other := w.join())
    member.work()
    replay = w.replay(1, 1, force=True)
    assert replay.task is not None
    replay.task.to_the_end()
    other.work()
    assert (stored(w, 2).write.state, stored(w, 2).texts) == ("embedded", ("b a", "c d"))
    w.rest()


def test_a_replay_that_begins_anew_fences_off_an_earlier_run_of_it() -> None:
    """Between the two a third has come to the end and removed the progress: the earlier one must not take it for its
    own."""
    w = world()
    happened(w, ("insert", 1, FIRST))
    w.member(0, 1).work()
    earlier, done, anew = (w.replay(1, 0) for _ in range(3))
    assert earlier.task is not None
    assert done.task is not None
    assert anew.task is not None
    earlier.task.until("begin")
    done.task.to_the_end()
    anew.task.until("begin")
    earlier.task.to_the_end()
    anew.task.to_the_end()
    assert w.trace[-2:] == [f"{anew.name}: commit", f"{anew.name}: committed"], "and the other committed nothing"
    w.rest()


# --- truncate stragglers


@pytest.mark.semantics("operations", "event from before a truncate, read after it")
@pytest.mark.parametrize("step", ["lookup", "embed", "begin", "never"])
def test_a_straggler_of_another_partition_goes_with_the_truncate_or_is_dropped(step: str) -> None:
    w = world()
    late, other = w.member(1), w.member(0)
    happened(w, ("insert", 1, FIRST))
    task = late.start()
    if step == "never":
        late.end()
    else:
        task.until(step)
    w.connector.random.seed(1)
    while not any(delivery.op == "t" and delivery.partition == 0 for delivery in w.log.deliveries.values()):
        happened(w, ("truncate",))
    other.work()
    late.end()
    assert document_key(1) not in w.database.documents or stored(w, 1).texts == ()
    happened(w, ("insert", 1, SECOND))
    w.rest()
    assert stored(w, 1).texts == ("b a", "c d")


def test_an_unreadable_event_behind_a_truncate_is_not_lost() -> None:
    w = world()
    member = w.member(0, 1)
    happened(w, ("insert", 1, FIRST), ("truncate",))
    member.work()
    w.connector.junk = 1.0
    happened(w, ("insert", 1, SECOND))
    member.work()
    assert (stored(w, 1).write.state, len(w.database.failed.rows)) == ("failed", 1)
    w.rest()


# --- key changes across partitions


@pytest.mark.semantics("operations", "primary-key change across two partitions on two consumers, in either order")
@pytest.mark.parametrize("first", ["the insert", "the delete"])
def test_a_key_change_across_partitions_keeps_its_column_and_its_vectors_in_either_order(first: str) -> None:
    w = world(toast=True)
    old, new = w.member(1), w.member(0)
    happened(w, ("insert", 1, FIRST))
    old.work()
    happened(w, ("move", 1, 2, SECOND))
    for member in (new, old) if first == "the insert" else (old, new):
        member.work()
    if first == "the insert":
        assert stored(w, 2).write.state == "failed"
        new.retry()
        new.end()
    assert (stored(w, 2).write.state, stored(w, 2).texts) == ("embedded", ("b a", "c d"))
    assert new.read == ["b a"]  # of the two chunks only the one that is new
    w.rest()


def test_the_two_halves_of_a_key_change_applied_at_the_same_time_find_each_other() -> None:
    w = world(toast=True)
    old, new = w.member(1), w.member(0)
    happened(w, ("insert", 1, FIRST))
    old.work()
    happened(w, ("move", 1, 2, SECOND))
    new.start().until("begin")  # planned without the delete, written after it
    old.work()
    new.end()
    new.retry()
    new.end()
    assert stored(w, 2).write.state == "embedded"
    w.rest()


# --- partitions added


@pytest.mark.semantics("order", "partitions added to a topic, so that keys move")
@pytest.mark.parametrize("first", ["the old partition", "the new partition"])
def test_a_row_whose_key_has_moved_to_a_new_partition_ends_at_its_last_state(first: str) -> None:
    w = world()
    happened(w, ("insert", 2, FIRST), ("update", 2, Row("d", "d")))
    w.log.add_partition()
    happened(w, ("update", 2, SECOND))  # in partition 2 from now on
    old, new = w.member(0, 1), w.member(2)
    for member in (old, new) if first == "the old partition" else (new, old):
        member.work()
    assert stored(w, 2).texts == ("b a", "c d")
    w.rest()


def test_an_event_that_could_not_be_read_is_not_forgotten_for_one_of_the_new_partition() -> None:
    """Nothing tells which of the two is newer."""
    w = world()
    member = w.member(0, 1)
    happened(w, ("insert", 2, FIRST))
    w.connector.junk = 1.0
    happened(w, ("update", 2, SECOND))
    member.work()
    assert stored(w, 2).write.state == "failed"
    w.connector.junk = 0.0
    w.log.add_partition()
    w.connector.restart(0)
    w.connector.deliver(1)  # the insert again, in partition 2
    w.assign(2, member)
    member.work()
    [listed] = w.database.failed.rows.values()
    assert (stored(w, 2).texts, listed.key, listed.partition, listed.offset) == (("a b", "c d"), None, 0, 1)
    w.rest()
    assert stored(w, 2).texts == ("b a", "c d")
