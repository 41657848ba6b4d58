"""The source database itself, read beside the stream: replication slots, publications, tables, its clock.

Nothing of this is on a row's way to its vector: `doctor` asks it, and the metric of what the slots hold back. Every
answer comes within seconds or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict

from consumer.errors import Exit, Fault, Retry, Stop

# A standby has no current position, only what it has replayed (logical slots on standbys: PostgreSQL 16).
# `invalidation_reason` came with version 17: by to_jsonb it is NULL where there is no such column.
_SLOTS = """
SELECT slot_name, active, wal_status,
       pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END,
                       restart_lsn)::bigint,
       safe_wal_size, to_jsonb(s) ->> 'invalidation_reason'
FROM pg_replication_slots AS s
WHERE slot_type = 'logical' AND database = current_database() AND NOT temporary
ORDER BY slot_name
"""
_SERVER = """
SELECT current_setting('server_version_num')::int, current_setting('wal_level'), current_database()::text,
       (SELECT setting::bigint FROM pg_settings WHERE name = 'max_slot_wal_keep_size')
"""
# The connector writes `_` for what a topic's name cannot hold.
_TABLES = """
SELECT w.schema, w.name, c.oid, n.nspname, c.relname, format('%%I.%%I', n.nspname, c.relname), c.relkind = 'p',
       c.relreplident,
       EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary)
FROM unnest(%s::text[], %s::text[]) AS w (schema, name)
JOIN pg_namespace AS n ON n.nspname = w.schema OR regexp_replace(n.nspname, '[^A-Za-z0-9._-]', '_', 'g') = w.schema
JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'p')
                  AND (c.relname = w.name OR regexp_replace(c.relname, '[^A-Za-z0-9._-]', '_', 'g') = w.name)
ORDER BY n.nspname = w.schema AND c.relname = w.name
"""
# Of an array its element, of a domain what it is made from.
_COLUMNS = """
SELECT a.attrelid, a.attname, format_type(a.atttypid, a.atttypmod), coalesce(e.typname, t.typname),
       coalesce(e.typtype, t.typtype)::text, e.oid IS NOT NULL, a.attstorage <> 'p', a.attgenerated <> ''
FROM pg_attribute AS a
JOIN pg_type AS d ON d.oid = a.atttypid
JOIN pg_type AS t ON t.oid = coalesce(nullif(d.typbasetype, 0), d.oid)
LEFT JOIN pg_type AS e ON e.typarray = t.oid
WHERE a.attrelid = ANY(%s) AND a.attnum > 0 AND NOT a.attisdropped
"""
# Column lists and row filters came with version 15.
_PUBLISHED = """
SELECT t.schemaname, t.tablename, p.pubname, p.pubinsert AND p.pubupdate AND p.pubdelete, p.pubtruncate,
       ARRAY(SELECT jsonb_array_elements_text(to_jsonb(t) -> 'attnames')), to_jsonb(t) ? 'attnames',
       to_jsonb(t) ->> 'rowfilter' IS NOT NULL
