"""SIGKILL at each named moment of a batch, a migration, a replay and an index build; what is left is always whole."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import psycopg
import pytest

from tests.crash_points import VARIABLE
from tests.envelopes import change, row
from tests.fault_proxy import FaultProxy
from tests.oracle import Oracle
from tests.states import read_rows, read_store
from tests.topic_log import read_topics
from tests.workload import Workload
from tests.world import World

pytestmark = pytest.mark.timeout(900)  # many processes one after the other, on a machine that may be slow

POINTS = {
    "polled": "/pipeline.py:Pipeline.process:call",
    "planned": "/steps.py:Steps.plan:return",
    "embedded": "/torch_engine.py:TorchEngine.embed:return",
    "transaction open": "/store/transaction.py:_begin:return",
    "copied": "/store/chunks.py:insert_chunks:return",
    "before COMMIT": "/store/transaction.py:write:return",
    "before the broker's commit": "/source/kafka.py:KafkaSource.stored:call",
}
WARM_UP = 3  # calls of the engine before the first batch


@pytest.mark.semantics("faults", "kill -9 of a consumer, at any moment")
def test_a_consumer_killed_at_each_moment_of_a_batch(world: World, tiny_model: Path) -> None:
    """One after the other under load, each at another moment; the store is whole after each, and complete at last."""
    dice, stopping = random.Random(51), Event()
    host, port = world.endpoints.bootstrap_servers.split(":")[0], _port(world.endpoints.store_dsn)
    # A static member: its successor takes over at once, instead of after the session that the dead one has left.
    kafka = {"bootstrap_servers": world.endpoints.bootstrap_servers, "properties": {"group.instance.id": world.name}}
    world.settings(kafka=kafka, batch={"max_events": 50})
    world.migrate()
    load = Workload(world, 51)
    load.fill(30)
    states = []
    with ThreadPoolExecutor(1) as player, FaultProxy(host, port) as proxy:
        playing = player.submit(load.run, 10**6, pause=0.1, stopping=stopping)
        try:
            for name, point in POINTS.items():
                number = dice.randint(1, 5) + WARM_UP * (name == "embedded")
                victim = world.start(environment={VARIABLE: f"{point}:{number}"})
                assert victim.wait(120) == -9, f"{name}\n{victim.output()[-2000:]}"
                states.append(read_store(world.endpoints.migrator_dsn, world.name, world.name))
            dsn = world.endpoints.store_dsn.replace(f":{port}/", f":{proxy.port}/")
            victim = world.start(environment={"EMBEDDING_STORE__DSN": dsn})
            world.until(lambda: victim.applied() > 0)
            proxy.strike("cut", "reply", holding=b"COMMIT\0", then=victim.die)  # after COMMIT, before its reply
            assert victim.wait(120) == -9
            states.append(read_store(world.endpoints.migrator_dsn, world.name, world.name))
        finally:
            stopping.set()
        playing.result()
    with world.consumer():
        world.settle(timeout=240)
    states.append(read_store(world.endpoints.migrator_dsn, world.name, world.name))

    oracle = Oracle(world.tables, tiny_model)
    tables = {world.topic(suffix): world.table(suffix) for suffix in ("a", "b")}
    events = read_topics(world.endpoints.bootstrap_servers, tables)
    assert oracle.compare(states[-1], read_rows(world.endpoints.source_owner_dsn, tables)) == []
    assert [oracle.compare_with_topics(state, events) for state in states] == [[]] * len(states)
    assert world.store("SELECT * FROM failed_documents") == []
    assert 0 < sum(process.embedded() for process in world.processes) <= oracle.embeds_due(events)


def _port(dsn: str) -> int:
    return int(psycopg.conninfo.conninfo_to_dict(dsn)["port"] or 5432)


@pytest.mark.semantics(
    "faults", "kill -9 of a migration, replay or index build", "running it again goes on where it was, and finishes"
)
def test_a_migration_killed_at_each_step_is_finished_by_the_next(world: World) -> None:
    steps = 0
    while True:
        point = "/connection.py:Connection.execute:return"  # every statement of it, from its lock on
        process = world.spawn("migrate", environment={VARIABLE: f"{point}:{3 + steps}"})
        if (code := process.wait(120)) == 0:
            break
        assert code == -9, process.output()[-2000:]
        steps += 1
    assert steps > 3, "it was killed too seldom"
    again = world.command("migrate", "--plan")
    assert again.returncode == 0
    assert "CREATE" not in again.stdout
    world.tables = world.tables[:1]
    world.create_topic()
    world.produce(change(row(1), "c"))
    with world.consumer():
        world.until(lambda: world.store("SELECT 1 FROM chunks"))


@pytest.mark.semantics("faults", "kill -9 of a migration, replay or index build")
def test_a_replay_killed_at_each_moment_goes_on_where_it_was(world: World, tiny_model: Path) -> None:
    world.tables = world.tables[:1]
    world.settings(batch={"max_events": 10})
    world.migrate()
    Workload(world, 52, ("a",)).run(40)
    with world.consumer():
        world.settle("a", timeout=240)
    arguments = ("replay", "--topic", world.topic(), "--from-beginning", "--force", "--execute")
    for name in ("polled", "planned", "embedded", "transaction open", "copied", "before COMMIT"):
        number = 2 + WARM_UP * (name == "embedded")
        victim = world.spawn(*arguments, environment={VARIABLE: f"{POINTS[name]}:{number}"})
        assert victim.wait(120) == -9, f"{name}\n{victim.output()[-2000:]}"
    host, port = world.endpoints.bootstrap_servers.split(":")[0], _port(world.endpoints.store_dsn)
    with FaultProxy(host, port) as proxy:
        proxied = world.endpoints.store_dsn.replace(f":{port}/", f":{proxy.port}/")
        victim = world.spawn(*arguments, environment={"EMBEDDING_STORE__DSN": proxied})
        proxy.strike("cut", "reply", holding=b"COMMIT\0", then=victim.die)  # after COMMIT, before its reply
        assert victim.wait(120) == -9, victim.output()[-2000:]
    assert world.store("SELECT 1 FROM offsets WHERE group_id LIKE 'replay:%%' AND next_offset > 0", [])
    finished = world.command(*arguments)
    assert finished.returncode == 0, finished.stderr[-2000:]
    state = read_store(world.endpoints.migrator_dsn, world.name, world.name)
    rows = read_rows(world.endpoints.source_owner_dsn, {world.topic(): world.table()})
    assert Oracle(world.tables, tiny_model).compare(state, rows) == []
    assert world.store("SELECT 1 FROM offsets WHERE group_id LIKE 'replay:%%'", []) == []


@pytest.mark.semantics("faults", "kill -9 of a migration, replay or index build")
def test_an_index_build_that_was_killed_is_made_good_by_the_next_consumer(world: World) -> None:
    world.tables = world.tables[:1]
    world.create_topic()
    world.produce(*(change(row(number), "c") for number in range(50)))
    world.migrate()
    building = "SELECT 1 FROM pg_stat_progress_create_index WHERE relid = to_regclass('chunks_1')"
    index = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('chunks_1_hnsw')"
    with psycopg.connect(world.endpoints.migrator_dsn) as writer:
        # It holds the build up: a transaction that may still write to the table.
        writer.execute(
            psycopg.sql.SQL("LOCK {}.chunks_1 IN ROW EXCLUSIVE MODE").format(psycopg.sql.Identifier(world.name))
        )
        victim = world.start()
        world.until(lambda: world.store(building))
        victim.kill()
        world.until(lambda: not world.store(building))  # the server has noticed that nobody waits for it
        assert world.store(index) == [{"indisvalid": False}], "an invalid index is left"
    with world.consumer():
        world.until(lambda: world.store(index) == [{"indisvalid": True}])
        assert len(world.store("SELECT 1 FROM chunks")) == 50
