"""Whether the whole group's first load is over: the vector index is built after it, whichever process is done first."""

from __future__ import annotations

from consumer.operations.offsets import group_offsets, places
from consumer.operations.wiring import open_store
from consumer.planning import Partition
from consumer.settings import Settings
from consumer.source import Broker, end_offsets


class FirstLoad:
    """Over once all that lay in the tables' topics is applied, by whomever. For one thread."""

    def __init__(self, settings: Settings, broker: Broker) -> None:
        self._settings, self._broker = settings, broker
        self._ends: dict[Partition, int] = {}

    def behind(self) -> list[Partition]:
        """The partitions that are not yet where they ended when this was first asked of them. Raises Retry."""
        found = places(self._broker, (table.topic for table in self._settings.tables))
        self._ends = end_offsets(self._broker, [p for p in found if p not in self._ends]) | self._ends
        with open_store(self._settings) as store:
            stored = group_offsets(store, self._settings.group)
        return [p for p in found if (stored[p].next_offset if p in stored else 0) < self._ends[p]]
