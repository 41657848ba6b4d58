"""What one consumer holds before a backlog of 200,000 and of 2,000,000 events, and its growth over the longer one.

Edits of a few rows, a kilobyte each, all waiting when the consumer starts: as much as can be to read, with little to
embed. What is fetched and not yet applied is bounded in bytes, so the peak must be that of the smaller backlog. The
model is the tests' tiny one: the memory of a real one is the group `memory`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.drain import MIB, Raw, produce
from benchmarks.figures import Figure, slope
from consumer.local import Endpoints
from tests.envelopes import change, row
from tests.tiny_model import make_tiny_model
from tests.world import World

SMALL, LARGE = 200_000, 2_000_000
KEYS = 20
WITHIN = 3600.0  # seconds
_MARK = "@@@@@@@"


def measure(endpoints: Endpoints, folder: Path, small: int = SMALL, large: int = LARGE) -> Sequence[Figure]:
    """Peaks of resident memory (MiB), the larger over the smaller; MiB per 100k events; events a second."""
    here = folder / "backlog"
    here.mkdir()
    world = World.create(endpoints, here, model=str(make_tiny_model(here / "tiny")))
    tables = world.tables
    peaks, samples = [], list[Sample]()
    began = ended = 0.0
    try:
        for table, suffix, events in zip(tables, ("a", "b"), (small, large), strict=True):
            world.tables = [table]
            world.create_topic(suffix)
            produce(world, _records(events), suffix, compression="none")
            world.migrate()
            began = time.monotonic()
            samples = _catch_up(world, suffix, events)
            ended = time.monotonic()
            peaks.append(max(sample.rss for sample in samples))
    finally:
        world.close()
    later = [sample for sample in samples if small < sample.events < large]
    grows = slope([sample[:2] for sample in later]) * 100_000
    held = [max(kind) - min(kind) for kind in zip(*(sample[2:] for sample in later), strict=True)]
    baseline = f"the same with {small:,} events"
    return [
        Figure(f"backlog_{small}_rss_peak_mib", round(peaks[0], 1), "MiB"),
        Figure(f"backlog_{large}_rss_peak_mib", round(peaks[1], 1), "MiB", baseline, round(peaks[1] / peaks[0], 3)),
        Figure("backlog_rss_slope_mib_per_100k_events", round(grows, 2), f"MiB per 100k events, after {small:,}"),
        *(
            Figure(f"backlog_{name}_more", more, f"more at most than at least, after {small:,}")
            for name, more in zip(Sample._fields[2:], held, strict=True)
        ),
        Figure("backlog_events_per_s", round(large / (ended - began)), "events/s, start of the process included"),
    ]


def _records(events: int) -> Iterator[Raw]:
    """All in partition 0."""
    texts = [change(row(number, f"text {_MARK}", filler="x" * 900)) for number in range(KEYS)]
    parts = [(key, *(value or b"").partition(_MARK.encode())[::2]) for key, value in texts]
    for number in range(events):
        key, head, tail = parts[number % KEYS]
        yield key, head + b"%07d" % number + tail, 0


class Sample(NamedTuple):
    """How many events are applied; resident MiB; and what may leak."""

    events: float
    rss: float
    threads: int
    descriptors: int
    connections: int


def _catch_up(world: World, suffix: str, events: int) -> list[Sample]:
    """What the consumer holds now and again, until all are applied."""
    stored = "SELECT coalesce(max(next_offset), 0) AS at FROM offsets WHERE topic = %s"
    samples: list[Sample] = []
    with world.consumer() as process:
        its = psutil.Process(process.pid)

        def done() -> bool:
            at = world.store(stored, [world.topic(suffix)])[0]["at"]
            open_now = [c for c in its.net_connections("tcp") if c.status == psutil.CONN_ESTABLISHED]
            held = its.num_threads(), its.num_fds(), len(open_now)
            samples.append(Sample(at, its.memory_info().rss / MIB, *held))
            time.sleep(0.2)
            return bool(at >= events)

        world.until(done, timeout=WITHIN)
    return samples
