"""Every psycopg error as one of ours. Server DETAIL, CONTEXT and messages carry row values: only SQLSTATE gets out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import psycopg

from consumer.errors import Exit, Fault, Retry, Stop


class TooSlow(Retry):
    """A statement ran into its timeout: the same work may succeed with a smaller batch or a quieter database."""


class DataFault(Fault):
    """The database refused a value of this plan and always will. `sqlstate` may be empty (refused by the driver)."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(f"Postgres refused a value (SQLSTATE {sqlstate or 'none'}).")
        self.sqlstate = sqlstate


class Phase(IntEnum):
    """What was being done: decides what a refused value means and how an error without SQLSTATE reads."""

    READ = 0
    WRITE = 1
    MIGRATE = 2


# The same transaction can succeed later. 0A000: a cached plan outlived a migration. 26000: a pooler lost a statement.
_PATIENCE = re.compile(r"40001|40P01|55P03|55006|57P0[1-5]|08...|53...|58...|25P03|25006|26000|0A000")
_REASONS = {
    "25006": "it is read-only, as a standby is",
    "53100": "its disk is full",
    "53200": "it is out of memory",
    "53300": "it has no connection left",
    "55P03": "another session holds a lock",
    "57P": "it is starting or ending",
    "58": "it cannot use its files",
    "08": "the connection is lost",
}
_TOO_SLOW = ("57014", "25P04")  # statement_timeout, transaction_timeout
_DATA = re.compile(r"2[123]...|54...")
_NOT_ALLOWED = re.compile(r"28...|3D...")
_NOT_MIGRATED = re.compile(r"42P01|42703|42883|42704|3F...")
# A refused connection has no SQLSTATE in libpq; these are the server's words, followed by nothing of the message.
_REFUSED = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|role .* does not exist|"
    r"database .* does not exist|permission denied for database|is not permitted to log in",
    re.DOTALL,
)
# Where sslmode asks for more than the server gives, libpq ends the attempt; it never goes on without.
_UNTRUSTED = re.compile(
    r"certificate verify failed|does not match host name|does not support SSL|root certificate file"
)


@contextmanager
def translated(where: str, phase: Phase = Phase.READ) -> Iterator[None]:
    """Turn every psycopg error inside into Retry, TooSlow, DataFault or Stop. `where` is host:port/database."""
    try:
        yield
    except psycopg.Error as error:
        raise fault_of(error, where, phase) from None


def fault_of(error: psycopg.Error, where: str, phase: Phase) -> Fault:
    """The fault that says what the caller must decide about this error."""
    state = error.sqlstate or ""
    if state in _TOO_SLOW:
        return TooSlow(
            f"Postgres at {where} took too long (SQLSTATE {state}).",
            "The work was cancelled.",
            "Run the command again when the database is quieter.",
        )
    if not state and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return _unreachable(error, where, phase)
    if _PATIENCE.fullmatch(state):
        return Retry(
            f"Postgres at {where} asked for patience: {_reason(state)} (SQLSTATE {state}).",
            "The same work may succeed later.",
            "Run the command again in a while.",
        )
    if phase is Phase.WRITE and (_DATA.fullmatch(state) or isinstance(error, psycopg.DataError)):
        return DataFault(state)
    return _stop(state or type(error).__name__, where, phase)


def leaves_open(error: psycopg.Error) -> bool:
    """Whether a COMMIT may have happened: the connection or the server went away before it answered."""
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))


def _reason(state: str) -> str:
    """What keeps the server from it, as far as one would act on it."""
    return next((reason for begin, reason in _REASONS.items() if state.startswith(begin)), "it is busy")


def _unreachable(error: psycopg.Error, where: str, phase: Phase) -> Fault:
    if _REFUSED.search(str(error)):
        return _refused_login(where, phase)
    if _UNTRUSTED.search(str(error)):
        return Retry(
            f"Postgres at {where} is not trusted.",
            "It offers no TLS, or a certificate of another authority or name than sslmode and sslrootcert ask for.",
            f"Correct the server's certificate, or {_setting(phase)}.",
        )
    return Retry(
        f"Postgres at {where} is not reachable.",
        "The connection failed or was lost.",
        f"Start it, or correct {_setting(phase)}.",
    )


def _refused_login(where: str, phase: Phase) -> Stop:
    return Stop(
        f"Postgres at {where} refuses the login.",
        "User, password, database or pg_hba.conf does not match.",
        f"Correct {_setting(phase)}.",
        exit_code=Exit.UNREACHABLE,
    )


def _setting(phase: Phase) -> str:
    """The setting that says where to connect and as whom."""
    if phase is Phase.MIGRATE:
        return "store.migrator_dsn (EMBEDDING_STORE__MIGRATOR_DSN; by default store.dsn)"
    return "store.dsn (EMBEDDING_STORE__DSN)"


def _stop(state: str, where: str, phase: Phase) -> Stop:
    if _NOT_ALLOWED.fullmatch(state):
        return _refused_login(where, phase)
    if state == "42501":
        whose = "store.migrator_dsn (by default store.dsn)" if phase is Phase.MIGRATE else "store.dsn"
        return Stop(
            f"Postgres at {where} denies a privilege (SQLSTATE 42501).",
            f"The role of {whose} may not do this.",
            "Grant what it lacks: `embed-consumer doctor` prints the statement, ops/postgres has them all.",
        )
    if state == "42P07" and phase is Phase.MIGRATE:
        return Stop(
            f"Postgres at {where} has a table of that name in the schema already (SQLSTATE 42P07).",
            "The schema is another program's, which owns it.",
            "Set store.schema (EMBEDDING_STORE__SCHEMA) to a schema of its own.",
        )
    if _NOT_MIGRATED.fullmatch(state):
        return Stop(
            f"Postgres at {where} lacks a table or column (SQLSTATE {state}).",
            "The schema is not migrated.",
            "Run `embed-consumer migrate`.",
        )
    return Stop(
        f"Postgres at {where} refuses the work (SQLSTATE {state}).",
        "This is not known to pass by waiting.",
        "Look up the SQLSTATE in the server's log.",
    )
