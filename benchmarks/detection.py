"""How soon a stall shows, how true the objective's ratio is, and what a scrape costs under load.

Each stall is injected ROUNDS times while the sources rest, which is when it hides best. The clock starts with the fault
(a stuck partition: with the first commit that then waits) and stops when the gauge of the source, or for a consumer
that is gone the verdict of `status`, says that the objective of THRESHOLD seconds is missed. A sign of life
counts for 30 s.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Event, Thread

import psycopg
from psycopg import sql

from benchmarks.figures import Figure, quantile
from consumer.local import Endpoints, connect, resource
from consumer.observe import FRESH_HEARTBEAT_SECONDS
from tests.command import CommandProcess
from tests.integration.test_objective import ratio_and_truth
from tests.tiny_model import make_tiny_model
from tests.workload import Workload
from tests.world import World

ROUNDS, THRESHOLD, SCRAPES = 5, 10.0, 300
PATIENCE = 120.0
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def measure(endpoints: Endpoints, folder: Path) -> Sequence[Figure]:
    """Detection delays in seconds, the ratio's error in percentage points, a scrape in milliseconds."""
    model = str(make_tiny_model(folder / "tiny"))
    return [
        *stalls(endpoints, folder, model),
        *objective(endpoints, folder, model),
        *scrape(endpoints, folder, model),
    ]


def stalls(endpoints: Endpoints, folder: Path, model: str) -> list[Figure]:
    """Every stall, ROUNDS times."""
    here = folder / "detection"
    here.mkdir()
    world = World.create(endpoints, here, model=model)
    prefixes = {suffix: f"detect{secrets.token_hex(3)}{suffix}" for suffix in ("a", "b")}
    for table, (suffix, prefix) in zip(world.tables, prefixes.items(), strict=True):
        table["topic"] = f"{prefix}.public.{world.name}_{suffix}"
        _register(endpoints, prefix, f"public.{world.name}_{suffix}")
    world.short_sessions(slo={"objective": 0.9, "threshold_seconds": THRESHOLD})
    world.migrate()
    delays: dict[str, list[float]] = {}
    try:
        consumer = world.start()
        _idle(world, consumer, 0)
        for number in range(1, ROUNDS + 1):
            for name, seconds in {**_silent(world, consumer, prefixes), **_stuck(world, consumer)}.items():
                delays.setdefault(name, []).append(seconds)
            _idle(world, consumer, number)
            consumer, seconds = _stopped(world, consumer)
            delays.setdefault("stopped_consumer", []).append(seconds)
            _idle(world, consumer, number + 100)
        consumer.stop()
    finally:
        world.close()
        for prefix in prefixes.values():
            _unregister(endpoints, prefix)
    figures = []
    for name, found in delays.items():
        limit = FRESH_HEARTBEAT_SECONDS if name != "stuck_partition" else THRESHOLD
        for share in (50, 99):
            value = round(quantile(found, share / 100), 1)
            baseline = f"{limit:g} s, after which it shows at the earliest; injected {ROUNDS} times"
            figures.append(Figure(f"detect_{name}_p{share}_s", value, "s", baseline, round(value / limit, 2)))
    return figures


def _idle(world: World, consumer: CommandProcess, number: int) -> None:
    """A change of each table, and then rest: everything applied, both paths alive."""
    for suffix in ("a", "b"):
        insert = sql.SQL("INSERT INTO {} (id, title) VALUES (%s, 'x')").format(world.table(suffix))
        world.source(insert, [number])
    world.until(lambda: consumer.lines("ready to join"), PATIENCE)
    applied = "SELECT count(*) AS n FROM documents WHERE source_key ->> 'id' = %s"
    world.until(lambda: world.store(applied, [str(number)])[0]["n"] == 2, PATIENCE)
    world.until(lambda: all(_lag(world, consumer, suffix) == 0 for suffix in ("a", "b")), PATIENCE)


def _lag(world: World, consumer: CommandProcess, suffix: str) -> float:
    """The worst partition of a table; 0 only if there is a series that says so."""
    source = world.tables[("a", "b").index(suffix)]["topic"]
    shown = [
        v for (name, labels), v in consumer.metrics().items() if name == "freshness_lag_seconds" and source in labels
    ]
    return max(shown, default=float("inf"))


def _delay(world: World, missed: Callable[[], bool], since: float) -> float:
    world.until(missed, PATIENCE)
    return time.monotonic() - since


