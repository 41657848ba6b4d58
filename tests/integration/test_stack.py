"""The local stack as its user meets it: real processes, real downloads, real crashes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from confluent_kafka import Consumer
from typer.testing import CliRunner

from consumer.cli.stack import app
from consumer.errors import Exit, Stop
from consumer.events import AvroSchema, SchemaRef
from consumer.local import Endpoints, Stack, resource
from consumer.local.artifacts import default_cache, ensure, pinned, sha256, tree_sha256
from consumer.local.files import exclusive
from consumer.local.state import State
from consumer.settings import load_settings
from consumer.source import Access, SchemaRegistry
from tests.stacks import local_only

pytestmark = [pytest.mark.stack, local_only, pytest.mark.timeout(600)]

SERVICES = ["postgres", "kafka", "connect"]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of its own, in place of the session's, because these tests break it."""
    stack = Stack(tmp_path_factory.mktemp("stack") / "home")
    stack.up()
    stack.register_connector()
    yield stack
    stack.down(purge=True)


@pytest.fixture(scope="module")
def source(stack: Stack) -> Iterator[psycopg.Connection]:
    with psycopg.connect(stack.endpoints().source_owner_dsn, autocommit=True) as connection:
        yield connection


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """What `condition` returns as soon as that is true; the test fails if it never is."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.05)
    return found


def read(
    endpoints: Endpoints, topic: str, enough: Callable[[list[Any]], bool], decode: Callable[[bytes], Any] = json.loads
) -> list[Any]:
    """(key, value, headers) of a topic's records from its beginning, read until there are enough."""
    consumer = Consumer(
        {
            "bootstrap.servers": endpoints.bootstrap_servers,
            "group.id": f"test-{time.time_ns()}",
            "auto.offset.reset": "earliest",
            "topic.metadata.refresh.interval.ms": 200,
            "allow.auto.create.topics": False,
        }
    )
    consumer.subscribe([topic])
    records: list[Any] = []

    def poll() -> bool:
        message = consumer.poll(0.2)
        if message is not None and not message.error():
            key, value = (decode(part) if part else None for part in (message.key(), message.value()))
            records.append((key, value, dict(message.headers() or [])))
        return enough(records)

    try:
        until(poll, 30)
    finally:
        consumer.close()
    return records


def processes_of(home: Path) -> list[psutil.Process]:
    """Every living process whose arguments name this home, or the folder that its database lies in."""
    state = home / "state.json"
    data = json.loads(state.read_text())["postgres_data"] if state.exists() else ""
    folders = [str(home), data or str(home)]
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        named = any(folder in argument for argument in process.info["cmdline"] or [] for folder in folders)
        if named and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def test_every_service_is_ready_and_a_second_up_changes_nothing(stack: Stack) -> None:
    before = stack.status()
    assert [service.name for service in before] == SERVICES
    assert {service.state for service in before} == {"ready"}
    assert all(service.log.is_file() for service in before)
    endpoints = stack.endpoints()
    assert stack.up() == endpoints
    assert [service.pid for service in stack.status()] == [service.pid for service in before]


def test_changes_of_the_source_arrive_as_envelopes(stack: Stack, source: psycopg.Connection) -> None:
    source.execute(
        "CREATE TABLE changes (id int PRIMARY KEY, title text DEFAULT 'none', price numeric, at timestamptz)"
    )
    source.execute("INSERT INTO changes VALUES (1, 'first', 1.50, '2026-01-02T03:04:05Z')")
    source.execute("UPDATE changes SET title = NULL")
    source.execute("UPDATE changes SET id = 2")
    source.execute("DELETE FROM changes")
    source.execute("TRUNCATE changes")
    records = read(stack.endpoints(), "shop.public.changes", lambda found: len(found) == 8)

    values = [value for _, value, _ in records if value is not None]
    assert sorted(value["op"] for value in values) == ["c", "c", "d", "d", "t", "u"]
    assert sum(value is None for _, value, _ in records) == 2, "each delete has its tombstone"
    first = next(value for value in values if value["op"] == "c" and value["after"]["id"] == 1)
    assert first["after"] == {"id": 1, "title": "first", "price": "1.50", "at": "2026-01-02T03:04:05.000000Z"}
    assert {"lsn", "ts_ms", "ts_us", "sequence", "txId"} <= first["source"].keys()
    edited = next(value for value in values if value["op"] == "u")
    assert edited["after"]["title"] is None, "NULL is not replaced by the column's default"
    moves = [(key, headers) for key, _, headers in records if headers]
    assert ({"id": 1}, {"__debezium.newkey": b'{"id":2}'}) in moves
    assert ({"id": 2}, {"__debezium.oldkey": b'{"id":1}'}) in moves


