"""Batches that take turns, so that none waits for another to end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest

from consumer.planning.batch import Batch


class Turns:
    """Parts of several batches, one of each at a time. Those of one batch keep their order; `own` are of the first."""

    def __init__(self, parts: Iterable[Batch]) -> None:
        self.own = deque(parts)
        self._lanes = deque([self.own])

    @property
    def part(self) -> Batch:
        """Whose turn it is."""
        return self._lanes[0][0]

    @property
    def left(self) -> list[Batch]:
        """Every part that is not done, in the order of the turns."""
        return [part for turn in zip_longest(*self._lanes) for part in turn if part is not None]

    def done(self, instead: Sequence[Batch], more: Callable[[], Batch | None]) -> None:
        """`part` had its turn, or gave `instead` of it: another's turn is not over before it has done something. After
        each of `own`, if more are to come, `more` may give another batch, whose turn is before that."""
        lane = self._lanes.popleft()
        lane.popleft()
        lane.extendleft(reversed(instead))
        if lane is self.own and lane and (other := more()):
            self._lanes.append(deque([other]))
        if lane is not self.own and len(instead) > 1:
            self._lanes.appendleft(lane)
        elif lane:
            self._lanes.append(lane)
