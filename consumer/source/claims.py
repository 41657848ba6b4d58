"""What a member asks the database for when partitions are assigned to it, and what it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from consumer.planning import Partition


class Claim(NamedTuple):
    """A partition to acquire; `low_watermark` is the first offset the broker still has."""

    topic: str
    topic_id: str
    partition: int
    low_watermark: int


class Position(Protocol):
    """What acquiring gives: the new epoch and the first offset not applied."""

    @property
    def epoch(self) -> int: ...

    @property
    def next_offset(self) -> int: ...


Acquire = Callable[[Sequence[Claim]], Mapping[Partition, Position]]
