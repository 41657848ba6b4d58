"""Live edits under load: 20 text edits and 180 others a second, alone and while a backlog of other rows is embedded.

Every edit is a transaction of its own, of one of 200 rows; those that touch no text change a price, which is metadata.
The clock of a text edit starts when the source's COMMIT returns and stops when a reader sees the new text. The backlog
is another table of the same connector, in Kafka before the clock starts and not done when it stops: the model never
rests. The baseline is the same live edits without it, same run.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from threading import Thread

import psycopg
from psycopg import sql

from benchmarks.figures import Figure, quantile
from benchmarks.freshness import MODEL, WORDS
from consumer.local import Endpoints
from tests.world import World

ROWS, BACKLOG = 200, 10_000
SECONDS, WARM_UP = 30, 5
TEXTS_A_SECOND, OTHERS_A_TEXT = 20, 9
INSERT = "INSERT INTO {} (id, title, body, price) SELECT g, 'row ' || g, %s, 1 FROM generate_series(%s::int, %s::int) g"


def measure(endpoints: Endpoints, folder: Path) -> Sequence[Figure]:
    """`freshness_live_p99_ms` without a backlog; `freshness_loaded_p50_ms` and `freshness_loaded_p99_ms` with one."""
    here = folder / "loaded"
    here.mkdir()
    world = World.create(endpoints, here, model=MODEL)
    for table in world.tables:
        table["chunk"] = {"max_tokens": 128}  # every text is one chunk
    world.migrate()
    _insert(world, "a", 1, ROWS)
    _insert(world, "b", 1, 1)
    try:
        with world.consumer():
            world.until(lambda: world.store("SELECT count(*) AS n FROM chunks")[0]["n"] == ROWS + 1, timeout=120)
            live = Traffic(world).measured(SECONDS)
            for first in range(2, BACKLOG, 500):
                _insert(world, "b", first, first + 499)
            world.until(lambda: sum(world.end_offsets("b").values()) >= BACKLOG, timeout=300)
            loaded = Traffic(world).measured(SECONDS)
            assert not world.caught_up("b"), "the backlog was done before the edits were"
    finally:
        world.close()
    base, p50, p99 = (round(1000 * quantile(*each), 1) for each in ((live, 0.99), (loaded, 0.5), (loaded, 0.99)))
    same = "the same live edits without a backlog, same run"
    return [
        Figure("freshness_live_p99_ms", base, "ms"),
        Figure("freshness_loaded_p50_ms", p50, "ms", "p99 of " + same, round(p50 / base, 2)),
        Figure("freshness_loaded_p99_ms", p99, "ms", "p99 of " + same, round(p99 / base, 2)),
    ]


class Traffic:
    """Edits at a steady rate in one thread, and a reader that waits for each text in another."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._edited: dict[int, tuple[str, float]] = {}  # row: marker, time of its commit; not seen yet
        self._seconds: list[float] = []
        self._done = False

    def measured(self, seconds: float) -> list[float]:
        """Seconds from commit to searchable of every text edit but the first."""
        reader = Thread(target=self._read)
        reader.start()
        try:
            self._edit(seconds + WARM_UP)
            self._world.until(lambda: not self._edited, timeout=60)
        finally:
            self._done = True
            reader.join()
        return self._seconds[WARM_UP * TEXTS_A_SECOND :]

    def _edit(self, seconds: float) -> None:
        table = self._world.table()
        text = sql.SQL("UPDATE {} SET title = %s, body = %s WHERE id = %s").format(table)
        other = sql.SQL("UPDATE {} SET price = price + 1 WHERE id = %s").format(table)
        began = time.monotonic()
        with psycopg.connect(self._world.endpoints.source_owner_dsn, autocommit=True) as source:
            for number in range(int(seconds * TEXTS_A_SECOND)):
                row, marker = number % ROWS + 1, f"edit {number} of {began:.6f} "
                source.execute(text, [marker, WORDS * 3, row])
                self._edited[row] = marker, time.perf_counter()
                for each in range(1, OTHERS_A_TEXT + 1):
                    source.execute(other, [(number + each * 20) % ROWS + 1])
                time.sleep(max(0.0, began + (number + 1) / TEXTS_A_SECOND - time.monotonic()))

    def _read(self) -> None:
        with psycopg.connect(self._world.endpoints.migrator_dsn, autocommit=True) as store:
            store.execute(sql.SQL("SET search_path = {}, public").format(sql.Identifier(self._world.name)))
            ids = "SELECT (source_key::jsonb ->> 'id')::int, document_id FROM documents WHERE source = %s"
            documents: dict[int, int] = dict(store.execute(ids, [self._world.topic()]).fetchall())
            while not self._done:
                waiting = {documents[row]: (row, *edit) for row, edit in list(self._edited.items())}
                found = store.execute(
                    "SELECT document_id, content FROM chunks_1 WHERE document_id = ANY(%s)", [list(waiting)]
                ).fetchall()
                now = time.perf_counter()
                for document, content in found:
                    row, marker, at = waiting[document]
                    if content.startswith(marker) and self._edited[row][0] == marker:
                        self._seconds.append(now - at)
                        del self._edited[row]
                time.sleep(0.005)


def _insert(world: World, suffix: str, first: int, last: int) -> None:
    world.source(sql.SQL(INSERT).format(world.table(suffix)), [f"{WORDS * 3}", first, last])