def test_heartbeats_flow_and_an_idle_slot_moves_on(stack: Stack) -> None:
    beats = read(stack.endpoints(), "__debezium-heartbeat.shop", lambda found: len(found) >= 2)
    assert all(value["ts_ms"] > 0 for _, value, _ in beats)
    with psycopg.connect(stack.endpoints().admin_source_dsn, autocommit=True) as admin:

        def confirmed() -> int:
            row = admin.execute(
                "SELECT confirmed_flush_lsn - '0/0' FROM pg_replication_slots WHERE slot_name = 'embed_consumer'"
            ).fetchone()
            assert row is not None
            return int(row[0])

        # The store's writes move the log of the whole server; the idle source's slot must follow.
        target = admin.execute("SELECT pg_current_wal_lsn() - '0/0'").fetchone()
        assert target is not None
        until(lambda: confirmed() > int(target[0]), 30)


def test_roles_may_do_their_work_and_no_more(stack: Stack) -> None:
    endpoints = stack.endpoints()

    def refused(dsn: str, statement: str) -> bool:
        with psycopg.connect(dsn, autocommit=True) as connection:
            try:
                connection.execute(statement)
            except psycopg.errors.InsufficientPrivilege:
                return True
            return False

    with psycopg.connect(endpoints.migrator_dsn, autocommit=True) as migrator:
        migrator.execute("CREATE TABLE embedding.probe (id int PRIMARY KEY, embedding vector(2))")
    with psycopg.connect(endpoints.store_dsn, autocommit=True) as writer:
        writer.execute("INSERT INTO embedding.probe VALUES (1, '[1,2]')")
        writer.execute("ANALYZE embedding.probe")
        writer.execute("CREATE TEMPORARY TABLE scratch (id int)")
    index = "CREATE INDEX CONCURRENTLY ON embedding.probe USING hnsw (embedding vector_cosine_ops)"
    assert refused(endpoints.store_dsn, index)
    assert not refused(f"{endpoints.store_dsn}?options=-crole%3Dembedding_migrator", index)
    assert refused(endpoints.store_dsn, "DROP TABLE embedding.probe")
    assert not refused(endpoints.reader_dsn, "SELECT * FROM embedding.probe")
    assert refused(endpoints.reader_dsn, "DELETE FROM embedding.probe")
    assert refused(endpoints.source_dsn, "CREATE TABLE public.mine (id int)")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(endpoints.source_dsn.replace("/shop", "/vectors"))


def test_passwords_stay_in_files_of_their_owner(stack: Stack) -> None:
    state = stack.layout.state
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    passwords = set(json.loads(state.read_text())["passwords"].values())
    assert len(passwords) == 6
    shown = "".join(path.read_text(errors="replace") for path in (stack.layout.home / "logs").iterdir())
    shown += "".join(" ".join(process.cmdline()) for process in processes_of(stack.layout.home))
    shown += "".join(path.read_text() for path in (stack.layout.home / "config").iterdir())
    assert not [password for password in passwords if password in shown]


