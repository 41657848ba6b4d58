"""Migrations: printed as they are applied, once, by one process at a time; and the roles that share the schema."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from consumer.errors import Exit, Retry, Stop
from consumer.local.versions import ROLES
from consumer.store import Applied, Store, Tender, VectorSpace, Wanted, build_index, migrate, pending
from consumer.store.truncates import lock_key
from tests.integration.postgres import BINARIES
from tests.integration.store_bench import GROUP, SPACE, TOPIC, VECTORS, chunk, other_space, plan, write
from tests.integration.store_bench import advance as advanced
from tests.integration.store_bench import key as key_of

ROOT = Path(__file__).parents[2]
SHIPPED = sorted(path.stem for path in (ROOT / "migrations").glob("*.sql"))

CATALOGUE = """
SELECT 'column' AS kind, c.relname || '.' || a.attname AS name,
       concat_ws(' ', format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attstorage, c.reloptions) AS what
FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
WHERE c.relnamespace = to_regnamespace(%(schema)s) AND a.attnum > 0
UNION ALL
SELECT 'index', indexname, replace(indexdef, schemaname || '.', '') FROM pg_indexes WHERE schemaname = %(schema)s
UNION ALL
SELECT 'constraint', conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = to_regnamespace(%(schema)s)
ORDER BY 1, 2, 3
"""


@pytest.fixture
def database(server: str, request: pytest.FixtureRequest) -> str:
    """A new, empty database."""
    name = f"db_{abs(hash(request.node.name))}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0").format(sql.Identifier(name))
        )
    return make_conninfo(server, dbname=name)


def rows(dsn: str, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(statement, parameters or None)
        return cursor.fetchall() if cursor.description else []


def psql(dsn: str, script: str, **environment: str) -> None:
    subprocess.run(
        [BINARIES / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", dsn],
        input=script, text=True, check=True, env={**os.environ, **environment}, stdout=subprocess.DEVNULL,
    )  # fmt: skip


def test_the_plan_changes_nothing_and_is_exactly_what_is_applied(server: str, database: str) -> None:
    before = rows(database, "SELECT count(*) FROM pg_class")
    steps = pending(database, "embedding", SPACE)
    assert rows(database, "SELECT count(*) FROM pg_class") == before
    assert [step.name for step in steps] == ["schema", "extension", "history", *SHIPPED, "generation 1"]
    assert migrate(database, "embedding", SPACE) == steps

    by_hand = make_conninfo(server, dbname="by_hand")
    rows(server, "CREATE DATABASE by_hand TEMPLATE template0")
    psql(by_hand, "".join(step.sql for step in steps))
    assert rows(by_hand, CATALOGUE, schema="embedding") == rows(database, CATALOGUE, schema="embedding")
    assert pending(by_hand, "embedding", SPACE) == []
    with Store(by_hand, "embedding") as store:
        assert store.live_generation(SPACE).number == 1


def test_a_second_run_finds_nothing_to_do(database: str) -> None:
    migrate(database, "embedding", SPACE)
    assert migrate(database, "embedding", SPACE) == []


def test_the_tables_can_come_before_the_model_is_known(database: str) -> None:
    migrate(database, "embedding")
    with Store(database, "embedding") as store:
        assert store.generation() is None
        with pytest.raises(Stop, match="embed-consumer migrate"):
            store.live_generation(SPACE)
    assert [step.name for step in migrate(database, "embedding", SPACE)] == ["generation 1"]


def test_processes_that_migrate_at_once_take_each_step_once(database: str) -> None:
    code = (
        "import sys; from consumer.store import migrate; from tests.integration.store_bench import SPACE\n"
        "print(*(step.name for step in migrate(sys.argv[1], 'embedding', SPACE)), sep='\\n')"
    )
    with psycopg.connect(database) as gate:  # opens when all three wait for the lock
        gate.execute("SELECT pg_advisory_xact_lock(%s::bigint)", [lock_key("embedding", "migrations")])
        started = [
            subprocess.Popen([sys.executable, "-c", code, database], stdout=subprocess.PIPE, text=True, cwd=ROOT)
            for _ in range(3)
        ]
        while len(rows(database, "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")) < 3:
            assert all(process.poll() is None for process in started)
    outputs = [process.communicate(timeout=60)[0].split("\n") for process in started]
    assert [process.returncode for process in started] == [0, 0, 0]
    taken = sorted(name for lines in outputs for name in lines if name)
    assert taken == sorted(["schema", "extension", "history", *SHIPPED, "generation 1"])


def test_a_failing_step_leaves_nothing_of_itself(database: str) -> None:
    rows(database, "CREATE SCHEMA embedding")
    rows(database, "CREATE TABLE embedding.failed_documents ()")  # the migration's last table cannot be made
    with pytest.raises(Stop):
        migrate(database, "embedding", SPACE)
    tables = "SELECT relname FROM pg_class WHERE relnamespace = 'embedding'::regnamespace AND relkind = 'r' ORDER BY 1"
    assert rows(database, tables) == [("failed_documents",), ("schema_migrations",)]
    rows(database, "DROP TABLE embedding.failed_documents")
    assert [step.name for step in migrate(database, "embedding", SPACE)] == [*SHIPPED, "generation 1"]


def test_an_applied_migration_that_changed_stops(database: str) -> None:
    migrate(database, "embedding", SPACE)
    rows(database, "UPDATE embedding.schema_migrations SET checksum = 'x' WHERE version = 1")
    for command in (migrate, pending):
        with pytest.raises(Stop, match="0001_tables was applied in another form"):
            command(database, "embedding", SPACE)


def test_a_migration_of_a_newer_version_does_not_stop_an_older_one(database: str) -> None:
    migrate(database, "embedding", SPACE)
    rows(database, "INSERT INTO embedding.schema_migrations VALUES (9999, 'later', 'x')")
    assert migrate(database, "embedding", SPACE) == []
    with Store(database, "embedding") as store:
        assert store.live_generation(SPACE).state == "live"


@pytest.mark.parametrize("schema", ['od"d; DROP SCHEMA public', "Größe", "select", "UPPER case", "per%cent"])
def test_odd_schema_names_are_quoted(database: str, schema: str) -> None:
    migrate(database, schema, SPACE)
    with Store(database, schema) as store:
        generation = store.live_generation(SPACE)
        assert isinstance(store.apply(plan(write(1, insert=(chunk("a"),))), VECTORS), Applied)
        assert len(store.search(generation, VECTORS[b"x"], 5)) == 1
        assert build_index(database, schema, generation) == store.index_status(generation)
    assert rows(database, "SELECT nspname FROM pg_namespace WHERE nspname = %(name)s", name=schema) == [(schema,)]


@pytest.mark.parametrize("schema", ["", "nul\x00", "x" * 64])
def test_impossible_schema_names_are_refused(database: str, schema: str) -> None:
    with pytest.raises(Stop) as caught:
        migrate(database, schema, SPACE)
    assert caught.value.exit_code is Exit.USAGE


def test_other_settings_than_the_stored_vectors_stop_and_name_what_differs(database: str) -> None:
    migrate(database, "embedding", SPACE)
    changed = {"model": "tiny", "revision": "r2", "prompts": {"query": "query: "}}
    other = other_space(config_hash=b"\x02" * 32, description=changed, element="halfvec")
    with Store(database, "embedding") as store, pytest.raises(Stop) as caught:
        store.live_generation(other)
    assert caught.value.exit_code is Exit.HALTED
    for part in (
        'revision ("r1" is stored, "r2" is set)',
        'prompts.query ("" is stored, "query: " is set)',
        'index.element ("vector" is stored, "halfvec" is set)',
        "Restore these settings",
    ):
        assert part in str(caught.value)
    assert "model" not in caught.value.what.replace("settings", "")
    with pytest.raises(Stop, match="differ"):
        migrate(database, "embedding", other)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (other_space(dimension=2001), "index.element: halfvec"),
        (other_space(dimension=4001), "at most 2000"),
        (other_space(dimension=4001, element="halfvec"), "at most 4000"),
    ],
)
def test_more_dimensions_than_an_index_takes_are_refused(database: str, space: VectorSpace, message: str) -> None:
    with pytest.raises(Stop, match=message):
        migrate(database, "embedding", space)


def test_a_database_of_another_encoding_is_refused(server: str) -> None:
    rows(server, "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(Stop, match="encoding is LATIN1"):
        migrate(make_conninfo(server, dbname="latin"), "embedding", SPACE)


def test_an_unmigrated_schema_names_the_command(database: str) -> None:
    with Store(database, "embedding") as store:
        with pytest.raises(Stop, match=r"pgvector is missing.*embed-consumer migrate"):
            store.live_generation(SPACE)
        rows(database, "CREATE EXTENSION vector")
        with pytest.raises(Stop, match=r"not migrated.*embed-consumer migrate"):
            store.live_generation(SPACE)
        with pytest.raises(Stop, match="embed-consumer migrate"):
            store.heartbeats()


def test_an_extension_in_a_schema_of_its_own_is_found(database: str) -> None:
    rows(database, "CREATE SCHEMA extensions")
    rows(database, "CREATE EXTENSION vector SCHEMA extensions")
    migrate(database, "embedding", SPACE)
    with Store(database, "embedding") as store:
        generation = store.live_generation(SPACE)
        store.apply(plan(write(1, insert=(chunk("a"),))), VECTORS)
        assert len(store.search(generation, VECTORS[b"x"], 5)) == 1
        assert build_index(database, "embedding", generation).state == "ready"


def test_a_login_that_is_refused_stops_and_an_absent_server_is_a_retry(server: str) -> None:
    for wrong in (make_conninfo(server, user="nobody_here", password="canary"), make_conninfo(server, dbname="none")):
        with Store(wrong, "embedding") as store, pytest.raises(Stop) as caught:
            store.heartbeats()
        assert caught.value.exit_code is Exit.UNREACHABLE
        assert "canary" not in str(caught.value)
    with (
        Store("postgresql://someone:canary@127.0.0.1:1/vectors", "embedding") as store,
        pytest.raises(Retry) as absent,
    ):
        store.heartbeats()
    assert "127.0.0.1:1/vectors" in str(absent.value)
    assert "canary" not in str(absent.value)
    with pytest.raises(Stop) as unreadable:
        Store("postgresql://someone:canary@[", "embedding")
    assert "canary" not in str(unreadable.value)


def roles_of_ops(server: str) -> dict[str, str]:
    """The DSN of each role, made as ops/postgres makes them."""
    secrets = dict.fromkeys(ROLES.values(), "secret")
    for script in ("10-roles.sql", "30-store.sql"):
        psql(server, (ROOT / "ops" / "postgres" / script).read_text(), **secrets)
    names = ("embedding_migrator", "embedder", "embedding_reader")
    return {role: make_conninfo(server, dbname="vectors", user=role) for role in names}


def test_the_roles_of_ops_have_what_they_need_and_no_more(server: str) -> None:
    as_role = roles_of_ops(server)
    migrate(as_role["embedding_migrator"], "embedding", SPACE)

    with Store(as_role["embedder"], "embedding") as writer:
        generation = writer.live_generation(SPACE)
        writer.acquire(GROUP, [Wanted(TOPIC, "topic-1", 0, 0)])
        outcome = writer.apply(
            plan(write(1, insert=(chunk("a"),)), advance=advanced(0, 2), heartbeats=(("shop", 1),)), VECTORS
        )
        assert isinstance(outcome, Applied)
        assert writer.lookup([key_of(1)])[key_of(1)].version == 1
    assert rows(as_role["embedder"], "SELECT current_user") == [("embedder",)]
    for forbidden in (
        "CREATE TABLE embedding.mine ()",
        "DROP TABLE embedding.documents",
        "TRUNCATE embedding.documents",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            rows(as_role["embedder"], forbidden)
    assert build_index(as_role["embedder"], "embedding", generation).state == "ready"

    with Store(as_role["embedding_reader"], "embedding") as reader:
        assert len(reader.search(generation, VECTORS[b"x"], 5)) == 1
        assert reader.index_status(generation).state == "ready"
    touched = "SELECT embedding FROM embedding.chunks LIMIT 1"  # the extension checks its settings when it is loaded
    with psycopg.connect(as_role["embedding_reader"]) as plain:
        plain.execute(touched)
        assert plain.execute("SHOW hnsw.iterative_scan").fetchone() == ("strict_order",)
    with Store(as_role["embedding_reader"], "embedding") as reader:
        with pytest.raises(Stop, match="denies a privilege"):
            reader.apply(plan(write(2)), VECTORS)
        with pytest.raises(Stop, match="may not write to documents"):
            reader.live_generation(SPACE)
    with pytest.raises(Stop, match=r"store\.migrator_dsn"):
        migrate(as_role["embedding_reader"], "other", SPACE)
    rows(as_role["embedding_migrator"], "DROP INDEX embedding.chunks_1_hnsw")
    with pytest.raises(Stop, match=r"store\.migrator_dsn"):
        build_index(as_role["embedding_reader"], "embedding", generation)


def test_segments_belong_to_the_owner_and_serve_every_role(server: str) -> None:
    as_role, space = roles_of_ops(server), other_space(segment_rows=2)
    migrate(as_role["embedding_migrator"], "parts", space)
    with Store(as_role["embedder"], "parts") as writer:
        generation = writer.live_generation(space)
        for number in range(1, 9, 2):
            outcome = writer.apply(plan(*(write(n, insert=(chunk(f"{n}"),)) for n in (number, number + 1))), VECTORS)
            assert isinstance(outcome, Applied)
            done: list[str] = []
            Tender(as_role["embedder"], "parts", generation).tend(done.append)
    assert done[-1] == "merged segments 1, 2, 3, 4 into 6"
    owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'parts'"
    assert rows(server_of(as_role), owners) == [("embedding_migrator",)]
    with Store(as_role["embedding_reader"], "parts") as reader:
        assert len(reader.search(generation, VECTORS[b"x"], 20)) == 8
        assert reader.index_status(generation).segments == 1
    assert len(rows(as_role["embedding_reader"], "SELECT content FROM parts.chunks")) == 8


def server_of(as_role: dict[str, str]) -> str:
    return make_conninfo(as_role["embedding_migrator"], user="postgres")


def test_a_store_from_before_segments_stays_one_plain_table(database: str) -> None:
    migrate(database, "embedding", SPACE)
    rows(
        database,
        "SET search_path TO embedding; DROP TABLE segments; DELETE FROM schema_migrations WHERE version = 5;"
        " ALTER TABLE generations DROP COLUMN segment_rows, DROP COLUMN hot_segment",
    )
    wanted = other_space(segment_rows=100)
    assert [step.name for step in migrate(database, "embedding", wanted)] == ["0005_segments"]
    with Store(database, "embedding") as store:
        assert store.live_generation(wanted).segment_rows is None
        assert isinstance(store.apply(plan(write(1, insert=(chunk("a"),))), VECTORS), Applied)
        assert len(store.search(store.live_generation(wanted), VECTORS[b"x"], 5)) == 1
