"""What a scrape costs a consumer under load: processor time of the page, and how long a client waits for it.

Three tables of three partitions change as fast as one connection can play; the consumer applies that with the tiny
model, so that Python has as much to do beside the scrape as it ever has. `Server-Timing` of the answer says what the
page took of the processor; the wait has the other threads' turns in it, and /healthz, asked in turn, shows how much.
"""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from threading import Event, Thread

from benchmarks.figures import Figure, quantile
from consumer.local import Endpoints
from tests.tiny_model import make_tiny_model
from tests.workload import Workload
from tests.world import World

SUFFIXES, PARTITIONS, SCRAPES, WARM_UP = ("a", "b", "c"), 3, 300, 20
# What Prometheus 3 asks for.
ACCEPT = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3"
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def measure(endpoints: Endpoints, folder: Path) -> Sequence[Figure]:
    """`scrape_cpu_p50_ms`, `…_p99_ms`, and `scrape_wall_p50_ms`, `…_p99_ms` with /healthz as the baseline."""
    here = folder / "scrape"
    here.mkdir()
    world = World.create(endpoints, here, model=str(make_tiny_model(folder / "tiny-scrape")), suffixes=SUFFIXES)
    for suffix in SUFFIXES:
        world.create_topic(suffix, PARTITIONS)
    world.migrate()
    load, stopping = Workload(world, 5, SUFFIXES), Event()
    player = Thread(target=lambda: load.run(10**6, pause=0.005, stopping=stopping))
    try:
        with world.consumer() as consumer:
            load.fill(20)
            world.settle()
            player.start()
            begun = consumer.applied()
            metrics, health, series = _asked(str(consumer.lines("ready to join")[0]["http"]))
            if consumer.applied() - begun < SCRAPES:
                raise RuntimeError("there was no load to speak of")
            stopping.set()
            player.join()
            world.settle()
    finally:
        stopping.set()
        world.close()
    return [
        *_figures("scrape_cpu", metrics[0], health[0], series),
        *_figures("scrape_wall", metrics[1], health[1], series),
    ]


Costs = tuple[list[float], list[float]]  # processor, wall; milliseconds


def _asked(url: str) -> tuple[Costs, Costs, int]:
    """What /metrics and /healthz cost, asked in turn, and how many series there are."""
    metrics: Costs = ([], [])
    health: Costs = ([], [])
    series = 0
    for _ in range(WARM_UP + SCRAPES):
        for page, costs in (("/metrics", metrics), ("/healthz", health)):
            start = time.perf_counter()
            with _opener.open(urllib.request.Request(url + page, headers={"Accept": ACCEPT}), timeout=30) as reply:
                body = reply.read().decode()
            costs[1].append((time.perf_counter() - start) * 1000)
            found = re.fullmatch(r"cpu;dur=([\d.]+)", reply.headers["Server-Timing"])
            if found is None:
                raise RuntimeError("the page does not say what it took")
            costs[0].append(float(found[1]))
            if page == "/metrics":
                series = sum(not line.startswith("#") for line in body.splitlines())
            time.sleep(0.01)
    return metrics, health, series


def _figures(name: str, page: Sequence[float], plain: Sequence[float], series: int) -> list[Figure]:
    figures = []
    for share in (50, 99):
        ms, least = (round(quantile(costs[WARM_UP:], share / 100), 3) for costs in (page, plain))
        baseline = f"/healthz in turn with it; {series} series, {len(SUFFIXES) * PARTITIONS} partitions"
        figures.append(Figure(f"{name}_p{share}_ms", ms, "ms", baseline, round(ms / least, 2) if least else None))
    return figures
