"""How far a source's clock is behind ours, told by what its heartbeats take to arrive. Pure, times as in `freshness`.

A heartbeat takes the way of every change, each second or so. By the two clocks that lasts as long as the way is, plus
what the source's clock is behind. A way so long that it matters is a queue somewhere, and no queue keeps its length for
minutes; the difference of two clocks does. (Nothing can be told so of a clock that is ahead by less than the way.)
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

STEADY_MINUTES = 5
_STEADY_US = 2_000_000  # how much the least delay of one minute may differ from another's
_LEAST_US = 5_000_000  # a way may well take as long as that
_MINUTE_US = 60_000_000
_FEW = 3  # heartbeats: a minute with fewer counts with the next, for one that comes late tells nothing


class _Minute(NamedTuple):
    number: int
    least_us: int
    heartbeats: int


class Skew:
    """The least delay of each of the last minutes in which heartbeats came."""

    def __init__(self, behind_us: int = 0, now_us: int = 0) -> None:
        """`behind_us` is what is known already, by now: what comes must agree."""
        self._minutes: deque[_Minute] = deque(maxlen=STEADY_MINUTES + 1)
        if behind_us:
            ago = range(STEADY_MINUTES + 1, 0, -1)
            self._minutes.extend(_Minute(now_us // _MINUTE_US - minutes, behind_us, _FEW) for minutes in ago)

    def arrived(self, ts_us: int, now_us: int) -> None:
        """A heartbeat that the source wrote at `ts_us` by its clock has come at `now_us` by ours."""
        this = _Minute(now_us // _MINUTE_US, now_us - ts_us, 1)
        if self._minutes and (self._minutes[-1].number == this.number or self._minutes[-1].heartbeats < _FEW):
            last = self._minutes.pop()
            this = _Minute(this.number, min(last.least_us, this.least_us), last.heartbeats + 1)
        self._minutes.append(this)

    @property
    def behind_us(self) -> int:
        """How far the source's clock is behind; 0 while nothing tells, or less than 5 s.

        The minute that is not over yet may make it less, at once, but not more.
        """
        if len(self._minutes) <= STEADY_MINUTES:
            return 0
        *whole, now = (minute.least_us for minute in self._minutes)
        least = min(*whole, now)
        return least if least >= _LEAST_US and max(whole) - least <= _STEADY_US else 0
