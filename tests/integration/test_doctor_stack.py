"""Findings of `doctor` about Kafka and Connect, each with its fault injected into the real ones, and healed by the fix.

Those about Postgres: test_doctor_faults.py; the whole command: test_doctor.py.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)
from psycopg import sql

from consumer.local import connect, resource
from consumer.operations.doctor import Finding, examine, kafka
from consumer.operations.doctor import connect as connect_part
from consumer.operations.doctor.examine import Part
from consumer.settings import load_settings
from tests.envelopes import change, row
from tests.stacks import Services
from tests.world import World

pytestmark = pytest.mark.stack


def found(world: World, look: Callable[..., Iterator[Finding]]) -> dict[str, Finding]:
    """The findings of one part by check, under the world's settings."""
    settings = load_settings(world.settings()).settings
    return {finding.check: finding for finding in examine(settings, [Part("asked", look)])}


def awaited(
    world: World, look: Callable[..., Iterator[Finding]], check: str, wanted: Callable[[Finding], bool]
) -> Finding:
    """The finding as soon as it is as wanted."""

    def seen() -> Finding | None:
        finding = found(world, look)[check]
        return finding if wanted(finding) else None

    finding = world.until(seen)
    assert finding
    return finding


@pytest.fixture
def quiet(world: World) -> World:
    """A world with a topic of its own making, which no connector writes, that the group has applied to its end."""
    world.tables = world.tables[:1]
    world.create_topic()
    world.produce(*(change(row(number), "c") for number in range(5)))
    world.migrate()
    with world.consumer():
        world.until(lambda: world.caught_up("a"))
    return world


def test_a_table_without_a_row_is_no_misspelt_topic(world: World) -> None:
    """The topic of the other table has nearly the same name."""
    world.source(sql.SQL("INSERT INTO {} (id, title) VALUES (1, 'x')").format(world.table("a")))
    world.until(lambda: world.end_offsets("a"))
    empty = found(world, kafka.look)[f"topic {world.topic('b')}"]
    assert (empty.verdict, "Did you mean" in empty.fix, "first row" in empty.fix) == ("warn", False, True), empty
    world.settings(source={})
    unasked = found(world, kafka.look)[f"topic {world.topic('b')}"]
    assert unasked.verdict == "fail"
    assert world.topic("a") not in unasked.fix, "it is another table's"  # other tests' topics may be alike


@pytest.mark.parametrize(
    ("name", "value", "well"),
    [
        ("retention.ms", "3600000", "604800000"),
        ("retention.bytes", "1000000", "-1"),
        ("cleanup.policy", "compact", "delete"),
    ],
)
def test_a_topic_that_does_not_keep_its_deletes(quiet: World, name: str, value: str, well: str) -> None:
    admin = AdminClient({"bootstrap.servers": quiet.endpoints.bootstrap_servers})

    def alter(entry: str) -> None:
        key, _, given = entry.partition("=")
        changed = ConfigEntry(key, given, incremental_operation=AlterConfigOpType.SET)
        place = ConfigResource(ResourceType.TOPIC, quiet.topic(), incremental_configs=[changed])
        admin.incremental_alter_configs([place])[place].result(30)

    alter(f"{name}={value}")
    risky = found(quiet, kafka.look)[f"topic {quiet.topic()}"]
    assert (risky.verdict, risky.fix.endswith(f"--add-config {name}={well}")) == ("warn", True), risky
    alter(risky.fix.split()[-1])
    assert found(quiet, kafka.look)[f"topic {quiet.topic()}"].verdict == "pass"


def test_positions_that_the_topic_does_not_have(quiet: World) -> None:
    assert found(quiet, kafka.look)["offsets"].verdict == "pass"
    quiet.produce(*(change(row(number), "c") for number in range(9)))
    quiet.delete_records(8)
    lost = found(quiet, kafka.look)["offsets"]
    assert (lost.verdict, "which holds 8 to 14" in lost.what) == ("fail", True), lost
    _reset(quiet, lost)
    assert found(quiet, kafka.look)["offsets"].verdict == "pass"

    quiet.delete_topic()
    quiet.create_topic()
    anew = awaited(quiet, kafka.look, "offsets", lambda finding: finding.verdict == "fail")
    assert "made anew" in anew.what
    _reset(quiet, anew)
    assert found(quiet, kafka.look)["offsets"].verdict == "pass"


def _reset(world: World, finding: Finding) -> None:
    """Run the command that the fix names."""
    command = finding.fix.split("`")[1].split()
    assert command[0] == "embed-consumer"
    done = world.command(*command[1:], "--execute")
    assert done.returncode == 0, done.stderr


def test_the_store_of_another_group(quiet: World) -> None:
    owner = quiet.name
    quiet.settings(group="another")
    other = found(quiet, kafka.look)["offsets"]
    assert (other.verdict, f"--group {owner}" in other.fix) == ("fail", True)


