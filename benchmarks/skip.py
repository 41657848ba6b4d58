"""Events that change nothing: a million documents stored, and an update of each that leaves all used columns as is.

The whole product: records in Kafka, real consumer processes, the store in Postgres. The rows' `when` excludes them, so
that loading them needs no model; a skip is decided before `when` is asked. Records are those of `decode.py`: a title of
40 characters and a body of 500, JSON without schemas, two partitions. Rates count from the first progress in the
store to the last, and stand beside that of the least loop that could do it (`ceiling.py`), on the same events.
`cpu_us` is the client's processor time of an event. Two processes are compared with one on fewer events, all of which
lie there when the processes begin together.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.ceiling import events_per_s
from benchmarks.decode import event_of
from benchmarks.drain import Raw, gathered, produce, work_off
from benchmarks.figures import Figure
from consumer.local import Endpoints
from tests.tiny_model import make_tiny_model
from tests.world import World

DOCUMENTS, PARTITIONS = 1_000_000, 2
SHARED = 300_000  # events for one process, and for two


def measure(endpoints: Endpoints, folder: Path, documents: int = DOCUMENTS) -> Sequence[Figure]:
    """`skip_events_per_s` of one process and of two, `skip_cpu_us`, and a restart where nothing is left to do."""
    here = folder / "skip"
    here.mkdir()
    world = World.create(endpoints, here, model=str(make_tiny_model(here / "tiny")))
    world.prefix = "skip"  # no connector's: the partition of its heartbeats would make shares uneven
    del world.tables[1:]
    world.tables[0]["topic"] = world.topic()
    world.tables[0]["when"] = "{{ status == 'never' }}"
    world.create_topic(partitions=PARTITIONS)
    world.migrate()
    try:
        work_off(world, produce(world, _records("c", documents, 0)))
        starts = [end for _, end in sorted(world.end_offsets("a").items())]
        alone = work_off(world, produce(world, _records("u", documents, 1)))
        ceiling = events_per_s(world, starts, documents)
        one, two = (_begun_together(world, min(documents, SHARED), processes) for processes in (1, 2))
        seconds, rows = _restart(world)
    finally:
        world.close()
    return [
        Figure(
            "skip_events_per_s",
            round(alone.per_s),
            "events/s",
            f"the least loop that skips, {ceiling:,.0f}/s",
            round(alone.per_s / ceiling, 2),
        ),
        Figure("skip_cpu_us", round(alone.cpu_us, 2), "us of client CPU an event"),
        Figure("skip_two_processes_ratio", round(two / one, 2), "times", "one process", round(two / one, 2)),
        Figure("skip_restart_s", round(seconds, 1), "s from start to all partitions at their end"),
        Figure("skip_restart_rows_read", rows, "rows of documents read by it"),
    ]


def _begun_together(world: World, events: int, processes: int) -> float:
    with gathered(world, processes=processes) as work_off_together:
        return work_off_together(_records("u", events, 1 + processes)).per_s


def _restart(world: World) -> tuple[float, int]:
    """Seconds until every partition is held at its end, the model's load included, and documents read for it."""
    before, began = _reads(world), time.perf_counter()
    with world.consumer() as process:
        world.until(lambda: process.lines("ready to join"), timeout=600)
        world.until(lambda: process.held() == PARTITIONS, timeout=600)
        seconds = time.perf_counter() - began
    return seconds, _reads(world) - before


def _reads(world: World) -> int:
    """Rows of documents that the ended sessions have read."""
    counted = (
        "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) AS n FROM pg_stat_user_tables"
        " WHERE schemaname = %s AND relname = 'documents'"
    )
    return int(world.store(counted, [world.name])[0]["n"])


def _records(op: str, count: int, change: int) -> Iterator[Raw]:
    for number in range(count):
        key, value = event_of(number, op, change)
        yield key, value, number % PARTITIONS
