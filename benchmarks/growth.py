"""What grows with the number of documents, partitions and processes, and what does not: the whole path, tiny model.

Documents are loaded up to 1k, 10k, 100k and 1M; at each size edits and updates that change nothing are worked off, and
the store's size and the consumer's memory are read. Then updates that change nothing are worked off from 1, 3 and 9
partitions, and by 1, 2 and 3 processes. Every row is one chunk of 32 dimensions, so that the path is measured and not
the model; the vector index is there from the first size on, as it is in production.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from benchmarks.drain import Raw, produce, work_off
from benchmarks.figures import Figure
from consumer.local import Endpoints
from tests.tiny_model import make_tiny_model
from tests.world import World

SIZES = (1_000, 10_000, 100_000, 1_000_000)
SAMPLE = 10_000  # events of each kind at each size, of as many rows as there are
SPREAD = 100_000  # events for partitions and processes
PARTITIONS = 9
_SIZE = (
    "SELECT sum(pg_total_relation_size(oid))::bigint AS n FROM pg_class"
    " WHERE relnamespace = %s::regnamespace AND relkind = 'r'"
)
_INDEX = "SELECT count(*) AS n FROM pg_indexes WHERE schemaname = %s AND indexdef LIKE '%%hnsw%%'"


def measure(endpoints: Endpoints, folder: Path, sizes: Sequence[int] = SIZES) -> Sequence[Figure]:
    """`growth_*`: costs by documents stored, then rates by partitions and by processes, each over the smallest."""
    here = folder / "growth"
    here.mkdir()
    world = World.create(endpoints, here, model=str(make_tiny_model(here / "tiny")))
    del world.tables[1:]
    world.create_topic("a", PARTITIONS)
    world.migrate()
    try:
        return [*_documents(world, sizes), *_partitions(world), *_processes(world)]
    finally:
        world.close()


def _documents(world: World, sizes: Sequence[int]) -> Iterator[Figure]:
    first: dict[str, float] = {}

    def figure(name: str, size: int, value: float, unit: str) -> Figure:
        base = first.setdefault(name, value)
        return Figure(f"growth_{name}_{size}", round(value, 2), unit, "the smallest size", round(value / base, 2))

    change = 0
    for before, size in pairwise((0, *sizes)):
        load = work_off(world, produce(world, _records("c", range(before, size), 0)))
        if not before:
            with world.consumer():  # at rest it builds the index
                world.until(lambda: world.store(_INDEX, [world.name])[0]["n"], timeout=600)
        rows = range(size - min(SAMPLE, size), size)
        changes = range(change + 1, change + 1 + SAMPLE // len(rows))
        change = changes[-1]
        edit = work_off(world, sum(produce(world, _records("u", rows, each)) for each in changes))
        same = work_off(world, sum(produce(world, _records("u", rows, change)) for _ in changes))
        costs = {"load": load, "edit": edit, "unchanged": same} if before else {"edit": edit, "unchanged": same}
        for kind, cost in costs.items():
            yield figure(f"{kind}_us", size, cost.wall_us, "us an event")
            yield figure(f"{kind}_cpu_us", size, cost.cpu_us, "us of client CPU an event")
        yield figure("rss_mib", size, max(cost.rss_mib for cost in costs.values()), "MiB")
        yield figure("bytes", size, world.store(_SIZE, [world.name])[0]["n"] / size, "bytes a document in the store")


def _partitions(world: World) -> Iterator[Figure]:
    rates = {}
    for count in (1, 3, PARTITIONS):
        for _ in range(2):  # the first time each row comes to another partition, and is written
            cost = work_off(world, produce(world, _records("u", range(SPREAD), -1, count)))
        rates[count] = cost.per_s
        ratio = round(rates[count] / rates[1], 2)
        yield Figure(f"growth_partitions_{count}", round(rates[count]), "events/s", "one partition", ratio)


def _processes(world: World) -> Iterator[Figure]:
    rates = {}
    for count in (1, 2, 3):
        cost = work_off(world, produce(world, _records("u", range(SPREAD), -1)), count)
        rates[count] = cost.per_s
        ratio = round(rates[count] / rates[1], 2)
        yield Figure(f"growth_processes_{count}", round(rates[count]), "events/s", "one process", ratio)


def _records(op: str, rows: range, change: int, partitions: int = PARTITIONS) -> Iterator[Raw]:
    """One event of each row; a row stays in its partition as long as `partitions` does."""
    now = time.time_ns() // 1000
    source = {"ts_us": now, "ts_ms": now // 1000}
    for number in rows:
        after = {"id": number, "title": f"row {number}", "body": f"state {change}", "category": "c", "price": "1.00"}
        event = {"op": op, "after": {**after, "status": "published"}, "source": source, "ts_ms": now // 1000}
        yield json.dumps({"id": number}), json.dumps(event), number % partitions
