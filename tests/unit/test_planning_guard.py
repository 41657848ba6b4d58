"""The ordering guard, rule by rule, and the properties that make it safe to apply anything twice and in any order."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.events import Order
from consumer.planning import classify, merge


def at(
    offset: int,
    partition: int = 0,
    *,
    lsn: int | None = None,
    ts: int | None = None,
    topic_id: str = "one",
    r: bool = False,
) -> Order:
    return Order("t", topic_id, partition, offset, None if lsn is None else (lsn, lsn), ts, r)


@pytest.mark.parametrize(
    ("event", "stored", "verdict"),
    [
        # the topic was made anew: its offsets begin again
        (at(0, topic_id="two"), at(900), "newer"),
        # within a partition the offset decides
        (at(5), at(6), "stale"),
        (at(6), at(6), "same"),
        (at(7), at(6), "newer"),
        # … but for an event that the connector delivered again
        (at(9, lsn=10, ts=100), at(6, lsn=10, ts=100), "stale"),
        (at(9, lsn=9, ts=90), at(6, lsn=10, ts=100), "stale"),
        (at(9, lsn=11, ts=90), at(6, lsn=10, ts=100), "newer"),
        # an LSN that restarted carries a later commit
        (at(9, lsn=2, ts=200), at(6, lsn=10, ts=100), "newer"),
        # a read has no sequence: the offset alone decides
        (at(9, ts=50, r=True), at(6, lsn=10, ts=100), "newer"),
        # across partitions: two sequences …
        (at(1, 1, lsn=11, ts=110), at(6, lsn=10, ts=100), "newer"),
        (at(99, 1, lsn=9, ts=90), at(6, lsn=10, ts=100), "stale"),
        # … or else commit times
        (at(1, 1, ts=90), at(6, ts=100), "stale"),
        (at(1, 1, ts=100), at(6, ts=100), "newer"),
        (at(1, 1, ts=90, r=True), at(6, lsn=10, ts=100), "stale"),
        # a read never makes a streaming event stale
        (at(1, 1, lsn=9, ts=90), at(6, ts=100, r=True), "newer"),
        # a lone tombstone of a partition that the row has left
        (at(99, 1), at(6, lsn=10, ts=100), "stale"),
    ],
)
@pytest.mark.semantics("order", "event of the same partition and topic", "the offset decides")
@pytest.mark.semantics(
    "order", "event of another partition", "two complete sequences decide, commit times where one is missing"
)
@pytest.mark.semantics(
    "order", "LSN that has restarted (restored source)", "newer: commit times are compared beside the sequences"
)
@pytest.mark.semantics("order", "event of a topic made anew, after the reset", "newer than all of the old topic")
def test_the_rules(event: Order, stored: Order, verdict: str) -> None:
    assert classify(event, stored) == verdict


def test_only_a_read_and_a_second_delete_keep_the_known_sequence() -> None:
    stored = at(6, lsn=10, ts=100)
    assert merge(at(7, ts=120, r=True), stored).sequence == (10, 10)
    assert (merge(at(7), stored).sequence, merge(at(7), stored).ts_us) == (None, 100)
    assert merge(at(7), stored, confirms=True).sequence == (10, 10)
    assert merge(at(7, ts=120), stored).sequence is None
    assert merge(at(7, ts=5, topic_id="two"), stored).sequence is None


orders = st.builds(
    Order,
    st.just("t"),
    st.just("one"),
    st.integers(0, 2),
    st.integers(0, 20),
    st.none() | st.tuples(st.integers(0, 5), st.integers(0, 5)),
    st.none() | st.integers(0, 5),
    st.booleans(),
)


@given(orders)
def test_an_event_is_the_same_as_itself(order: Order) -> None:
    assert classify(order, order) == "same"


@given(orders, orders)
@pytest.mark.semantics("order", "event of the same partition and topic")
def test_within_a_partition_nothing_older_is_newer(one: Order, other: Order) -> None:
    other = msgspec.structs.replace(other, partition=one.partition)
    if one.offset < other.offset:
        assert classify(one, other) == "stale"


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=1, max_size=30), st.randoms())
@pytest.mark.semantics("order", "events that a restarted connector delivers again", "stale: they change nothing")
def test_redelivery_and_replay_never_move_a_document_back(commits: list[tuple[int, bool]], random: object) -> None:
    """A connector that restarts delivers commits again: the highest commit wins whatever is repeated after it."""
    newest = -1
    stored: Order | None = None
    for offset, (commit, _) in enumerate(commits):
        event = at(offset, lsn=commit, ts=commit)
        if stored is None or classify(event, stored) == "newer":
            assert commit > newest
            stored, newest = merge(event, stored), commit
    assert newest == max(commit for commit, _ in commits)
