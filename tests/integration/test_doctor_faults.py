"""Each finding of `doctor` about a Postgres, with the fault injected into a real one, and healed by the fix it prints.

What no server here can be made to show is judged on plain data in tests/unit (a version before PostgreSQL 14, gigabytes
of WAL behind a slot, the invalidations that need hours). Findings about Kafka and Connect: test_doctor_stack.py.
"""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from consumer.operations.doctor import Finding, examine
from consumer.operations.doctor import source as source_part
from consumer.operations.doctor import store as store_part
from consumer.operations.doctor.examine import Part
from consumer.settings import Settings
from consumer.store import migrate
from tests.integration.postgres import BINARIES, Server, throwaway_server
from tests.integration.store_bench import SPACE

_numbers = itertools.count(1)
TOPIC = "shop.public.t"
TABLE = {"topic": TOPIC, "text": "{{ title }}", "metadata": ["scores"]}


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    with throwaway_server() as server:
        yield server


def execute(dsn: str, *statements: str) -> None:
    """What a person would paste into psql, a statement each."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@pytest.fixture
def dsn(postgres: Server) -> Iterator[str]:
    """A database of the test's own, as its superuser sees it."""
    name = f"d{next(_numbers)}"
    execute(postgres.dsn, f"CREATE DATABASE {name}")
    yield make_conninfo(postgres.dsn, dbname=name)
    execute(postgres.dsn, f"DROP DATABASE {name} WITH (FORCE)")


def found(look: Callable[[Settings], Iterator[Finding]], **sections: Any) -> dict[str, Finding]:
    """The findings of one part by check."""
    settings = Settings.model_validate({"tables": [TABLE], **sections})
    return {finding.check: finding for finding in examine(settings, [Part("asked", look)])}


# --- the source


def source(dsn: str, *, tables: Sequence[Mapping[str, Any]] = (TABLE,), **settings: str) -> dict[str, Finding]:
    return found(source_part.look, source={"dsn": dsn, **settings}, tables=tables)


@pytest.fixture
def shop(dsn: str) -> str:
    """A database with one table in one publication."""
    execute(
        dsn,
        "CREATE TABLE t (id int PRIMARY KEY, title text, scores real[], price numeric)",
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "CREATE PUBLICATION p FOR TABLE t",
    )
    return dsn


SAME = ""  # the fix is what is to be executed


@pytest.mark.parametrize(
    ("fault", "check", "verdict", "told", "healing"),
    [
        ("DROP TABLE t", "table", "fail", "create the table", None),
        ("ALTER PUBLICATION p DROP TABLE t", "publication of", "fail", "ALTER PUBLICATION p", SAME),
        ("DROP PUBLICATION p", "publication of", "fail", "CREATE PUBLICATION", SAME),
        (
            "DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, title text, scores real[]) PARTITION BY LIST (id)",
            *("publication of", "fail", "publish_via_partition_root", SAME),
        ),
        ("ALTER PUBLICATION p SET (publish = 'insert')", "publication of", "fail", "SET (publish", SAME),
        ("ALTER PUBLICATION p SET (publish = 'insert, update, delete')", "publication of", "warn", "truncate", SAME),
        ("ALTER PUBLICATION p SET TABLE t (id, scores)", "publication of", "fail", "DROP TABLE", SAME),
        (
            "ALTER TABLE t DROP COLUMN title; ALTER TABLE t ADD title text GENERATED ALWAYS AS (price::text) STORED",
            *("publication of", "fail", "publish_generated_columns", SAME),
        ),
        (
            "ALTER TABLE t ADD upper text GENERATED ALWAYS AS (upper(title)) STORED",
            *("publication of", "warn", "publish_generated_columns", SAME),
        ),
        ("ALTER PUBLICATION p SET TABLE t (id, title, scores)", "publication of", "warn", "DROP TABLE", SAME),
        (
            "ALTER PUBLICATION p SET TABLE t WHERE (id > 0)",
            *("publication of", "warn", "`when`", "ALTER PUBLICATION p SET TABLE t"),
        ),
        ("ALTER TABLE t REPLICA IDENTITY NOTHING", "key of", "fail", "REPLICA IDENTITY DEFAULT", SAME),
        (
            "ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t REPLICA IDENTITY DEFAULT",
            *("key of", "fail", "primary key", "ALTER TABLE t ADD PRIMARY KEY (id)"),
        ),
        (
            "ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t REPLICA IDENTITY NOTHING",
            *("key of", "fail", "REPLICA IDENTITY FULL", None),
        ),
        (
            "ALTER TABLE t DROP CONSTRAINT t_pkey",
            *("key of", "warn", "message.key.columns", "ALTER TABLE t ADD PRIMARY KEY (id)"),
        ),
        ("ALTER TABLE t DROP COLUMN title", "columns of", "fail", "add the column", "ALTER TABLE t ADD title text"),
        ("ALTER TABLE t REPLICA IDENTITY DEFAULT", "columns of", "warn", "REPLICA IDENTITY FULL", SAME),
    ],
)
def test_a_table_whose_changes_do_not_arrive_whole(
    shop: str, fault: str, check: str, verdict: str, told: str, healing: str | None
) -> None:
    check = f"{check} {TOPIC}"
    assert f"table {TOPIC}" not in source(shop)
    execute(shop, *fault.split("; "))
    finding = source(shop)[check]
    assert (finding.verdict, told in finding.fix) == (verdict, True), finding
    if healing is not None:
        execute(shop, *filter(None, (healing or finding.fix).split(";")))
        assert source(shop)[check].verdict == "pass"


