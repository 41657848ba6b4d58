"""Passes share a budget of padded tokens."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from consumer.embedding.budget import pack, padded

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


def test_padded_lengths_are_few_and_little_more() -> None:
    assert all(length <= padded(length) <= max(length + 7, length * 9 / 8) for length in range(1, 9000))
    assert {padded(length) % 8 for length in range(1, 9000)} == {0}
    assert len({padded(length) for length in range(1, 8193)}) <= 64
    assert [padded(length) for length in (1, 8, 66, 129, 256, 257, 512)] == [8, 8, 72, 144, 256, 288, 512]


@given(st.lists(st.lists(st.integers(1, 256), min_size=1, max_size=60), min_size=1, max_size=60))
def test_passes_of_any_texts_have_few_shapes(calls: list[list[int]]) -> None:
    passes = [[padded(size) for size in sizes] for sizes in calls]
    products = {len(group) * sizes[group[0]] for sizes in passes for group in pack(sizes, 1024)}
    assert len(products) <= 1024 // 8
