"""The source's life in a soak: the workload of the tests, and what happens to a whole table."""

from __future__ import annotations

import random
from threading import Event, Lock

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from tests.workload import Workload
from tests.world import World

TRUNCATED = "c"  # the one table that is emptied now and then, and whose long texts an update leaves out
ONE_IN = 400  # steps, of which one is a truncate or a change of a table's columns
LARGEST = 200  # rows of a table: an event changes a row that has a history


class Life(Workload):
    """`play` it in a thread. Who holds `turn` sees the source at rest; nothing is played while `waiting` is set."""

    def __init__(self, world: World, seed: int) -> None:
        super().__init__(world, seed, world.suffixes, largest=LARGEST)
        self.turn, self.waiting = Lock(), Event()
        self._luck = random.Random(seed + 1)
        self._columns: dict[str, int] = dict.fromkeys(world.suffixes, 0)
        for suffix in world.suffixes:
            storage = sql.SQL("EXTERNAL" if suffix == TRUNCATED else "MAIN")  # MAIN: in the row, hence in every event
            for column in ("title", "body", "category", "status"):
                alter = sql.SQL("ALTER TABLE {} ALTER {} SET STORAGE {}")
                world.source(alter.format(world.table(suffix), sql.Identifier(column), storage))

    def play(self, stopping: Event, pause: float) -> None:
        """Until `stopping`. What a source that went away has of the last transaction is asked."""
        while not stopping.is_set():
            try:
                self._remember()
                with psycopg.connect(self._world.endpoints.source_owner_dsn) as self._connection:
                    while not stopping.wait(pause):
                        with self.turn:
                            if not self.waiting.is_set():
                                self._transaction()
            except psycopg.OperationalError:
                stopping.wait(0.5)

    def _remember(self) -> None:
        with psycopg.connect(self._world.endpoints.source_owner_dsn, row_factory=dict_row) as connection:
            for suffix in self._suffixes:
                found = connection.execute(sql.SQL("SELECT * FROM {}").format(self._world.table(suffix)))
                names = [column.name for column in found.description or ()]
                numbers = [int(name.removeprefix("extra_")) for name in names if name.startswith("extra_")]
                self._columns[suffix] = max(numbers, default=0)
                self._rows[suffix] = {row["id"]: row for row in found}
                self._gone[suffix] = [number for number in self._gone[suffix] if number not in self._rows[suffix]]

    def _step(self) -> None:
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