def _silent(world: World, consumer: CommandProcess, prefixes: Mapping[str, str]) -> dict[str, float]:
    """The connector of one table is stopped, the walsender of the other's slot held still; both heal at the end."""
    url = f"{world.endpoints.connect_url}/connectors/{prefixes['a']}"
    with psycopg.connect(world.endpoints.admin_source_dsn, autocommit=True) as source:
        reads = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s AND active"
        (walsender,) = world.until(lambda: source.execute(reads, [prefixes["b"]]).fetchall())[0]
        delays: dict[str, float] = {}
        os.kill(walsender, signal.SIGSTOP)
        held = time.monotonic()
        try:
            _ask("PUT", f"{url}/stop")
            dead = time.monotonic()

            def seen() -> bool:
                now = time.monotonic()
                for name, suffix, since in (("dead_connector", "a", dead), ("stalled_slot", "b", held)):
                    if name not in delays and _lag(world, consumer, suffix) > THRESHOLD:
                        delays[name] = now - since
                return len(delays) == 2

            world.until(seen, PATIENCE)
        finally:
            os.kill(walsender, signal.SIGCONT)
            _ask("PUT", f"{url}/resume")
    world.until(lambda: all(_lag(world, consumer, suffix) == 0 for suffix in ("a", "b")), PATIENCE)
    return delays


def _stuck(world: World, consumer: CommandProcess) -> dict[str, float]:
    """Somebody holds the offset row of one partition; then a change comes."""
    with psycopg.connect(world.endpoints.migrator_dsn) as holder:
        held = "SELECT FROM {}.offsets WHERE topic = %s FOR UPDATE"
        holder.execute(sql.SQL(held).format(sql.Identifier(world.name)), [world.tables[0]["topic"]])
        world.source(sql.SQL("UPDATE {} SET title = title || 'x'").format(world.table("a")))
        committed = time.monotonic()
        return {"stuck_partition": _delay(world, lambda: _lag(world, consumer, "a") > THRESHOLD, committed)}


def _stopped(world: World, consumer: CommandProcess) -> tuple[CommandProcess, float]:
    """SIGKILL of the only consumer, watched by `status`; the next consumer."""
    watching = world.spawn("status", "--watch", "--json")

    def verdict() -> str:
        lines = watching.out.read_text(encoding="utf-8").splitlines()
        return str(json.loads(lines[-1])["verdict"]) if lines else ""

    world.until(lambda: verdict() == "fresh", PATIENCE)
    consumer.kill()
    delay = _delay(world, lambda: verdict() != "fresh", time.monotonic())
    watching.kill()
    return world.start(), delay


def objective(endpoints: Endpoints, folder: Path, model: str) -> list[Figure]:
    """The consumer's ratio against the truth, half the changes having waited in a stall."""
    here = folder / "objective"
    here.mkdir()
    world = World.create(endpoints, here, model=model)
    try:
        ratio, truth, events = ratio_and_truth(world)
    finally:
        world.close()
    baseline = f"{truth:.5f} by source commits and transactions, {events} events"
    return [Figure("slo_ratio_error_pp", round(abs(ratio - truth) * 100, 4), "percentage points", baseline)]


def scrape(endpoints: Endpoints, folder: Path, model: str) -> list[Figure]:
    """GET /metrics while changes are applied; the baseline is GET /healthz at the same time."""
    here = folder / "scrape"
    here.mkdir()
    world = World.create(endpoints, here, model=model)
    world.migrate()
    load, stopping = Workload(world, 5), Event()
    player = Thread(target=lambda: load.run(10**6, pause=0.005, stopping=stopping))
    took: dict[str, list[float]] = {"/metrics": [], "/healthz": []}
    try:
        with world.consumer() as consumer:
            load.fill(20)
            world.settle()
            player.start()
            url, begun = consumer.lines("ready to join")[0]["http"], consumer.applied()
            for _ in range(SCRAPES):
                for page, seconds in took.items():
                    start = time.perf_counter()
                    _ask("GET", url + page)
                    seconds.append(time.perf_counter() - start)
                    time.sleep(0.01)
            if consumer.applied() - begun < SCRAPES:
                raise RuntimeError("there was no load to speak of")
            stopping.set()
            player.join()
            world.settle()
    finally:
        stopping.set()
        world.close()
    figures = []
    for share in (50, 99):
        ms, plain = (round(quantile(took[page], share / 100) * 1000, 2) for page in took)
        figures.append(Figure(f"scrape_loaded_p{share}_ms", ms, "ms", "/healthz beside it", round(ms / plain, 2)))
    return figures


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
