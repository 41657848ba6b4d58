"""Passes side by side on a CPU, one thread each, instead of all threads on one pass after the other.

Threads that share a pass wait for each other several times in every layer, and whenever one of them has to give way to
another process, all do. Side by side nobody waits: on two cores MiniLM ran 1.15 times as fast on a quiet machine and
1.35 times where other processes took 15 % of both. A single text, or three of equal length, still have all threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import torch

from consumer.embedding.budget import pack

LEAST = 64  # padded tokens of a pass that is worth a thread of its own
ENOUGH = 256  # of one that a thread works off nearly as fast as larger ones
UNEVEN = 1.15  # times its even share of the work: more for one lane is slower than all threads on every pass


class Lanes:
    """So many threads, each of which can run a pass. For one caller at a time."""

    def __init__(self, count: int) -> None:
        self._count = count
        # torch's number of threads is a thread's own once it is set there: 1 in each of these.
        self._pool = ThreadPoolExecutor(count, "embed", torch.set_num_threads, (1,)) if count > 1 else None

    def run(self, run_pass: Callable[[list[int]], None], lengths: Sequence[int], budget: int) -> None:
        """Texts of these padded lengths in passes (`budget.pack`) of at most `budget` padded tokens.

        Side by side all of them together have no more either, or `ENOUGH` each. `run_pass` takes indices into
        `lengths`. Raises what it raised, once all passes under way have ended.
        """
        if self._pool is not None:
            if side_by_side := self._side_by_side(lengths, budget):
                for ended in wait([self._pool.submit(run_pass, indices) for indices in side_by_side]).done:
                    ended.result()
                return
            torch.set_num_threads(self._count)  # a thread that is new has the number that any other has set last
        for indices in pack(lengths, budget):
            run_pass(indices)

    def _side_by_side(self, lengths: Sequence[int], budget: int) -> list[list[int]] | None:
        """Passes that keep all lanes busy to the end, None if no cut gives such: the smaller, the more even."""
        share = min(-(-sum(lengths) // self._count), max(budget // self._count, min(ENOUGH, budget)))
        for least in (share, share // 2, share // 4):
            passes = pack(lengths, max(least, min(LEAST, budget)))
            if self._even(passes, lengths):
                return passes
        return None

    def _even(self, passes: Sequence[Sequence[int]], lengths: Sequence[int]) -> bool:
        """Whether all lanes have about as much to do, each taking the next pass when it is free."""
        loads = [0] * self._count
        for indices in passes:
            loads[loads.index(min(loads))] += len(indices) * lengths[indices[0]]
        return max(loads) <= UNEVEN * sum(loads) / self._count