FROM pg_publication_tables AS t
JOIN pg_publication AS p USING (pubname)
WHERE (t.schemaname, t.tablename) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
ORDER BY p.pubname
"""
_CLOCK = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"


class SourceServer(NamedTuple):
    """`keep_mib`: max_slot_wal_keep_size in MiB, -1 without bound, None where the server does not know it."""

    version: int
    wal_level: str
    database: str
    keep_mib: int | None


class Slot(NamedTuple):
    """A logical replication slot of the database: bytes of WAL it holds back, and how many more it may."""

    name: str
    active: bool
    wal_status: str | None
    retained_bytes: int | None
    safe_bytes: int | None
    invalidation: str | None


class Column(NamedTuple):
    """`base` and `kind` are pg_type's typname and typtype, of an array's element; `large`: TOAST can take it."""

    type: str
    base: str
    kind: str
    array: bool
    large: bool
    generated: bool = False


class Published(NamedTuple):
    """A publication that has the table. `columns` None: the server has no column lists."""

    name: str
    changes: bool  # inserts, updates and deletes
    truncates: bool
    columns: frozenset[str] | None
    filtered: bool


@dataclass(frozen=True)
class SourceTable:
    """One table as the source has it: `name` with its schema as SQL writes it, `identity` pg_class.relreplident (d, n,
    f or i)."""

    name: str
    partitioned: bool
    identity: str
    primary_key: bool
    columns: dict[str, Column]
    published: tuple[Published, ...]


class SourceDatabase:
    """One connection; a context manager that connects when entered. Raises Retry where it does not answer, or Stop."""

    def __init__(self, dsn: str, *, answer_within: float = 5.0) -> None:
        self._dsn, self._answer_within = dsn, answer_within
        self.where = _where(dsn)
        self._connection: psycopg.Connection[Any] | None = None

    def __enter__(self) -> Self:
        with self._translated():
            self._connection = psycopg.connect(
                self._dsn,
                autocommit=True,
                connect_timeout=max(2, int(self._answer_within)),
                tcp_user_timeout=int(self._answer_within * 1000),
                application_name="embed-consumer",
                options=f"-c statement_timeout={int(self._answer_within * 1000)} -c default_transaction_read_only=on",
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()

    def server(self) -> SourceServer:
        """Version and the settings that replication depends on."""
        return SourceServer(*self._rows(_SERVER)[0])

    def clock_us(self) -> int:
        """The server's clock, microseconds since 1970."""
        return int(self._rows(_CLOCK)[0][0])

    def slots(self) -> list[Slot]:
        """The logical slots of this database, by name. Every role may see them."""
        return [Slot(*row) for row in self._rows(_SLOTS)]

    def publications(self) -> list[str]:
        """The names of all publications."""
        return [name for (name,) in self._rows("SELECT pubname FROM pg_publication ORDER BY pubname")]

    def tables(self, wanted: Sequence[tuple[str, str]]) -> dict[tuple[str, str], SourceTable]:
        """The tables that exist, by (schema, table) as they are called, or else as in a topic's name."""
        found = self._rows(_TABLES, [[schema for schema, _ in wanted], [name for _, name in wanted]])
        columns: dict[int, dict[str, Column]] = {row[2]: {} for row in found}
        for oid, name, *column in self._rows(_COLUMNS, [list(columns)]):
            columns[oid][name] = Column(*column)
        published: dict[tuple[str, str], list[Published]] = {}
        names = [[row[3] for row in found], [row[4] for row in found]]
        for schema, name, publication, changes, truncates, listed, known, filtered in self._rows(_PUBLISHED, names):
            which = Published(publication, changes, truncates, frozenset(listed) if known else None, filtered)
            published.setdefault((schema, name), []).append(which)
        return {
            (schema, name): SourceTable(
                written, parts, identity, key, columns[oid], tuple(published.get((real, table), ()))
            )
            for schema, name, oid, real, table, written, parts, identity, key in found
        }

    def _rows(self, statement: str, values: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        if self._connection is None:
            raise RuntimeError("not entered")
        with self._translated():
            return self._connection.execute(statement.encode(), values).fetchall()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise _fault(error, self.where) from None


def is_foreign(dsn: str) -> bool:
    """Whether the DSN is one of MySQL or MariaDB, which nothing here can ask."""
    return dsn.startswith(("mysql", "mariadb"))


def _where(dsn: str) -> str:
    """host:port/database, safe to print. Stop where the DSN cannot be read; it is not repeated."""
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        raise Stop(
            "source.dsn is no Postgres connection string.",
            "It could not be read.",
            "Write postgresql://user@host:port/database, or leave it out.",
            exit_code=Exit.USAGE,
        ) from None
    host = parts.get("host") or parts.get("hostaddr") or "localhost"
    return f"{host}:{parts.get('port') or 5432}/{parts.get('dbname') or parts.get('user') or ''}"


def _fault(error: psycopg.Error, where: str) -> Fault:
    """Never the server's own words: they may carry values."""
    if error.sqlstate in (None, "57014") or error.sqlstate.startswith(("08", "57P", "53")):
        return Retry(
            f"The source database at {where} does not answer, or refuses the login.",
            "The connection failed, was lost, or an answer took too long.",
            "Start it, or correct source.dsn (EMBEDDING_SOURCE__DSN).",
        )
    return Stop(
        f"The source database at {where} refuses a question (SQLSTATE {error.sqlstate}).",
        "The role may not ask it, or the server is older than PostgreSQL 14.",
        "Use a role that may connect and read the catalogs.",
    )
