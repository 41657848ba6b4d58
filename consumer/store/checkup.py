"""What `doctor` asks the vector database: facts under one role, without judging them. Changes nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NamedTuple, Self

import psycopg

from consumer.store import keys, migrations
from consumer.store.faults import Phase, translated
from consumer.store.model import KeyChange
from consumer.store.session import connect, target

_WRITTEN = ("SELECT", "INSERT", "UPDATE", "DELETE")
_READ = ("generations", "segments", "schema_migrations", "chunks")

_RIGHTS = """
SELECT quote_ident(current_user), quote_ident(w.schema), quote_ident(current_database()),
       quote_ident(pg_get_userbyid(n.nspowner)), coalesce(has_schema_privilege(n.oid, 'USAGE'), false),
       CASE WHEN n.oid IS NULL THEN has_database_privilege(current_database(), 'CREATE')
            ELSE has_schema_privilege(n.oid, 'CREATE') END
FROM (SELECT %s::text) AS w (schema)
LEFT JOIN pg_namespace AS n ON n.nspname = w.schema
"""
_LACKING = r"""
SELECT c.relname, p.name
FROM pg_class AS c
CROSS JOIN unnest(%(privileges)s::text[]) AS p (name)
WHERE c.relnamespace = to_regnamespace(quote_ident(%(schema)s)) AND c.relkind IN ('r', 'p', 'v')
  AND (c.relname = ANY(%(written)s) OR c.relname ~ '^chunks_\d+$' OR (c.relname = ANY(%(read)s) AND p.name = 'SELECT'))
  AND NOT has_table_privilege(c.oid, p.name)
ORDER BY c.relname, p.name
"""
# To own, or to be allowed to become the owner by SET ROLE: before PostgreSQL 16 every member may.
_FOREIGN = r"""
SELECT c.relname, quote_ident(pg_get_userbyid(c.relowner))
FROM pg_class AS c
WHERE c.relnamespace = to_regnamespace(quote_ident(%s)) AND c.relkind IN ('r', 'p')
  AND (c.relname = ANY(%s) OR c.relname ~ '^chunks_\d+$')
  AND NOT pg_has_role(c.relowner, CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER'
                                       ELSE 'SET' END)
ORDER BY c.relname
"""
_KEY_CHANGES = "SELECT source, key_columns, next_key_columns FROM tables WHERE next_key_columns IS NOT NULL ORDER BY 1"
_REFUSES = """
SELECT CASE WHEN pg_is_in_recovery() THEN 'standby'
            WHEN current_setting('transaction_read_only')::bool THEN quote_ident(current_database()) ELSE '' END
"""
_CLOCK = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"


class Server(NamedTuple):
    """`version` as in server_version_num; `pgvector` is what the database has, `offered` what the server could give.

    `refuses` says what takes no writes: "" nothing, "standby" the server, or the database's name as SQL writes it.
    """

    version: int
    encoding: str
    pgvector: str | None
    offered: str | None
    refuses: str = ""


class Rights(NamedTuple):
    """A role and the schema. Names are as SQL writes them; `owner` None: there is no such schema. `create`: the role
    may create in the schema, or the schema itself where there is none."""

    role: str
    schema: str
    database: str
    owner: str | None
    usage: bool
    create: bool


class Checkup:
    """One connection of one role, each answer within seconds; a context manager that connects when entered.

    `phase` is WRITE for the writer's DSN, MIGRATE for the migrator's. Raises Retry or Stop as `Store` does.
    """

    def __init__(self, dsn: str, schema: str, phase: Phase, *, answer_within: float = 5.0) -> None:
        self._target, self._phase, self._answer_within = target(dsn, schema), phase, answer_within
        self._connection: psycopg.Connection[Any] | None = None

    @property
    def where(self) -> str:
        """host:port/database, safe to print."""
        return self._target.where

    def __enter__(self) -> Self:
        with self._session():
            return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()

    def server(self) -> Server:
        """Versions, encoding, and whether it takes writes."""
        with self._session() as connection:
            version, encoding, installed, _, offered = migrations.server(connection)
            (refuses,) = connection.execute(_REFUSES).fetchone() or ("",)
            return Server(version, encoding, installed, offered, refuses)

    def clock_us(self) -> int:
        """The server's clock, microseconds since 1970."""
        with self._session() as connection:
            row = connection.execute(_CLOCK).fetchone() or (0,)
            return int(row[0])

    def rights(self) -> Rights:
        """What the role may do with the schema itself."""
        with self._session() as connection:
            (row,) = connection.execute(_RIGHTS, [self._target.schema]).fetchall()
            return Rights(*row)

    def unapplied(self) -> list[str] | None:
        """Migrations of this version that are not applied; None where none ever was."""
        with self._session() as connection:
            return migrations.unapplied(connection, self._target.schema)

    def lacking(self) -> dict[str, list[str]]:
        """Table -> privileges that a writer needs and this role lacks."""
        asked = {
            "schema": self._target.schema,
            "privileges": list(_WRITTEN),
            "written": list(migrations.WRITABLE),
            "read": list(_READ),
        }
        found: dict[str, list[str]] = defaultdict(list)
        with self._session() as connection:
            for table, privilege in connection.execute(_LACKING, asked):
                found[table].append(privilege)
        return dict(found)

    def foreign(self) -> dict[str, str]:
        """Our table -> its owner as SQL writes it, of those that this role neither owns nor may own by SET ROLE."""
        ours = [*migrations.WRITABLE, *_READ]
        with self._session() as connection:
            return dict(connection.execute(_FOREIGN, [self._target.schema, ours]).fetchall())

    def holds_chunks(self) -> bool:
        """Whether there is anything to search."""
        with self._session() as connection:
            return connection.execute("SELECT EXISTS (SELECT FROM chunks)").fetchone() == (True,)

    def key_changes(self) -> dict[str, KeyChange]:
        """Source -> the change of its key under which its events fail; how many documents would end is not counted."""
        with self._session() as connection:
            return {source: keys.described(old, new) for source, old, new in connection.execute(_KEY_CHANGES)}

    @contextmanager
    def _session(self) -> Iterator[psycopg.Connection[Any]]:
        with translated(self._target.where, self._phase):
            if self._connection is None or self._connection.closed:
                self._connection = connect(self._target, self._answer_within)
            yield self._connection
