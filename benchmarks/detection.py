"""How soon a stall shows, and how true the objective's ratio is.

Each stall is injected ROUNDS times while the sources rest, which is when it hides best, at the default objective. The
clock starts with the fault (a stuck partition: with the first commit that then waits). It stops when the source's gauge
is beyond SHOWN seconds, which no path that lives ever shows, or for a consumer that is gone when `status` does not say
`fresh` any more. Two consumers share the time: one's source falls silent, the other is held and killed.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from benchmarks.figures import Figure, quantile
from consumer.local import Endpoints, connect, resource
from consumer.observe import FRESH_HEARTBEAT_SECONDS
from tests.command import CommandProcess
from tests.integration.test_objective import ratio_and_truth
from tests.tiny_model import make_tiny_model
from tests.world import World

ROUNDS = 5
SHOWN = FRESH_HEARTBEAT_SECONDS
PATIENCE = 120.0
Delays = dict[str, list[float]]
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def measure(endpoints: Endpoints, folder: Path) -> Sequence[Figure]:
    """Detection delays in seconds, the ratio's error in percentage points."""
    model = str(make_tiny_model(folder / "tiny"))
    with ThreadPoolExecutor(2) as both:
        jobs = [both.submit(stalls, _new(endpoints, folder / stalls.__name__, model)) for stalls in (silenced, ended)]
    figures = [figure for job in jobs for figure in _figures(job.result())]
    return [*figures, *objective(_new(endpoints, folder / "objective", model))]


def _new(endpoints: Endpoints, folder: Path, model: str) -> World:
    folder.mkdir()
    return World.create(endpoints, folder, model=model)


def silenced(world: World) -> Delays:
    """A connector that is stopped and a walsender that is held still, at the same time: each has a table of its own."""
    prefixes = {suffix: f"detect{secrets.token_hex(3)}{suffix}" for suffix in world.suffixes}
    for table, (suffix, prefix) in zip(world.tables, prefixes.items(), strict=True):
        table["topic"] = f"{prefix}.public.{world.name}_{suffix}"
        _register(world.endpoints, prefix, f"public.{world.name}_{suffix}")
    delays: Delays = {"dead_connector": [], "stalled_slot": []}
    try:
        world.migrate()
        with world.consumer() as consumer:
            for number in range(ROUNDS):
                _idle(world, consumer, number)
                with _stopped_connector(world, prefixes["a"]), _held_walsender(world, prefixes["b"]):
                    begun = time.monotonic()
                    delays["dead_connector"].append(_delay(world, lambda: _lag(world, consumer, "a") > SHOWN, begun))
                    delays["stalled_slot"].append(_delay(world, lambda: _lag(world, consumer, "b") > SHOWN, begun))
    finally:
        world.close()
        for prefix in prefixes.values():
            _unregister(world.endpoints, prefix)
    return delays


def ended(world: World) -> Delays:
    """Somebody holds the offset row of one partition, and a change comes; then the only consumer is killed."""
    world.short_sessions()
    world.migrate()
    delays: Delays = {"stuck_partition": [], "stopped_consumer": []}
    try:
        consumer = world.start()
        for number in range(ROUNDS):
            _idle(world, consumer, 2 * number)
            delays["stuck_partition"].append(_stuck(world, consumer))
            _idle(world, consumer, 2 * number + 1)
            delays["stopped_consumer"].append(_killed(world, consumer))
            consumer = world.start()
        _idle(world, consumer, 2 * ROUNDS)
        consumer.stop()
    finally:
        world.close()
    return delays


def _stuck(world: World, consumer: CommandProcess) -> float:
    with psycopg.connect(world.endpoints.migrator_dsn) as holder:
        held = "SELECT FROM {}.offsets WHERE topic = %s FOR UPDATE"
        holder.execute(sql.SQL(held).format(sql.Identifier(world.name)), [world.topic("a")])
        world.source(sql.SQL("UPDATE {} SET title = title || 'x'").format(world.table("a")))
        return _delay(world, lambda: _lag(world, consumer, "a") > SHOWN, time.monotonic())


def _killed(world: World, consumer: CommandProcess) -> float:
    watching = world.spawn("status", "--watch", "--json")
    world.until(lambda: _verdict(watching) == "fresh", PATIENCE)
    consumer.kill()
    try:
        return _delay(world, lambda: _verdict(watching) != "fresh", time.monotonic())
    finally:
        watching.kill()


