"""Database errors as faults: what the caller must decide, and nothing of the row that caused it."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from consumer.errors import Fault, Retry, Stop
from consumer.store import DataFault, TooSlow
from consumer.store.faults import Phase, fault_of, translated

WHERE = "db:5432/vectors"


def raised(sqlstate: str, phase: Phase) -> Fault:
    return fault_of(errors.lookup(sqlstate)("row (secret value) DETAIL: Key (id)=(7)"), WHERE, phase)


@pytest.mark.parametrize(
    "sqlstate",
    [
        "40001",
        "40P01",
        "55P03",
        "57P01",
        "57P02",
        "57P03",
        "08006",
        "53300",
        "53100",
        "25P03",
        "25006",
        "58030",
    ],
)
def test_what_may_pass_is_a_retry_in_every_phase(sqlstate: str) -> None:
    for phase in Phase:
        fault = raised(sqlstate, phase)
        assert type(fault) is Retry
        assert sqlstate in str(fault)


@pytest.mark.parametrize("sqlstate", ["57014", "25P04"])
def test_what_ran_out_of_time_is_too_slow_and_still_a_retry(sqlstate: str) -> None:
    fault = raised(sqlstate, Phase.WRITE)
    assert isinstance(fault, TooSlow)
    assert isinstance(fault, Retry)


@pytest.mark.parametrize("sqlstate", ["22021", "22000", "22P05", "22003", "23505", "23514", "21000", "54000"])
def test_a_refused_value_is_a_data_fault_only_while_writing(sqlstate: str) -> None:
    fault = raised(sqlstate, Phase.WRITE)
    assert isinstance(fault, DataFault)
    assert fault.sqlstate == sqlstate
    assert isinstance(raised(sqlstate, Phase.READ), Stop)


@pytest.mark.parametrize("sqlstate", ["42P01", "42703", "3F000"])
def test_a_missing_table_stops_and_names_migrate(sqlstate: str) -> None:
    fault = raised(sqlstate, Phase.WRITE)
    assert isinstance(fault, Stop)
    assert "embed-consumer migrate" in fault.fix


@pytest.mark.parametrize(("phase", "setting"), [(Phase.WRITE, "store.dsn"), (Phase.MIGRATE, "store.migrator_dsn")])
def test_a_missing_privilege_stops_and_names_whose_it_is_and_who_tells_the_grant(phase: Phase, setting: str) -> None:
    fault = raised("42501", phase)
    assert isinstance(fault, Stop)
    assert f"The role of {setting}" in fault.why
    assert "embed-consumer doctor" in fault.fix


def test_the_unknown_stops_loudly() -> None:
    fault = raised("XX001", Phase.READ)
    assert isinstance(fault, Stop)
    assert "XX001" in str(fault)


@pytest.mark.parametrize("sqlstate", ["40001", "57014", "22021", "23505", "42P01", "42501", "28P01", "3D000", "XX000"])
def test_nothing_of_the_servers_message_gets_out(sqlstate: str) -> None:
    for phase in Phase:
        fault = raised(sqlstate, phase)
        assert "secret" not in repr(fault)
        assert fault.__cause__ is None


def test_the_original_error_is_not_in_the_trace() -> None:
    with pytest.raises(DataFault) as caught, translated(WHERE, Phase.WRITE):
        raise errors.UniqueViolation("DETAIL: Key (id)=(secret)")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_driver_error_without_sqlstate_is_told_apart_by_its_kind() -> None:
    lost = psycopg.OperationalError("server closed the connection")
    assert type(fault_of(lost, WHERE, Phase.WRITE)) is Retry
    assert "store.dsn (EMBEDDING_STORE__DSN)" in fault_of(lost, WHERE, Phase.WRITE).fix
    assert "store.migrator_dsn (EMBEDDING_STORE__MIGRATOR_DSN" in fault_of(lost, WHERE, Phase.MIGRATE).fix
    assert isinstance(fault_of(psycopg.DataError("NUL"), WHERE, Phase.WRITE), DataFault)
    refused = fault_of(
        psycopg.OperationalError('FATAL: password authentication failed for user "x"'), WHERE, Phase.READ
    )
    assert isinstance(refused, Stop)
