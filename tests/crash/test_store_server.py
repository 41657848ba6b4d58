"""What may happen to the database of the vectors while a consumer runs; its source and its broker are well."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.crash.test_network import judge, under_load
from tests.envelopes import change, row
from tests.fault_proxy import FaultProxy
from tests.integration.postgres import Server, throwaway_server
from tests.world import World

pytestmark = pytest.mark.timeout(900)  # many faults one after the other, on a machine that may be slow


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with throwaway_server() as made:
        made.make_store()
        yield made


@pytest.fixture
def apart(world: World, server: Server) -> World:
    """A world whose store is on a server of its own, under the roles of ops/postgres."""
    world.endpoints = replace(
        world.endpoints,
        store_dsn=server.store_dsn("embedder"),
        migrator_dsn=server.store_dsn("embedding_migrator"),
        admin_dsn=server.store_dsn(),
    )
    return world


def warned(consumer: Any, words: str) -> bool:
    return any(words in str(line) for line in consumer.lines() if line["level"] == "warning")


@pytest.mark.semantics("faults", "Postgres or Kafka away")
def test_postgres_is_stopped_fast_and_at_once(apart: World, server: Server, tiny_model: Path) -> None:
    apart.settings(batch={"max_events": 50})
    apart.migrate()
    with under_load(apart, 64):
        consumer = apart.start()
        for mode in ("fast", "immediate", "fast", "immediate"):
            count = consumer.applied()
            apart.until(lambda count=count: consumer.applied() > count)  # type: ignore[misc]
            server.stop(mode)
            said = len(consumer.lines())
            apart.until(lambda said=said: len(consumer.lines()) > said)  # type: ignore[misc]
            server.start()
    judge(apart, tiny_model, consumer)


@pytest.mark.semantics(
    "faults", "store that turns read-only (failover)", "waits, and connects anew, where the new primary answers"
)
def test_a_store_that_turns_read_only(apart: World, server: Server, tiny_model: Path) -> None:
    apart.settings(batch={"max_events": 50})
    apart.migrate()
    proxied = server.store_dsn("embedder").replace(_port(server), ":{}/")
    with (
        FaultProxy("127.0.0.1", int(_port(server).strip(":/"))) as proxy,
        psycopg.connect(server.dsn, autocommit=True) as admin,
    ):
        with under_load(apart, 65):
            consumer = apart.start(environment={"EMBEDDING_STORE__DSN": proxied.format(proxy.port)})
            apart.until(lambda: consumer.applied() > 0)
            accepted = proxy.accepted
            try:
                admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
                admin.execute("SELECT pg_reload_conf()")
                apart.until(lambda: warned(consumer, "25006"))
                # The address may name another server by now: only a new connection finds it.
                apart.until(lambda: proxy.accepted > accepted + 1)
            finally:
                admin.execute("SET default_transaction_read_only = off")
                admin.execute("ALTER SYSTEM RESET default_transaction_read_only")
                admin.execute("SELECT pg_reload_conf()")
            count = consumer.applied()
            apart.until(lambda: consumer.applied() > count)
        judge(apart, tiny_model, consumer)


def _port(server: Server) -> str:
    """As it stands in the DSN."""
    return ":" + server.dsn.rpartition(":")[2].partition("/")[0] + "/"


@pytest.fixture
def small_disk(server: Server) -> Iterator[Path]:
    """A folder on a file system of a few megabytes; mounting one takes a privilege that not every machine gives."""
    folder = server.folder / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a small file system here; test_postgres_says_that_its_disk_is_full is in its place")
    try:
        server.own(folder)
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def full_and_free(apart: World, model: Path, fill: Callable[[], None], free: Callable[[], None]) -> None:
    """A disk that is full for a while, under load: SQLSTATE 53100 is told, and nothing fails for good."""
    with under_load(apart, 66):
        consumer = apart.start()
        apart.until(lambda: consumer.applied() > 0)
        fill()
        try:
            apart.until(lambda: warned(consumer, "53100"))
        finally:
            free()
        count = consumer.applied()
        apart.until(lambda: consumer.applied() > count)
    judge(apart, model, consumer)


@pytest.mark.semantics(
    "faults", "disk of the store full", "waits and says so; goes on when there is room, and fails no document"
)
def test_the_disk_of_the_store_is_full(apart: World, server: Server, small_disk: Path, tiny_model: Path) -> None:
    ballast = small_disk / "ballast"

    def fill() -> None:
        with ballast.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(65536)):
                    pass
            except OSError:
                return

    with psycopg.connect(server.store_dsn(), autocommit=True) as admin:
        admin.execute(psycopg.sql.SQL("CREATE TABLESPACE small LOCATION {}").format(str(small_disk)))
        admin.execute("GRANT CREATE ON TABLESPACE small TO embedding_migrator")
        admin.execute("ALTER DATABASE vectors SET default_tablespace = small")
        apart.migrate()
        full_and_free(apart, tiny_model, fill, ballast.unlink)
        admin.execute("ALTER DATABASE vectors RESET default_tablespace")
        admin.execute(psycopg.sql.SQL("DROP SCHEMA {} CASCADE").format(psycopg.sql.Identifier(apart.name)))
        admin.execute("DROP TABLESPACE small")


@pytest.mark.semantics("faults", "disk of the store full")
def test_postgres_says_that_its_disk_is_full(apart: World, tiny_model: Path) -> None:
    """Where no disk can be filled: a trigger raises what the server would."""
    apart.migrate()

    def fill() -> None:
        apart.store(
            """
            CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql
            AS $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
            CREATE TRIGGER full_disk BEFORE INSERT ON chunks_1 FOR EACH STATEMENT EXECUTE FUNCTION full_disk();
            """
        )

    def free() -> None:
        apart.store("DROP FUNCTION full_disk() CASCADE")

    full_and_free(apart, tiny_model, fill, free)


@pytest.mark.semantics(
    "faults", "store restored to an older point", "offsets go back with the data: goes on from there"
)
def test_a_restored_store_is_read_up_again_from_its_own_offsets(apart: World, server: Server, tiny_model: Path) -> None:
    apart.settings(batch={"max_events": 50})
    apart.migrate()
    with under_load(apart, 67):
        consumer = apart.start()
        apart.until(lambda: consumer.applied() > 50)
        server.back_up()
        count = consumer.applied()
        apart.until(lambda: consumer.applied() > count + 100)
        server.restore()
        count = consumer.applied()
        apart.until(lambda: consumer.applied() > count)
    judge(apart, tiny_model, consumer, restored=True)


@pytest.mark.semantics(
    "faults", "store restored to a point from before what the broker still has", "stops and names the command"
)
def test_a_restored_store_whose_events_have_expired_stops(apart: World, server: Server) -> None:
    apart.tables = apart.tables[:1]
    apart.create_topic()
    apart.migrate()
    apart.produce(*(change(row(number), "c") for number in range(50)))
    consumer = apart.start()
    apart.until(lambda: apart.caught_up("a"))
    server.back_up()
    apart.produce(*(change(row(number), "c") for number in range(50, 100)))
    apart.until(lambda: apart.caught_up("a"))
    apart.delete_records(75)
    server.restore()
    apart.produce(change(row(100), "c"))
    assert consumer.wait(120) == 4
    assert "offsets reset" in consumer.output()
    assert len(apart.store("SELECT 1 FROM documents")) == 50
