"""Numbered SQL, applied once each, in order, by one process at a time. Printing and applying share one list."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from psycopg import Connection, sql

from consumer.errors import Stop
from consumer.store import generations
from consumer.store.faults import Phase, translated
from consumer.store.model import Step, VectorSpace
from consumer.store.session import connect, target
from consumer.store.truncates import lock_key

OLDEST_SERVER = 140000
OLDEST_PGVECTOR = (0, 8, 4)  # before: vacuum could corrupt an HNSW index
_FILE = re.compile(r"(\d{4})_(\w+)\.sql")

_SERVER = """
SELECT current_setting('server_version_num')::int, pg_encoding_to_char(d.encoding), e.extversion, n.nspname,
       a.default_version
FROM pg_database AS d
LEFT JOIN pg_extension AS e ON e.extname = 'vector'
LEFT JOIN pg_namespace AS n ON n.oid = e.extnamespace
LEFT JOIN pg_available_extensions AS a ON a.name = 'vector'
WHERE d.datname = current_database()
"""

_EXISTS = """
SELECT to_regnamespace(quote_ident(%(schema)s)) IS NOT NULL,
       to_regclass(format('%%I.schema_migrations', %(schema)s::text)) IS NOT NULL
"""

_APPLIED = "SELECT version, checksum FROM schema_migrations"

_HISTORY = """\
CREATE TABLE schema_migrations (
    version    integer PRIMARY KEY,
    name       text        NOT NULL,
    checksum   bytea       NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
"""

_RECORD = sql.SQL("INSERT INTO schema_migrations (version, name, checksum) VALUES ({}, {}, {}::bytea);\n")

# Tables whose rows the writer changes, and those it only reads.
WRITABLE = ("documents", "offsets", "heartbeats", "tables", "moves", "failed_documents")
_PRIVILEGES = """
SELECT c.relname FROM pg_class AS c
WHERE c.relnamespace = to_regnamespace(quote_ident(%s)) AND c.relname = ANY(%s)
  AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
           AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'))
ORDER BY c.relname LIMIT 1
"""


@dataclass(frozen=True)
class Migration:
    """One file of `migrations/`."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> bytes:
        """SHA-256 of the text; an applied migration may not change."""
        return hashlib.sha256(self.text.encode()).digest()


def migrate(dsn: str, schema: str, space: VectorSpace | None = None) -> list[Step]:
    """Apply what is missing, each step in its own transaction; what was applied. `dsn` is the migrator's.

    With `space`, the first generation is made if there is none; if there is one of another configuration: `Stop`.
    Safe to run twice and from two processes: the second waits for the first.
    """
    where = target(dsn, schema)
    with translated(where.where, Phase.MIGRATE), connect(where, 0) as connection:
        connection.execute("SELECT pg_advisory_lock(%s::bigint)", [lock_key(schema, "migrations")])
        # A table that is busy is not worth a queue behind our lock: give up, the caller tries again.
        connection.execute("SET lock_timeout = '10s'")
        steps = _missing(connection, schema, space)
        for step in steps:
            connection.execute(step.sql.encode(), prepare=False)
        return steps


def pending(dsn: str, schema: str, space: VectorSpace | None = None) -> list[Step]:
    """What `migrate` would do, exactly; changes nothing."""
    where = target(dsn, schema)
    with translated(where.where, Phase.MIGRATE), connect(where, 60) as connection:
        return _missing(connection, schema, space)


def verify(connection: Connection[Any], schema: str) -> None:
    """`Stop` unless this process can work here: server, extension, every migration, the writer's privileges."""
    _vector_schema(connection)
    _, has_history = _exists(connection, schema)
    if not has_history or _unapplied(connection):
        raise Stop(
            f"The schema {schema} is not migrated.",
            "Tables this version needs are missing.",
            "Run `embed-consumer migrate`.",
        )
    row = connection.execute(_PRIVILEGES, [schema, list(WRITABLE)]).fetchone()
    if row:
        raise Stop(
            f"The role may not write to {row[0]}.",
            "It needs SELECT, INSERT, UPDATE and DELETE.",
            "Grant them as ops/postgres does, or correct store.dsn.",
        )


def unapplied(connection: Connection[Any], schema: str) -> list[str] | None:
    """Names of shipped migrations that are not applied; None where none ever was. Stop where one was altered."""
    if not _exists(connection, schema)[1]:
        return None
    return [f"{migration.version:04}_{migration.name}" for migration in _unapplied(connection)]


def _missing(connection: Connection[Any], schema: str, space: VectorSpace | None) -> list[Step]:
    vector_schema = _vector_schema(connection, installable=True)
    has_schema, has_history = _exists(connection, schema)
    name = sql.Identifier(schema)
    steps = []
    if not has_schema:
        steps.append(Step("schema", sql.SQL("CREATE SCHEMA IF NOT EXISTS {};\n").format(name).as_string(connection)))
    if vector_schema is None:
        vector_schema = "public"
        steps.append(Step("extension", "CREATE EXTENSION IF NOT EXISTS vector SCHEMA public;\n"))
    path = sql.SQL("SET LOCAL search_path TO {}, {};\n").format(name, sql.Identifier(vector_schema))
    bodies: list[tuple[str, sql.Composable]] = [] if has_history else [("history", sql.SQL(_HISTORY))]
    wanting = _unapplied(connection) if has_history else shipped()
    bodies += [(f"{m.version:04}_{m.name}", _recorded(m)) for m in wanting]
    live = None
    if has_history and not _lacks(wanting, "tables"):
        live = generations.live(connection, in_segments=not _lacks(wanting, "segments"))
    if space is not None and live is not None:
        generations.require_same(connection, live, space)
    elif space is not None:
        bodies.append(("generation 1", generations.first_generation(space)))
    return steps + [
        Step(title, sql.Composed([sql.SQL("BEGIN;\n"), path, body, sql.SQL("COMMIT;\n")]).as_string(connection))
        for title, body in bodies
    ]


def _lacks(wanting: list[Migration], name: str) -> bool:
    return any(migration.name == name for migration in wanting)


def _recorded(migration: Migration) -> sql.Composed:
    checksum = "\\x" + migration.checksum.hex()
    record = _RECORD.format(sql.Literal(migration.version), sql.Literal(migration.name), sql.Literal(checksum))
    return sql.SQL(migration.text) + record


def _unapplied(connection: Connection[Any]) -> list[Migration]:
    """Shipped migrations that are not applied. Applied ones that are not shipped came with a newer version: fine."""
    applied = {version: bytes(checksum) for version, checksum in connection.execute(_APPLIED)}
    for migration in shipped():
        if migration.version in applied and applied[migration.version] != migration.checksum:
            raise Stop(
                f"Migration {migration.version:04}_{migration.name} was applied in another form than this version's.",
                "Its checksum differs.",
                "Install the version that applied it, or use a new schema.",
            )
    return [migration for migration in shipped() if migration.version not in applied]


def too_old(pgvector: str) -> bool:
    """Whether this version of the extension must not serve."""
    return tuple(int(part) for part in re.findall(r"\d+", pgvector)[:3]) < OLDEST_PGVECTOR


def shipped() -> list[Migration]:
    """The migrations of this version, in order: from the wheel, or from the checkout."""
    folder: Traversable = files("consumer") / "_data" / "migrations"
    if not folder.is_dir():
        folder = Path(__file__).parents[2] / "migrations"
    found = []
    for file in folder.iterdir():
        match = _FILE.fullmatch(file.name)
        if match:
            found.append(Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    return sorted(found, key=lambda migration: migration.version)


def _exists(connection: Connection[Any], schema: str) -> tuple[bool, bool]:
    row = connection.execute(_EXISTS, {"schema": schema}).fetchone() or (False, False)
    return row[0], row[1]


def _vector_schema(connection: Connection[Any], installable: bool = False) -> str | None:
    """The extension's schema, None where it can be installed; `Stop` for a server that cannot serve."""
    version, encoding, installed, schema, available = server(connection)
    if version < OLDEST_SERVER:
        raise Stop(f"The server is PostgreSQL {version // 10000}.", "14 or newer is needed.", "Upgrade the server.")
    if encoding != "UTF8":
        raise Stop(f"The database's encoding is {encoding}.", "Text needs UTF8.", "Create the database with UTF8.")
    offered = installed or (available if installable else None)
    if offered is None:
        fix = "Install pgvector 0.8.4 or newer on the server." if available is None else "Run `embed-consumer migrate`."
        raise Stop("The extension pgvector is missing.", "Vectors are stored in its types.", fix)
    if too_old(offered):
        fix = "Install 0.8.4 or newer on the server" + (
            ", then run ALTER EXTENSION vector UPDATE." if installed else "."
        )
        raise Stop(f"pgvector is {offered}.", "Before 0.8.4, vacuum could corrupt the vector index.", fix)
    return schema if installed else None


def server(connection: Connection[Any]) -> tuple[int, str, str | None, str | None, str | None]:
    """Server version, the database's encoding; pgvector: version here, its schema, version that can be installed."""
    row: tuple[int, str, str | None, str | None, str | None] | None = connection.execute(_SERVER).fetchone()
    return row or (0, "", None, None, None)