def objective(world: World) -> list[Figure]:
    """The consumer's ratio against the truth, over changes of every age up to twice the threshold."""
    try:
        ratio, truth, events = ratio_and_truth(world, threshold=5.0, calm=450, stalls=4, spread=1.0)
    finally:
        world.close()
    if events < 2000 or not 0.5 < truth < 0.99:
        raise RuntimeError(f"no mix of good and late changes: {events} events, {truth:.3f} of them good")
    baseline = f"{truth:.5f} good by source commits and transactions, {events} events"
    return [Figure("slo_ratio_error_pp", round(abs(ratio - truth) * 100, 4), "percentage points", baseline)]


def _figures(delays: Mapping[str, Sequence[float]]) -> Iterator[Figure]:
    for name, found in delays.items():
        for share in (50, 99):
            value = round(quantile(found, share / 100), 1)
            baseline = f"{SHOWN:g} s, after which it shows at the earliest; injected {len(found)} times"
            yield Figure(f"detect_{name}_p{share}_s", value, "s", baseline, round(value / SHOWN, 2))


def _idle(world: World, consumer: CommandProcess, number: int) -> None:
    """A change of each table, and then rest: everything applied, both paths alive."""
    for suffix in world.suffixes:
        insert = sql.SQL("INSERT INTO {} (id, title) VALUES (%s, 'x')").format(world.table(suffix))
        world.source(insert, [number])
    world.until(lambda: consumer.lines("ready to join"), PATIENCE)
    applied = "SELECT count(*) AS n FROM documents WHERE source_key ->> 'id' = %s"
    world.until(lambda: world.store(applied, [str(number)])[0]["n"] == 2, PATIENCE)
    world.until(lambda: all(_lag(world, consumer, suffix) == 0 for suffix in world.suffixes), PATIENCE)


def _lag(world: World, consumer: CommandProcess, suffix: str) -> float:
    """The worst partition of a table. No series at all is no 0, and no detection either."""
    source = world.tables[world.suffixes.index(suffix)]["topic"]
    shown = [
        v for (name, labels), v in consumer.metrics().items() if name == "freshness_lag_seconds" and source in labels
    ]
    return max(shown, default=0.001)


def _verdict(watching: CommandProcess) -> str:
    """What `status --watch --json` said last."""
    lines = watching.out.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    return str(json.loads(whole[-1])["verdict"]) if whole else ""


def _delay(world: World, shown: Callable[[], bool], since: float) -> float:
    world.until(shown, PATIENCE)
    return time.monotonic() - since


@contextmanager
def _stopped_connector(world: World, name: str) -> Iterator[None]:
    url = f"{world.endpoints.connect_url}/connectors/{name}"
    _ask("PUT", f"{url}/stop")
    try:
        yield
    finally:
        _ask("PUT", f"{url}/resume")


@contextmanager
def _held_walsender(world: World, slot: str) -> Iterator[None]:
    with psycopg.connect(world.endpoints.admin_source_dsn, autocommit=True) as source:
        reads = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s AND active"
        (walsender,) = world.until(lambda: source.execute(reads, [slot]).fetchall())[0]
    os.kill(walsender, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(walsender, signal.SIGCONT)


def _ask(method: str, url: str) -> None:
    with _opener.open(urllib.request.Request(url, method=method), timeout=30) as reply:
        reply.read()


def _register(endpoints: Endpoints, name: str, table: str) -> None:
    given = json.loads(resource("connectors/postgres-json.json").read_text(encoding="utf-8"))
    given |= {"topic.prefix": name, "slot.name": name, "snapshot.mode": "no_data", "table.include.list": table}
    connect.register(endpoints.connect_url, name, given, Path("that of Kafka Connect"))


def _unregister(endpoints: Endpoints, name: str) -> None:
    connect.unregister(endpoints.connect_url, name, Path("that of Kafka Connect"))
    with psycopg.connect(endpoints.admin_source_dsn, autocommit=True) as source:
        read = "SELECT 1 FROM pg_replication_slots WHERE slot_name = %s AND active"
        while source.execute(read, [name]).fetchone():
            time.sleep(0.1)
        drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s"
        source.execute(drop, [name])