def test_names_that_sql_must_quote(dsn: str) -> None:
    execute(dsn, 'CREATE TABLE "Order" (id int PRIMARY KEY, title text)', "CREATE PUBLICATION p")
    tables = [{"topic": "shop.public.Order", "text": "{{ title }}"}]
    execute(dsn, source(dsn, tables=tables)["publication of shop.public.Order"].fix)
    assert source(dsn, tables=tables)["publication of shop.public.Order"].verdict == "pass"


@pytest.mark.parametrize("named", ["topic", "source"])
def test_a_table_is_found_by_its_name_and_by_what_a_topic_makes_of_it(dsn: str, named: str) -> None:
    name = 'Odd "Täble" .x'
    execute(
        dsn, f"""CREATE TABLE "{name.replace('"', '""')}" (id int PRIMARY KEY, title text)""", "CREATE PUBLICATION p"
    )
    topic = "shop.public.Odd__T_ble__.x"
    entry = {"topic": topic, "text": "{{ title }}"} | ({"source": f"shop.public.{name}"} if named == "source" else {})
    check = f"publication of {entry.get('source', topic)}"
    execute(dsn, source(dsn, tables=[entry])[check].fix)
    assert source(dsn, tables=[entry])[check].verdict == "pass"


def test_what_the_settings_say_of_the_source_and_is_not_there(shop: str) -> None:
    wrong = source(shop, publication="mine")["publication"]
    assert (wrong.verdict, "CREATE PUBLICATION mine" in wrong.fix) == ("fail", True)
    assert source(shop, publication="p")[f"publication of {TOPIC}"].verdict == "pass"
    nameless = source(shop, tables=[{"topic": "changes", "text": "x"}])["table changes"]
    assert (nameless.verdict, "Set `source`" in nameless.fix) == ("skip", True)
    foreign = source("mariadb://nobody@127.0.0.1:1/none")["source"]
    assert (foreign.verdict, "docs/mariadb.md" in foreign.fix) == ("skip", True)
    unread = found(source_part.look)["source"]
    assert (unread.verdict, "source.dsn" in unread.fix) == ("skip", True)


