"""How far a source's clock is behind ours, told by what its heartbeats take to arrive. Pure, times as in `freshness`.

A heartbeat takes the way of every change, each second or so. By the two clocks that lasts as long as the way is, plus
what the source's clock is behind. A way so long that it matters is a queue somewhere, and no queue keeps its length for
minutes; the difference of two clocks does. (Nothing can be told so of a clock that is ahead by less than the way.)
"""

from __future__ import annotations

from collections import deque

STEADY_MINUTES = 5
_STEADY_US = 2_000_000  # how much the least delay of one minute may differ from another's
_LEAST_US = 5_000_000  # a way may well take as long as that
_MINUTE_US = 60_000_000


class Skew:
    """The least delay of each of the last minutes in which heartbeats came."""

    def __init__(self, behind_us: int = 0, now_us: int = 0) -> None:
        """`behind_us` is what is known already, by now: what comes must agree."""
        self._least: deque[tuple[int, int]] = deque(maxlen=STEADY_MINUTES + 1)
        if behind_us:
            self._least.extend((now_us // _MINUTE_US - ago, behind_us) for ago in range(STEADY_MINUTES + 1, 0, -1))

    def arrived(self, ts_us: int, now_us: int) -> None:
        """A heartbeat that the source wrote at `ts_us` by its clock has come at `now_us` by ours."""
        minute, delay = now_us // _MINUTE_US, now_us - ts_us
        if self._least and self._least[-1][0] == minute:
            delay = min(delay, self._least.pop()[1])
        self._least.append((minute, delay))

    @property
    def behind_us(self) -> int:
        """How far the source's clock is behind; 0 while nothing tells, or less than 5 s.

        The minute that is not over yet may make it less, at once, but not more.
        """
        whole = [delay for _, delay in self._least][:-1]
        if len(whole) < STEADY_MINUTES:
            return 0
        least = min(*whole, self._least[-1][1])
        return least if least >= _LEAST_US and max(whole) - least <= _STEADY_US else 0