def unknown_properties(stack: Stack, name: str) -> list[str]:
    """The properties of a connector file that neither Debezium nor Connect knows; none may have a value it refuses."""
    config = json.loads(resource(f"connectors/{name}.json").read_text()) | {"name": name}
    url = f"{stack.endpoints().connect_url}/connector-plugins/{config['connector.class']}/config/validate"
    request = urllib.request.Request(
        url, json.dumps(config).encode(), {"Content-Type": "application/json"}, method="PUT"
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as reply:
        answer = json.loads(reply.read())
    assert [entry["value"]["errors"] for entry in answer["configs"] if entry["value"]["errors"]] == []
    known = {entry["definition"]["name"] for entry in answer["configs"]}
    # Clients and converters have properties of their own, which Connect passes on; Debezium obeys one it does not list.
    passed_on = re.compile(
        r"producer\.override\.|(key|value)\.converter\.|topic\.creation\.|signal\.kafka\.|event\.converting\."
    )
    return [name for name in config if name not in known and not passed_on.match(name)]


def test_every_property_of_the_connector_is_known_to_debezium(stack: Stack) -> None:
    # Read, and not listed: tests of heartbeats and of a lost slot show what they do.
    assert unknown_properties(stack, "postgres-json") == ["offset.mismatch.strategy", "topic.heartbeat.prefix"]


def test_the_commands_say_where_everything_is(stack: Stack, tmp_path: Path) -> None:
    run, home, settings = CliRunner().invoke, str(stack.layout.home), tmp_path / "embed-consumer.yaml"
    up = run(app, ["up", "--home", home, "--config", str(settings), "--json"])
    assert up.exit_code == Exit.DONE
    told = json.loads(up.stdout)
    assert told["settings"] == str(settings)
    assert load_settings(settings).settings.kafka.bootstrap_servers == stack.endpoints().bootstrap_servers
    status = run(app, ["status", "--home", home, "--json"])
    assert status.exit_code == Exit.DONE
    assert json.loads(status.stdout)["services"] == told["services"]
    readable = run(app, ["status", "--home", home])
    assert all(service["name"] in readable.stdout and service["log"] in readable.stdout for service in told["services"])
    nowhere = run(app, ["status", "--home", str(tmp_path / "nowhere"), "--json"])
    assert nowhere.exit_code == Exit.UNREACHABLE
    assert {service["state"] for service in json.loads(nowhere.stdout)["services"]} == {"stopped"}


@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_service_is_seen_and_healed(stack: Stack, service: str) -> None:
    stack.kill(service)
    assert {each.name: each.state for each in stack.status()}[service] == "stopped"
    stack.up()
    stack.register_connector()
    assert {each.state for each in stack.status()} == {"ready"}
    table = f"after_{service}"
    with psycopg.connect(stack.endpoints().source_owner_dsn, autocommit=True) as owner:
        owner.execute(f"CREATE TABLE {table} (id int PRIMARY KEY)")
        owner.execute(f"INSERT INTO {table} VALUES (7)")
    (record,) = read(stack.endpoints(), f"shop.public.{table}", lambda found: len(found) == 1)
    assert record[0] == {"id": 7}


def test_a_start_killed_half_way_is_taken_over(tmp_path: Path) -> None:
    home = tmp_path / "home"
    program = f"from pathlib import Path; from consumer.local import Stack; Stack(Path({str(home)!r})).up()"
    half = subprocess.Popen([sys.executable, "-c", program])
    until(lambda: [process for process in processes_of(home) if process.name() == "java"])
    half.send_signal(signal.SIGKILL)
    half.wait()
    # As if it had died between starting a process and noting it.
    for note in (home / "run").glob("*.json"):
        note.unlink()

    stack = Stack(home)
    try:
        stack.up()
        assert {process.pid for process in processes_of(home)} == {service.pid for service in stack.status()}
    finally:
        family = [child for process in processes_of(home) for child in (process, *process.children(recursive=True))]
        stack.down()
    assert family
    assert not processes_of(home)
    assert not [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    assert {service.state for service in stack.status()} == {"stopped"}
    stack.down(purge=True)
    assert not home.exists()


def start_up(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """`embed-consumer stack up` in a process of its own, which minds Ctrl-C even below a shell that does not."""
    program = "from signal import *; signal(SIGINT, default_int_handler); from consumer.cli import main; main()"
    with (folder / "up.log").open("wb") as log:
        return subprocess.Popen([sys.executable, "-c", program, "stack", "up", *arguments], cwd=folder, stderr=log)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_start_that_is_interrupted_leaves_no_process_and_says_so(tmp_path: Path, number: signal.Signals) -> None:
    home = tmp_path / ".embed-consumer"
    process = start_up(tmp_path)
    try:
        until(lambda: [each for each in processes_of(home) if each.name() == "java"], 180)
        process.send_signal(number)
        assert process.wait(180) == Exit.INTERRUPTED
        assert not processes_of(home)
    finally:
        process.kill()
        Stack(home).down()
    assert (tmp_path / "up.log").read_text().endswith("stopping what was started\nInterrupted.\n")
    assert not (tmp_path / "embed-consumer.yaml").exists()


def test_a_second_start_that_is_interrupted_leaves_a_stack_running(stack: Stack, tmp_path: Path) -> None:
    stack.up()
    before = stack.status()
    with exclusive(stack.layout.lock, patience=60):
        process = start_up(tmp_path, "--home", str(stack.layout.home))
        waits = psutil.Process(process.pid)
        until(lambda: any(file.path == str(stack.layout.lock) for file in waits.open_files()), 180)
        process.send_signal(signal.SIGINT)
        assert process.wait(180) == Exit.INTERRUPTED
    assert stack.status() == before


def test_any_folder_will_do_and_purge_takes_the_settings_file_along_unless_it_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LANG", raising=False)
    monkeypatch.setenv("LC_ALL", "C")
    home, settings = tmp_path / "with a space \\ ü" / "home", tmp_path / "embed-consumer.yaml"
    run = CliRunner().invoke
    for edited in (True, False):
        up = run(app, ["up", "--home", str(home), "--config", str(settings), "--no-connector"])
        try:
            assert up.exit_code == Exit.DONE, up.output
            assert (home / "data" / "kafka" / "meta.properties").exists()
            if edited:
                settings.write_text(settings.read_text() + "# mine\n")
        finally:
            done = run(app, ["down", "--home", str(home), "--purge"])
        assert done.exit_code == Exit.DONE
        assert settings.exists() == edited
        assert (str(settings) in done.stderr) == edited
        assert not home.exists()
        settings.unlink(missing_ok=True)


def test_two_starts_at_once_make_one_stack_which_leaves_a_port_taken_meanwhile(stack: Stack) -> None:
    before = stack.endpoints()
    stack.down()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", int(before.bootstrap_servers.rsplit(":", 1)[1])))
        taken.listen()
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(lambda _: Stack(stack.layout.home).up(), range(2))
    assert first == second
    assert first.bootstrap_servers != before.bootstrap_servers
    assert first.store_dsn == before.store_dsn
    assert {process.pid for process in processes_of(stack.layout.home)} == {service.pid for service in stack.status()}
    stack.register_connector()
    with psycopg.connect(first.source_owner_dsn, autocommit=True) as owner:
        owner.execute("CREATE TABLE after_move (id int PRIMARY KEY)")
        owner.execute("INSERT INTO after_move VALUES (1)")
    assert read(first, "shop.public.after_move", lambda found: len(found) == 1)


def test_a_port_that_was_asked_for_and_is_taken_stops(stack: Stack, tmp_path: Path) -> None:
    taken = int(stack.endpoints().bootstrap_servers.rsplit(":", 1)[1])
    with pytest.raises(Stop, match=str(taken)) as stopped:
        Stack(tmp_path / "other", asked={"kafka": taken}).up()
    assert stopped.value.exit_code == Exit.USAGE
    assert not processes_of(tmp_path / "other")


def test_damaged_and_missing_downloads_are_fetched_again(stack: Stack, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(default_cache() / "jars", cache / "jars", copy_function=os.link)
    (cache / "parts").mkdir()
    (cache / "parts" / "left-by-a-killed-download").touch()
    smallest = sorted((a for a in pinned() if a.use == "classpath"), key=lambda a: a.bytes)[:2]
    damaged, missing = (cache / "jars" / artifact.file_name for artifact in smallest)
    content = damaged.read_bytes()
    damaged.unlink()
    damaged.write_bytes(b"\0" + content[1:])
    missing.unlink()

    seen: list[tuple[int, int]] = []
    jars = ensure(cache, lambda received, total: seen.append((received, total)))
    assert [sha256(damaged), sha256(missing)] == [artifact.sha256 for artifact in smallest]
    assert seen[-1][0] == seen[-1][1] == smallest[0].bytes + smallest[1].bytes
    assert not list(cache.glob("parts/*"))
    assert all(path.is_file() for path in jars.classpath)

    plugin = next(jars.plugins[0].rglob("*.jar"))
    plugin.write_bytes(b"damaged")
    again = ensure(cache, lambda _received, _total: pytest.fail("nothing had to be fetched"))
    assert tree_sha256(again.plugins[0]) == next(a.tree_sha256 for a in pinned() if a.use == "plugin")


def test_two_stacks_started_at_once_share_no_port(stack: Stack, tmp_path: Path) -> None:
    other = Stack(tmp_path / "home")
    other.layout.create()
    state = State.new()
    state.cluster_id = "-Q3drh7wTgWws0JjHFKMFQ"  # one random id in 64 looks like an option
    state.save(other.layout)
    stack.down()
    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda each: each.up(), (stack, other)))
        both = [*stack.status(), *other.status()]
        assert [service.state for service in both] == ["ready"] * 2 * len(SERVICES)
        assert len({service.port for service in both}) == len(both)
    finally:
        other.down(purge=True)


def test_avro_joins_a_stack_that_wrote_json_and_its_schemas_outlive_the_registry(stack: Stack, tmp_path: Path) -> None:
    home, config = str(stack.layout.home), tmp_path / "embed-consumer.yaml"
    stack.up()
    stack.register_connector()
    with psycopg.connect(stack.endpoints().source_owner_dsn, autocommit=True) as owner:
        owner.execute("CREATE TABLE either (id int PRIMARY KEY)")
        owner.execute("INSERT INTO either VALUES (1)")
        read(stack.endpoints(), "shop.public.either", lambda found: len(found) == 1)
        up = CliRunner().invoke(app, ["up", "--home", home, "--config", str(config), "--format", "avro", "--json"])
        assert up.exit_code == Exit.DONE, up.output
        owner.execute("INSERT INTO either VALUES (2)")
    names = [service["name"] for service in json.loads(up.stdout)["services"]]
    assert names == ["postgres", "kafka", "registry", "connect"]
    assert load_settings(config).settings.registry.url == stack.endpoints().registry_url
    assert unknown_properties(stack, "postgres-avro") == [
        "offset.mismatch.strategy",
        "field.name.adjustment.mode",
        "topic.heartbeat.prefix",
    ]

    def both(found: list[Any]) -> bool:
        """JSON from before, and Avro from now on: partitions come in any order."""
        return {(b'{"id":1}', True), (b'{"id":2}', False)} <= {(key, value[:1] == b"{") for key, value, _ in found}

    written = read(stack.endpoints(), "shop.public.either", both, bytes)
    avro = next(value for key, value, _ in written if key == b'{"id":2}')
    registry = SchemaRegistry(Access(stack.endpoints().registry_url), unknown_seconds=0)
    ref = SchemaRef("content", int.from_bytes(avro[1:5], "big"))
    before = registry.schemas({ref})[ref]
    assert isinstance(before, AvroSchema)

    stack.kill("registry")
    assert {each.name: each.state for each in stack.status()}["registry"] == "stopped"
    stack.up()  # which format it writes is remembered
    again = SchemaRegistry(Access(stack.endpoints().registry_url), unknown_seconds=0)
    after = again.schemas({ref})[ref]
    assert isinstance(after, AvroSchema)
    assert after.root == before.root
    stack.down()
    assert not processes_of(stack.layout.home)
