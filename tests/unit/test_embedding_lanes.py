"""Passes side by side: every text once, within the budget, one thread each, and faults come through."""

from __future__ import annotations

from threading import Lock, get_ident

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from consumer.embedding.lanes import Lanes

LANES = {count: Lanes(count) for count in (1, 2, 3)}


@given(st.lists(st.integers(1, 600), max_size=120), st.integers(1, 3000), st.sampled_from(sorted(LANES)))
def test_every_text_runs_once_and_no_shared_pass_exceeds_the_budget(sizes: list[int], budget: int, count: int) -> None:
    seen: list[list[int]] = []
    LANES[count].run(seen.append, sizes, budget)
    assert sorted(index for indices in seen for index in indices) == list(range(len(sizes)))
    for indices in seen:
        assert len(indices) * max(sizes[index] for index in indices) <= budget or len(indices) == 1


def test_even_work_goes_side_by_side_with_one_thread_each() -> None:
    at_once, most, threads, lock = set[int](), 0, list[int](), Lock()
    torch.set_num_threads(2)
    lanes = Lanes(2)

    def run_pass(indices: list[int]) -> None:
        nonlocal most
        with lock:
            threads.append(torch.get_num_threads())
            at_once.add(get_ident())
            most = max(most, len(indices))

    lanes.run(run_pass, [100] * 40, 1000)
    assert get_ident() not in at_once
    assert set(threads) == {1}
    assert most * 100 * 2 <= 1000
    threads.clear()
    at_once.clear()
    lanes.run(run_pass, [100], 1000)
    assert (at_once, threads) == ({get_ident()}, [2])


@pytest.mark.parametrize("sizes", [[100], [100] * 3, [256, 8]], ids=["one", "three equal", "long and short"])
def test_uneven_work_has_all_threads_on_every_pass(sizes: list[int]) -> None:
    callers: set[int] = set()
    LANES[2].run(lambda _: callers.add(get_ident()), sizes, 1024)
    assert callers == {get_ident()}


def test_a_fault_comes_through_after_all_have_ended() -> None:
    ended: list[list[int]] = []

    def run_pass(indices: list[int]) -> None:
        if 0 in indices:
            raise RuntimeError("the device is gone")
        ended.append(indices)

    with pytest.raises(RuntimeError, match="the device is gone"):
        LANES[2].run(run_pass, [100] * 40, 1000)
    assert sum(map(len, ended)) == 40 - 5
