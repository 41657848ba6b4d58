"""What grows with the number of documents, partitions and processes, and what does not: the whole path, tiny model.

At 1k, 10k, 100k and 1M documents, each of one chunk of 32 dimensions, so that the path is measured and not the model:
three processes work off the first load; then one builds the vector index, and takes inserts, edits and updates that
change nothing, in turn, of rows from all over the table. After that updates that change nothing come
from 1, 3 and 9 partitions, and go to 1, 2 and 3 processes, in turn; their rows' `when` excludes them, so that loading
them needs no model. A cost is the median of its rounds.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, replace
from functools import cache
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from benchmarks.drain import Cost, Raw, gathered
from benchmarks.figures import Figure
from benchmarks.texts import docstrings
from consumer.local import Endpoints
from consumer.store import Store, index
from tests.tiny_model import make_tiny_model
from tests.world import World

SIZES = (1_000, 10_000, 100_000, 1_000_000)
CHANGES, SAME, ROUNDS = 2_000, 50_000, 3  # inserts, and edits, of a round at each size; what changes nothing
SPREAD = 50_000  # events of a round of partitions and processes
PARTITIONS, LEAST = 9, 10_000  # of the topic of documents; documents below which a cost says nothing
SIDES = ((1, 1), (3, 1), (9, 1), (9, 2), (9, 3))  # partitions, processes
ENOUGH = "-c maintenance_work_mem=1GB"  # what of the graph does not fit is built several times slower
LOADERS = 3  # processes for a first load
WORDS = 5  # of a row's text
_SIZE = (
    "SELECT sum(pg_total_relation_size(oid))::bigint AS n FROM pg_class"
    " WHERE relnamespace = %s::regnamespace AND relkind = 'r'"
)
_INDEX = (
    "SELECT sum(pg_relation_size(indexrelid))::bigint AS n FROM pg_index JOIN pg_class ON oid = indexrelid"
    " WHERE relnamespace = %s::regnamespace AND relname LIKE '%%hnsw' AND indisvalid"
)
Worker = Callable[[Iterable[Raw]], Cost]


def measure(endpoints: Endpoints, folder: Path, sizes: Sequence[int] = SIZES, spread: int = SPREAD) -> Sequence[Figure]:
    """`growth_*`: costs by documents stored, then rates by partitions and by processes, each over the smallest."""
    endpoints = replace(endpoints, migrator_dsn=make_conninfo(endpoints.migrator_dsn, options=ENOUGH))
    here = folder / "growth"
    here.mkdir()
    model = str(make_tiny_model(here / "tiny"))
    first: dict[str, float] = {}
    figures: list[Figure] = []
    for size in sizes:
        with _world(endpoints, here / str(size), model, {"a": PARTITIONS}) as world:
            for name, value, unit in _at(world, size):
                ratio = round(value / first.setdefault(name, value), 2)
                figures.append(Figure(f"growth_{name}_{size}", round(value, 2), unit, "the smallest size", ratio))
    topics = {f"p{count}": count for count in sorted({count for count, _ in SIDES})}
    with _world(endpoints, here / "spread", model, topics) as world:
        return [*figures, *_spread(world, spread)]


@contextmanager
def _world(endpoints: Endpoints, folder: Path, model: str, topics: Mapping[str, int]) -> Iterator[World]:
    """Its topics by hand, each with so many partitions."""
    folder.mkdir()
    world = World.create(endpoints, folder, model=model, suffixes=tuple(topics))
    world.prefix = "growth"  # no connector's: the partition of its heartbeats would make shares uneven
    for table, suffix in zip(world.tables, topics, strict=True):
        table["topic"] = world.topic(suffix)
    # Processes that stand still while a million records are written must not lose their partitions for it.
    patient = {"bootstrap_servers": endpoints.bootstrap_servers, "properties": {"session.timeout.ms": 300_000}}
    try:
        for suffix, partitions in topics.items():
            world.create_topic(suffix, partitions)
        world.settings(kafka=patient)
        world.migrate()
        yield world
    finally:
        world.close()


class Rows:
    """A table's rows as their last events left them; each method makes the next events of some of them."""

    def __init__(self, partitions: int, status: str = "published") -> None:
        self._partitions, self._status, self._states = partitions, status, bytearray()

    def add(self, count: int) -> Iterator[Raw]:
        """So many new ones."""
        before = len(self._states)
        self._states.extend(bytes(count))
        return self._events("c", range(before, before + count))

    def edit(self, rows: Sequence[int]) -> Iterator[Raw]:
        """Another text for each."""
        for number in rows:
            self._states[number] += 1
        return self._events("u", rows)

    def repeat(self, rows: Iterable[int]) -> Iterator[Raw]:
        """What is known of them already."""
        return self._events("u", rows)

    def _events(self, op: str, rows: Iterable[int]) -> Iterator[Raw]:
        now = time.time_ns() // 1000
        source = {"ts_us": now, "ts_ms": now // 1000}
        for number in rows:
            body = " ".join(random.Random(number << 8 | self._states[number]).choices(_words(), k=WORDS))
            after = {"id": number, "title": f"row {number}", "body": body, "category": "c", "price": "1.00"}
            event = {"op": op, "after": {**after, "status": self._status}, "source": source, "ts_ms": now // 1000}
            yield json.dumps({"id": number}), json.dumps(event), number % self._partitions


@cache
def _words() -> Sequence[str]:
    return sorted({word for text in docstrings(1_000) for word in text.split() if word.isalpha()})


def _at(world: World, size: int) -> Iterator[tuple[str, float, str]]:
    """Name, value and unit of what is measured with so many documents."""
    rows, costs = Rows(PARTITIONS), dict[str, Cost]()
    with _unindexed(world), gathered(world, processes=LOADERS) as worker:
        costs["load"] = _told(f"load of {size}", worker(rows.add(size)))
    rss = [costs["load"].rss_mib / LOADERS]
    with gathered(world) as worker:
        begun = time.perf_counter()
        world.until(lambda: world.store(_INDEX, [world.name])[0]["n"], timeout=3600)  # at rest it builds the index
        build = (time.perf_counter() - begun) / size * 1e6
        print(f"growth: index of {size}: {build:.0f} us a document", file=sys.stderr, flush=True)
        stored = world.store(_SIZE, [world.name])[0]["n"], world.store(_INDEX, [world.name])[0]["n"]
        costs |= _changes(rows, size, worker)
    rss += [cost.rss_mib for kind, cost in costs.items() if kind != "load"]
    for kind, cost in costs.items():
        if kind != "load" or size >= LEAST:
            yield f"{kind}_us", cost.wall_us, "us an event"
            yield f"{kind}_cpu_us", cost.cpu_us, "us of client CPU an event"
            yield f"{kind}_server_us", cost.server_us, "us of the database server's CPU an event"
    if size >= LEAST:
        yield "index_build_us", build, "us a document"
    yield "rss_mib", max(rss), "MiB of a process"
    yield "bytes", stored[0] / size, "bytes a document in the store"
    yield "index_bytes", stored[1] / size, "bytes a document in the vector index, among them"


@contextmanager
def _unindexed(world: World) -> Iterator[None]:
    """Whichever process has read its partitions to their ends would begin to build while others still load."""
    with (
        Store(world.endpoints.migrator_dsn, world.name) as store,
        psycopg.connect(world.endpoints.migrator_dsn) as held,
    ):
        generation = store.generation()
        assert generation is not None
        assert index.lock(held, world.name, generation)
        yield


def _changes(rows: Rows, size: int, work_off: Worker) -> dict[str, Cost]:
    """Inserts, edits and repetitions in turn. Below `LEAST` a batch would have a document several times."""
    chosen = random.Random(size)
    kinds: dict[str, list[Cost]] = {"insert": [], "edit": [], "unchanged": []}
    for _ in range(ROUNDS):
        changed = chosen.sample(range(size), min(size, CHANGES))
        events = {"insert": rows.add(len(changed)), "edit": rows.edit(changed)}
        if size >= LEAST:
            same = [number for _ in range(0, SAME, size) for number in chosen.sample(range(size), min(size, SAME))]
            events["unchanged"] = rows.repeat(same)
        for kind, each in events.items():
            kinds[kind].append(_told(f"{kind} among {size}", work_off(each)))
    return {kind: _median(costs) for kind, costs in kinds.items() if costs}


def _spread(world: World, events: int) -> Iterator[Figure]:
    tables, rows = dict(zip(world.suffixes, world.tables, strict=True)), dict[int, Rows]()
    costs: dict[tuple[int, int], list[Cost]] = {side: [] for side in SIDES}
    for number in range(ROUNDS + 1):
        for (count, processes), found in costs.items():
            if not number and count in rows:
                continue
            world.tables = [tables[f"p{count}"]]
            with gathered(world, f"p{count}", processes) as worker:
                if number:
                    cost = worker(rows[count].repeat(range(events)))
                    found.append(_told(f"unchanged from {count} partitions to {processes} processes", cost))
                else:
                    rows[count] = Rows(count, status="draft")
                    _told(f"load of {count} partitions", worker(rows[count].add(events)))
    for count in rows:
        yield from _side(f"partitions_{count}", costs[count, 1], costs[1, 1], "one partition")
    for processes in sorted({processes for _, processes in SIDES}):
        yield from _side(f"processes_{processes}", costs[PARTITIONS, processes], costs[PARTITIONS, 1], "one process")


def _side(name: str, costs: Sequence[Cost], base: Sequence[Cost], baseline: str) -> Iterator[Figure]:
    """Rate, and memory of all processes, by the medians over the rounds."""
    sides = [(cost, first) for cost, first in zip(costs, base, strict=True)]
    rates = statistics.median(cost.per_s / first.per_s for cost, first in sides)
    memories = statistics.median(cost.rss_mib / first.rss_mib for cost, first in sides)
    middle = _median(costs)
    yield Figure(f"growth_{name}", round(middle.per_s), "events/s", baseline, round(rates, 2))
    yield Figure(f"growth_rss_{name}", round(middle.rss_mib), "MiB, all processes", baseline, round(memories, 2))


def _median(costs: Sequence[Cost]) -> Cost:
    walls, cpus, servers, memories = zip(*map(astuple, costs), strict=True)
    return Cost(statistics.median(walls), statistics.median(cpus), statistics.median(servers), max(memories))


def _told(what: str, cost: Cost) -> Cost:
    """Progress: a whole run takes a quarter of an hour."""
    spent = f"{cost.cpu_us:.0f} of the clients' CPU, {cost.server_us:.0f} of the server's"
    line = f"{cost.wall_us:.0f} us an event, {spent}; {cost.rss_mib:.0f} MiB"
    print(f"growth: {what}: {line}", file=sys.stderr, flush=True)
    return cost