def test_a_source_that_writes_no_logical_log(postgres: Server, dsn: str) -> None:
    execute(postgres.dsn, "ALTER SYSTEM SET wal_level = 'replica'")
    _restarted(postgres)
    wrong = source(dsn)["source"]
    assert (wrong.verdict, "replica" in wrong.what) == ("fail", True)
    execute(postgres.dsn, wrong.fix.split("; ")[0])
    _restarted(postgres)
    assert source(dsn)["source"].verdict == "pass"


def _restarted(postgres: Server) -> None:
    postgres.stop("fast")
    postgres.start()


@pytest.fixture
def logical(postgres: Server, shop: str) -> Iterator[str]:
    """The shop on a server that can have slots; none of them is left."""
    execute(postgres.dsn, "ALTER SYSTEM SET wal_level = 'logical'")
    _restarted(postgres)
    yield shop
    execute(shop, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
    execute(postgres.dsn, "ALTER SYSTEM RESET max_slot_wal_keep_size", "SELECT pg_reload_conf()")


@contextmanager
def reading(dsn: str, slot: str) -> Iterator[None]:
    """Somebody follows the slot, as the connector would."""
    command = [str(BINARIES / "pg_recvlogical"), "-d", dsn, "--slot", slot, "--start", "-f", "/dev/null"]
    process = subprocess.Popen([*command, "-o", "proto_version=1", "-o", "publication_names=p"])
    try:
        with psycopg.connect(dsn, autocommit=True) as connection:
            active = "SELECT 1 FROM pg_replication_slots WHERE slot_name = %s AND active"
            while not connection.execute(active, [slot]).fetchone():
                assert process.poll() is None
        yield
    finally:
        process.terminate()
        process.wait(30)


def test_slots_that_are_missing_or_that_nobody_reads(logical: str) -> None:
    assert "Start the connector" in _failed(source(logical)["replication slot"])
    assert "Correct source.slot" in _failed(source(logical, slot="mine")["slot mine"])
    execute(logical, "SELECT pg_create_logical_replication_slot('mine', 'pgoutput')")
    assert "Ask Connect" in _failed(source(logical)["slot mine"])
    assert "Ask Connect" in _failed(source(logical, slot="mine")["slot mine"])
    with reading(logical, "mine"):
        assert source(logical, slot="mine")["slot mine"].verdict == "pass"
        execute(logical, "SELECT pg_create_logical_replication_slot('left', 'pgoutput')")
        left = source(logical)["slot left"]
        assert left.verdict == "warn"
        execute(logical, left.fix.split("If nobody needs it: ")[1])
        assert "slot left" not in source(logical)


def test_a_slot_that_is_about_to_be_lost_and_one_that_is(postgres: Server, logical: str) -> None:
    execute(logical, "SELECT pg_create_logical_replication_slot('mine', 'pgoutput')")
    execute(postgres.dsn, "ALTER SYSTEM SET max_slot_wal_keep_size = '64MB'", "SELECT pg_reload_conf()")
    _writes(logical, segments=5)
    nearly = source(logical)["slot mine"]
    assert (nearly.verdict, "Raise max_slot_wal_keep_size" in nearly.fix) == ("fail", True), nearly
    _writes(logical, segments=4)
    unreserved = source(logical)["slot mine"]
    assert (unreserved.verdict, "the next checkpoint" in unreserved.what) == ("fail", True), unreserved
    execute(postgres.dsn, "CHECKPOINT")
    lost = source(logical)["slot mine"]
    assert (lost.verdict, "The slot is lost" in lost.what) == ("fail", True), lost
    execute(logical, lost.fix.split(";")[0])
    assert "slot mine" not in source(logical)


def _writes(dsn: str, segments: int) -> None:
    for _ in range(segments):
        execute(dsn, "SELECT pg_logical_emit_message(false, 'x', 'x')", "SELECT pg_switch_wal()")


def _failed(finding: Finding) -> str:
    assert finding.verdict == "fail", finding
    return finding.fix


# --- the store


class Roles:
    """A database with two roles whose names SQL must quote, and what doctor finds under them."""

    def __init__(self, dsn: str, schema: str) -> None:
        number = next(_numbers)
        self.dsn, self.schema, self.names = dsn, schema, (f"writer-{number}", f"migrator-{number}")
        for name in self.names:
            execute(dsn, f'CREATE ROLE "{name}" LOGIN')
        self.writer, self.migrator = (make_conninfo(dsn, user=name) for name in self.names)

    def found(self) -> dict[str, Finding]:
        store = {"dsn": self.writer, "migrator_dsn": self.migrator, "schema": self.schema}
        return found(store_part.look, store=store)

    def migrate(self) -> None:
        execute(self.dsn, "CREATE EXTENSION IF NOT EXISTS vector")
        migrate(self.migrator, self.schema, SPACE)

    def obey(self, finding: Finding) -> None:
        """Execute the statements that the fix prints."""
        statements = finding.fix.partition(": ")[2] or finding.fix
        execute(
            self.dsn, *(part for part in statements.split(";") if part.strip().startswith(("GRANT", "CREATE", "ALTER")))
        )


@pytest.fixture
def roles(dsn: str) -> Iterator[Roles]:
    made = Roles(dsn, "vectors")
    yield made
    for name in made.names:
        execute(dsn, f'DROP OWNED BY "{name}" CASCADE', f'DROP ROLE "{name}"')


@pytest.mark.parametrize("schema", ["vectors", "public", "MyVectors"])
def test_from_an_empty_database_to_a_store_by_what_doctor_prints(roles: Roles, schema: str) -> None:
    """Nothing else is done than what each fix says, in the order in which doctor tells."""
    roles.schema = schema
    first = roles.found()
    assert first["store server"].verdict == first["migrator"].verdict == first["migrations"].verdict == "fail"
    roles.obey(first["store server"])
    roles.obey(first["migrator"])
    roles.migrate()
    for _ in range(2):  # a role that may not look into the schema is told so before what it lacks in it
        if (writer := roles.found()["writer"]).verdict == "fail":
            roles.obey(writer)
    last = roles.found()
    unwell = {check: finding for check, finding in last.items() if finding.verdict != "pass"}
    assert unwell == {}
    assert {
        "store",
        "store server",
        "migrations",
        "writer",
        "migrator",
        "stored keys",
        "vector index",
        "failed documents",
    } == set(last)


@pytest.fixture
def healthy(roles: Roles) -> Roles:
    test_from_an_empty_database_to_a_store_by_what_doctor_prints(roles, roles.schema)
    return roles


@pytest.mark.parametrize(
    ("fault", "check", "verdict", "told"),
    [
        ('REVOKE SELECT ON vectors.chunks FROM "{writer}"', "writer", "fail", "GRANT SELECT ON vectors.chunks"),
        ('REVOKE SELECT ON vectors.generations FROM "{writer}"', "writer", "fail", "GRANT SELECT ON vectors.gen"),
        ('REVOKE UPDATE ON vectors.chunks_1 FROM "{writer}"', "writer", "fail", "GRANT UPDATE ON vectors.chunks_1"),
        ('REVOKE USAGE ON SCHEMA vectors FROM "{writer}"', "writer", "fail", "GRANT USAGE ON SCHEMA vectors"),
        (
            'ALTER SCHEMA vectors OWNER TO postgres; REVOKE CREATE ON SCHEMA vectors FROM "{migrator}"',
            *("migrator", "fail", "GRANT CREATE ON SCHEMA vectors"),
        ),
        ("ALTER TABLE vectors.documents OWNER TO postgres", "migrator", "fail", "GRANT postgres TO"),
        ("DELETE FROM vectors.schema_migrations", "migrations", "fail", "embed-consumer migrate"),
        ("UPDATE vectors.schema_migrations SET checksum = ''", "migrations", "fail", "the version that applied it"),
        ("DELETE FROM vectors.generations", "vector index", "fail", "embed-consumer migrate"),
    ],
)
def test_a_store_that_somebody_has_changed(healthy: Roles, fault: str, check: str, verdict: str, told: str) -> None:
    writer, migrator = healthy.names
    execute(healthy.dsn, *fault.format(writer=writer, migrator=migrator).split("; "))
    finding = healthy.found()[check]
    assert (finding.verdict, told in finding.fix) == (verdict, True), finding
    if "GRANT" in finding.fix:
        execute(healthy.dsn, "GRANT" + finding.fix.split("GRANT", 1)[1].split(";")[0])
        assert healthy.found()[check].verdict == "pass"


@pytest.mark.parametrize(
    ("dsn", "told"), [("user=nobody-here", "Correct"), ("dbname=nothing", "Correct"), ("port=1", "Start it")]
)
def test_a_server_that_refuses_or_is_away(postgres: Server, dsn: str, told: str) -> None:
    wrong = make_conninfo(postgres.dsn, **dict([dsn.split("=")]))
    for finding, setting in (
        (found(store_part.look, store={"dsn": wrong})["store"], "store.dsn"),
        (source(wrong)["source"], "source.dsn"),
    ):
        assert (finding.verdict, finding.unreachable) == ("fail", True), finding
        assert setting in finding.fix
    assert told in found(store_part.look, store={"dsn": wrong})["store"].fix


@pytest.mark.parametrize("dsn", ["nonsense", "host=h password=canary nonsense"])
def test_a_dsn_that_cannot_be_read(dsn: str) -> None:
    for finding in (found(store_part.look, store={"dsn": dsn})["store"], source(dsn)["source"]):
        assert (finding.verdict, "postgresql://" in finding.fix, "canary" in str(finding)) == ("fail", True, False)


def test_documents_that_failed(healthy: Roles) -> None:
    insert = (
        "INSERT INTO vectors.failed_documents (source, key_hash, kafka_topic, kafka_partition, kafka_offset,"
        " stage, error_type, error, state, next_attempt_at)"
        " VALUES ('s', decode(repeat('{0}', 16), 'hex'), 't', 0, 1, 'embed', 'x', 'x', '{1}', {2})"
    )
    execute(healthy.dsn, insert.format("01", "retrying", "now()"))
    waiting = healthy.found()["failed documents"]
    assert (waiting.verdict, "failed list" in waiting.fix) == ("warn", True)
    execute(healthy.dsn, insert.format("02", "dead", "NULL"))
    dead = healthy.found()["failed documents"]
    assert (dead.verdict, "failed retry --all" in dead.fix) == ("fail", True)


def test_a_database_that_takes_no_writes(healthy: Roles) -> None:
    with psycopg.connect(healthy.dsn) as admin:
        name = sql.Identifier(admin.info.dbname)
        admin.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
    refused = healthy.found()["store server"]
    assert (refused.verdict, "read-only" in refused.what) == ("fail", True), refused
    execute(healthy.dsn, *refused.fix.split(": ")[1].split("; ")[:2])  # in a session that is read-only itself
    assert healthy.found()["store server"].verdict == "pass"


def test_a_database_that_cannot_hold_every_text(postgres: Server, roles: Roles) -> None:
    name = f"ascii{next(_numbers)}"
    execute(postgres.dsn, f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0")
    roles.writer, roles.migrator = (make_conninfo(dsn, dbname=name) for dsn in (roles.writer, roles.migrator))
    wrong = roles.found()["store server"]
    assert (wrong.verdict, "Create it with UTF8" in wrong.fix) == ("fail", True)
    execute(postgres.dsn, f"DROP DATABASE {name} WITH (FORCE)")


def test_a_vector_index_whose_build_was_broken_off(healthy: Roles) -> None:
    execute(healthy.dsn, "CREATE INDEX chunks_1_hnsw ON vectors.chunks_1 USING hnsw (embedding vector_cosine_ops)")
    assert healthy.found()["vector index"].verdict == "pass"
    execute(healthy.dsn, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'vectors.chunks_1_hnsw'::regclass")
    broken = healthy.found()["vector index"]
    assert (broken.verdict, "Start the consumer" in broken.fix) == ("fail", True)
