"""A connection that gives up in time, notices a dead peer, and sees only the product's schema."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from consumer.errors import Exit, Stop
from consumer.store import packing

# Both ends notice a peer that vanished: the client by these, the server by the settings below.
_CLIENT: dict[str, Any] = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "application_name": "embed-consumer",
}

# Seconds a client may pause inside a transaction: one that hangs there keeps rows locked that its successor waits for.
_LONGEST_PAUSE = 15.0
# Seconds a whole transaction may take, where the server can tell; a batch that needs longer is halved.
_LONGEST_TRANSACTION = 30.0

# How much longer than the server itself the client waits for its answer. A server or pooler that hangs ends no
# statement in time, and where the network is well no keepalive tells.
_GRACE = 5.0

# Tables are named without a schema everywhere else: the path holds ours and the extension's, nothing else.
# A client that freezes between two messages of a pipeline is neither idle nor in a statement: only transaction_timeout
# (PostgreSQL 17 and later) ends its transaction and frees the offset rows that its successor waits for.
# Joins are look-ups by key, always: a hash join over a million rows because a statistic is missing would be a stall.
_SETTINGS = """
SELECT set_config('search_path', quote_ident(%(schema)s) || coalesce(', ' || quote_ident(n.nspname), ''), false),
       set_config('statement_timeout', %(timeout)s, false),
       set_config('lock_timeout', %(lock)s, false),
       set_config('idle_in_transaction_session_timeout', %(idle)s, false),
       CASE WHEN current_setting('transaction_timeout', true) IS NOT NULL
            THEN set_config('transaction_timeout', %(transaction)s, false) END,
       set_config('client_connection_check_interval', '5s', false),
       set_config('tcp_keepalives_idle', '10', false),
       set_config('tcp_keepalives_interval', '5', false),
       set_config('tcp_keepalives_count', '3', false),
       set_config('timezone', 'UTC', false),
       set_config('jit', 'off', false),
       set_config('enable_hashjoin', 'off', false),
       set_config('enable_mergejoin', 'off', false)
FROM (SELECT) AS one
LEFT JOIN pg_extension AS e ON e.extname = 'vector'
LEFT JOIN pg_namespace AS n ON n.oid = e.extnamespace
"""


@dataclass(frozen=True)
class Target:
    """Where the store is. `where` is safe to print: host, port and database, never user or password."""

    dsn: str
    schema: str
    where: str


def target(dsn: str, schema: str) -> Target:
    """Read the DSN once; one that cannot be read is a `Stop` that does not repeat it."""
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        raise Stop(
            "store.dsn is no Postgres connection string.",
            "It could not be read.",
            "Write postgresql://user@host:port/database.",
            exit_code=Exit.USAGE,
        ) from None
    if not schema or "\x00" in schema or len(schema.encode()) > 63:
        raise Stop("store.schema is no schema name.", "", "Use 1 to 63 letters, digits and _.", exit_code=Exit.USAGE)
    host = parts.get("host") or parts.get("hostaddr") or "localhost"
    where = f"{host}:{parts.get('port') or 5432}/{parts.get('dbname') or parts.get('user') or ''}"
    return Target(dsn, schema, where)


class Session(psycopg.Connection[Any]):
    """A connection on which no wait for the server is endless, unless it is to be: `hurried` false."""

    answer_within = 0.0
    hurried = True

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Every exchange with the server goes through here. No answer in time: closed, for what it does is unknown."""
        if timeout is None and self.hurried and self.answer_within:
            timeout = self.answer_within + _GRACE
        try:
            return super().wait(gen, interval, timeout)
        except psycopg.OperationalError as error:
            if not error.sqlstate:
                self.pgconn.finish()
            raise


def connect(where: Target, answer_within: float) -> Session:
    """Open a connection in autocommit mode; transactions are written out where they are used.

    `answer_within` seconds bound the attempt and each statement; 0: statements may take as long as they want.
    """
    idle = min(answer_within, _LONGEST_PAUSE) or _LONGEST_PAUSE
    connection = Session.connect(
        where.dsn,
        autocommit=True,
        prepare_threshold=1,
        connect_timeout=max(2, min(10, int(answer_within))) if answer_within else 10,
        **_CLIENT,
    )
    connection.answer_within = answer_within
    try:
        packing.register(connection)
        # Waiting for a lock ends first: it tells another story than work that is too much for one statement or
        # transaction, and the end of a transaction's time is the end of its connection.
        whole = min(answer_within, _LONGEST_TRANSACTION)
        seconds = {"timeout": answer_within, "lock": 0.8 * whole, "idle": idle, "transaction": whole}
        milliseconds = {name: f"{int(value * 1000)}ms" for name, value in seconds.items()}
        connection.execute(_SETTINGS, {"schema": where.schema, **milliseconds})
    except BaseException:
        connection.close()
        raise
    return connection