def beat(world: World, prefix: str, age: float = 0.0, clock_behind: float = 0.0) -> None:
    """A heartbeat of a connector, as old as is asked for, of a source whose clock is so far behind."""
    ts_us = int((time.time() - age - clock_behind) * 1e6)
    value = json.dumps({"op": "m", "source": {"ts_us": ts_us, "ts_ms": ts_us // 1000}, "message": {}})
    producer = Producer({"bootstrap.servers": world.endpoints.bootstrap_servers})
    producer.produce(f"__debezium-heartbeat.{prefix}", value=value, key=b"{}", timestamp=int((time.time() - age) * 1e3))
    assert producer.flush(30) == 0


def test_heartbeats_that_do_not_come_and_those_that_nobody_applies(quiet: World) -> None:
    """Of a prefix of its own, whose heartbeats are written by hand."""
    prefix = f"p{quiet.name}"
    quiet.tables[0] |= {"topic": quiet.topic(), "source": f"{prefix}.public.a"}
    check = f"heartbeat {prefix}"
    servers: dict[str, Any] = {"bootstrap.servers": quiet.endpoints.bootstrap_servers}
    assert "is not there" in found(quiet, kafka.look)[check].what
    admin, topic = AdminClient(servers), f"__debezium-heartbeat.{prefix}"
    admin.create_topics([NewTopic(topic, 1)])[topic].result(30)
    empty = awaited(quiet, kafka.look, check, lambda finding: "is empty" in finding.what)
    assert (empty.verdict, prefix in empty.fix) == ("fail", True)
    beat(quiet, prefix, age=300.0)
    old = found(quiet, kafka.look)[check]
    assert (old.verdict, "s old" in old.what, "Ask Connect" in old.fix) == ("fail", True, True), old
    beat(quiet, prefix, clock_behind=300.0)
    late = found(quiet, kafka.look)[check]
    assert (late.verdict, "late by the source's clock" in late.what, "NTP" in late.fix) == ("fail", True, True), late
    beat(quiet, prefix)
    assert found(quiet, kafka.look)[check].verdict == "pass"

    member = Consumer(servers | {"group.id": quiet.name})  # one that is in the group and applies nothing
    try:
        member.subscribe([quiet.topic()])

        def unapplied(finding: Finding) -> bool:
            member.poll(0.1)
            beat(quiet, prefix)
            return finding.verdict == "fail"

        idle = awaited(quiet, kafka.look, check, unapplied)
        assert "the group has members, but none was ever applied" in idle.what
        assert "`embed-consumer status`" in idle.fix
    finally:
        member.close()


@pytest.fixture
def connector(world: World, stack: Services) -> Iterator[str]:
    """The name of a connector of the test's own, with a slot of its own."""
    name = f"halted{os.getpid()}"  # Connect remembers the offsets of each name that it ever had
    url, log = world.endpoints.connect_url, world.folder / "that of Connect"
    given = json.loads(resource("connectors/postgres-json.json").read_text(encoding="utf-8"))
    given |= {"topic.prefix": name, "slot.name": name, "snapshot.mode": "no_data"}
    connect.register(url, name, given, log)
    world.settings(source={"connect_url": url, "connector": name})
    with psycopg.connect(world.endpoints.admin_source_dsn, autocommit=True) as source:

        def slots() -> list[tuple[bool]]:
            return source.execute("SELECT active FROM pg_replication_slots WHERE slot_name = %s", [name]).fetchall()

        def dropped() -> bool:
            with suppress(psycopg.errors.ObjectInUse):  # the task has not ended yet
                source.execute("SELECT pg_drop_replication_slot(%s)", [name])
            return not slots()

        try:
            world.until(slots, timeout=120)
            yield name
        finally:
            connect.unregister(url, name, log)
            world.until(dropped, timeout=120)


def ask(method: str, url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as reply:
        return json.loads(reply.read() or b"null")


def test_a_connector_that_was_halted_or_whose_task_failed(world: World, connector: str) -> None:
    check, url = f"connector {connector}", f"{world.endpoints.connect_url}/connectors/{connector}"

    def seen(verdict: str) -> Finding:
        return awaited(world, connect_part.look, check, lambda finding: finding.verdict == verdict)

    seen("pass")
    for halt in ("pause", "stop"):
        ask("PUT", f"{url}/{halt}")
        halted = seen("fail")
        method, heal = halted.fix.split()
        assert heal == f"{url}/resume"
        ask(method, heal)
        seen("pass")

    config = ask("GET", f"{url}/config")
    ask("PUT", f"{url}/config", config | {"publication.name": "there_is_none"})
    broken = awaited(world, connect_part.look, check, lambda finding: "task is FAILED" in finding.what)
    assert broken.verdict == "fail"
    assert "Exception" in broken.what
    assert "there_is_none" not in broken.what, "the rest of a trace may quote rows"
    ask("PUT", f"{url}/config", config)
    method, heal = broken.fix.split("; ")[1].split()

    def restarted() -> bool:
        with suppress(urllib.error.HTTPError):  # Connect is rebalancing
            ask(method, heal)
        return found(world, connect_part.look)[check].verdict == "pass"

    world.until(restarted, timeout=90)
