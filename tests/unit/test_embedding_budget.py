"""Passes share a budget of padded tokens."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from consumer.embedding.budget import pack

lengths = st.lists(st.integers(1, 600), max_size=300)


@given(lengths, st.integers(1, 5000))
def test_every_text_is_in_exactly_one_pass_and_no_shared_pass_exceeds_the_budget(sizes: list[int], budget: int) -> None:
    passes = pack(sizes, budget)
    assert sorted(index for group in passes for index in group) == list(range(len(sizes)))
    for group in passes:
        padded = len(group) * max(sizes[index] for index in group)
        assert padded <= budget or len(group) == 1
        assert 8 * (padded - sum(sizes[index] for index in group)) <= budget


@given(lengths, st.integers(1, 5000))
def test_longest_come_first_and_no_pass_could_have_taken_the_next_text(sizes: list[int], budget: int) -> None:
    passes = pack(sizes, budget)
    ordered = [sizes[index] for group in passes for index in group]
    assert ordered == sorted(sizes, reverse=True)
    for group, following in pairwise(passes):
        padding = sum(sizes[group[0]] - sizes[index] for index in (*group, following[0]))
        assert (len(group) + 1) * sizes[group[0]] > budget or 8 * padding > budget


def test_a_text_longer_than_the_budget_goes_alone() -> None:
    assert pack([10, 900, 10], 100) == [[1], [0, 2]]


def test_equal_lengths_keep_their_order() -> None:
    assert pack([5, 5, 5, 5], 10) == [[0, 1], [2, 3]]


def test_nothing_to_pack() -> None:
    assert pack([], 100) == []
