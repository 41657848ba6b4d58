"""The source's life in a soak: the workload of the tests, and what happens to a whole table."""

from __future__ import annotations

import random
import time
from threading import Event

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from tests.workload import Workload
from tests.world import World

TRUNCATED = "c"  # the one table that is emptied now and then
ONE_IN = 400  # steps, of which one is a truncate or a change of a table's columns


class Life(Workload):
    """Plays until told to stop, and not faster than it is followed: `waiting` holds it up."""

    def __init__(self, world: World, seed: int, waiting: Event) -> None:
        super().__init__(world, seed, world.suffixes)
        self._luck, self._waiting = random.Random(seed + 1), waiting
        self.idle = False  # nothing is committed while it is true and `waiting` set
        self._columns: dict[str, int] = dict.fromkeys(world.suffixes, 0)

    def run(self, transactions: int, *, pause: float = 0.0, stopping: Event | None = None) -> None:
        """Play until `stopping`. What a source that went away has of the last transaction is asked."""
        stopping = stopping or Event()
        while not stopping.is_set():
            try:
                self._remember()
                super().run(transactions, pause=pause, stopping=stopping)
            except psycopg.OperationalError:
                self.idle = True
                stopping.wait(0.5)

    def _remember(self) -> None:
        with psycopg.connect(self._world.endpoints.source_owner_dsn, row_factory=dict_row) as connection:
            for suffix in self._suffixes:
                found = connection.execute(sql.SQL("SELECT * FROM {}").format(self._world.table(suffix)))
                names = [column.name for column in found.description or ()]
                self._columns[suffix] = sum(name.startswith("extra_") for name in names)
                self._rows[suffix] = {row["id"]: row for row in found}
                self._gone[suffix] = [number for number in self._gone[suffix] if number not in self._rows[suffix]]

    def _step(self) -> None:
        while self._waiting.is_set():
            self.idle = True
            time.sleep(0.05)
        self.idle = False
        if self._luck.randrange(ONE_IN):
            super()._step()
        elif self._luck.random() < 0.5:
            self._truncate(TRUNCATED)
        else:
            self._change_columns(self._luck.choice(self._suffixes))

    def _truncate(self, suffix: str) -> None:
        self._execute(suffix, "TRUNCATE {}", [])
        self._gone[suffix] += self._rows[suffix]
        self._rows[suffix].clear()
        self.counts["truncate"] += 1

    def _change_columns(self, suffix: str) -> None:
        """Add a column that nobody uses, or drop the last one."""
        count = self._columns[suffix]
        if count and self._luck.random() < 0.5:
            self._execute(suffix, f"ALTER TABLE {{}} DROP COLUMN extra_{count}", [])
            self._columns[suffix] -= 1
        else:
            self._execute(suffix, f"ALTER TABLE {{}} ADD COLUMN extra_{count + 1} text DEFAULT 'more'", [])
            self._columns[suffix] += 1
        self.counts["ddl"] += 1
