"""Named schedules: one interleaving each that the protocol exists for. Every commit and the end are checked as ever."""

from __future__ import annotations

import pytest

from consumer.errors import Retry
from tests.simulation.invariants import document_key
from tests.simulation.source import Row, Source
from tests.simulation.world import World
from tests.store_standin import StoredRow
from tests.unit.records import TOPIC

FIRST, SECOND = Row("a b", "c d"), Row("b a", "c d")


def world(*, toast: bool = False) -> World:
    """Key 1 is in partition 1, key 2 in partition 0; every step lets the script decide who goes on."""
    return World(source=Source(toast))


def stored(w: World, key: int) -> StoredRow:
    return w.database.documents[document_key(key)]


def happened(w: World, *statements: tuple[object, ...]) -> None:
    """Each statement in a transaction of its own, delivered at once."""
    for name, *arguments in statements:
        getattr(w.source, str(name))(*arguments)
        w.source.commit()
    w.connector.deliver()


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


# --- replay beside live


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


# --- truncate stragglers


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


# --- fence at a rebalance


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


# --- lost COMMIT


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
