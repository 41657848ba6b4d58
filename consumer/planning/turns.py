"""Batches that take turns, so that none waits for another to end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest

from consumer.planning.batch import Batch

LIVE_TURNS = 2  # between two turns of backlogs: what needs more of them is a backlog itself


class Turns:
    """Parts of several batches. Those of one batch keep their order; `own` are of the first.

    What comes beside it is live until it has been cut into more parts than `LIVE_TURNS`. Backlogs take turns among
    themselves, and with all that is live.
    """

    def __init__(self, parts: Iterable[Batch]) -> None:
        self.own = deque(parts)
        self._backlogs, self._live = deque([self.own]), deque[deque[Batch]]()
        self._passed = 0  # turns of live ones since the last of a backlog

    @property
    def part(self) -> Batch:
        """Whose turn it is."""
        return self._lanes[0][0]

    @property
    def left(self) -> list[Batch]:
        """Every part that is not done, in an order that keeps that of each batch."""
        turns = zip_longest(*self._live, *self._backlogs)
        return [part for turn in turns for part in turn if part is not None]

    def done(self, instead: Sequence[Batch], more: Callable[[], Batch | None]) -> None:
        """`part` had its turn, or gave `instead` of it. While the first batch is not done, `more` may give another."""
        lanes = self._lanes
        lane = lanes.popleft()
        lane.popleft()
        lane.extendleft(reversed(instead))
        if lanes is self._backlogs or len(instead) > LIVE_TURNS:
            self._backlogs.extend([lane] if lane else ())
        else:
            lanes.extendleft([lane] if lane else ())
        if lanes is self._backlogs:
            self._passed = 0
        elif len(instead) <= 1:
            self._passed += 1
        if self.own and (other := more()):
            self._live.append(deque([other]))

    @property
    def _lanes(self) -> deque[deque[Batch]]:
        return self._live if self._live and self._passed < LIVE_TURNS else self._backlogs
