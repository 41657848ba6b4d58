"""EMBED_STACK: the services of the suite come from where it says, and a missing one is told clearly."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict

from tests.stacks import (
    COMPOSE_FILE,
    PASSWORDS,
    PORTS,
    PROJECT,
    ROOT,
    compose_endpoints,
    compose_services,
    compose_services_to_start,
    compose_variables,
    external_variables,
)

NEEDS_SERVICES = "tests/integration/test_whole_path.py::test_insert_edit_and_delete_reach_the_view"


def run_suite(**environment: str) -> subprocess.CompletedProcess[str]:
    """One test that needs the services, in a pytest of its own; an empty variable is not set."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("EMBED_") and name != "CI"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", NEEDS_SERVICES],
        cwd=ROOT,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program `docker` that writes what it is asked into a file, here, and says yes to everything."""
    asked = tmp_path / "asked"
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$COMPOSE_PROJECT_NAME $POSTGRES_PORT: $@" >> {asked}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    return asked


def interpolated(variables: dict[str, str]) -> dict[str, Any]:
    """The services of docker-compose.yml with its `${NAME:-default}` filled in, as compose does."""
    text = re.sub(r"\$\{(\w+):-([^}]*)\}", lambda m: variables.get(m[1], m[2]), COMPOSE_FILE.read_text())
    content: dict[str, Any] = yaml.safe_load(text)["services"]
    return content


def test_compose_answers_where_the_tests_look_for_it() -> None:
    variables = compose_variables()
    where, services = compose_endpoints(variables), interpolated(variables)
    # Published on the host as HOST:PORT:PORT-IN-THE-CONTAINER, each service at the port that it serves.
    published = {name: services[name]["ports"][0].split(":") for name in PORTS}
    assert published["connect"][2] == "8083"
    assert where.connect_url == f"http://{':'.join(published['connect'][:2])}"
    kafka = services["kafka"]["environment"]
    assert f"HOST://:{published['kafka'][2]}" in kafka["KAFKA_LISTENERS"]
    assert f"HOST://{where.bootstrap_servers}" in kafka["KAFKA_ADVERTISED_LISTENERS"].split(",")
    assert where.bootstrap_servers.endswith(f":{published['kafka'][1]}")
    for name in external_variables():
        if name.endswith("_dsn"):
            dsn = conninfo_to_dict(getattr(where, name))
            assert [dsn["host"], dsn["port"], "5432"] == published["postgres"]
            assert dsn["password"] == services["postgres"]["environment"][PASSWORDS[str(dsn["user"])]]
    assert len({variables[name] for name in (*PORTS.values(), *PASSWORDS.values())}) == len(PORTS) + len(PASSWORDS)


def test_compose_reads_its_tables_where_the_tests_write_them() -> None:
    variables = compose_variables()
    where, connect = compose_endpoints(variables), interpolated(variables)["connect"]["environment"]
    source = conninfo_to_dict(where.source_dsn)
    assert (source["user"], source["password"]) == (connect["SOURCE_USER"], connect["SOURCE_PASSWORD"])
    databases = {conninfo_to_dict(dsn)["dbname"] for dsn in (where.source_dsn, where.source_owner_dsn)}
    assert databases == {connect["SOURCE_DATABASE"]} == {conninfo_to_dict(where.admin_source_dsn)["dbname"]}
    scripts = "".join(path.read_text() for path in (ROOT / "ops/postgres").glob("*.sql"))
    for dsn in (where.store_dsn, where.migrator_dsn, where.reader_dsn, where.admin_dsn):
        assert f"CREATE DATABASE {conninfo_to_dict(dsn)['dbname']}" in scripts


def test_compose_is_brought_up_in_a_project_of_its_own_and_removed(docker: Path) -> None:
    before = dict(os.environ)
    with compose_services() as services:
        port = conninfo_to_dict(services.endpoints().store_dsn)["port"]
    file = f"{PROJECT} {port}: compose -f {COMPOSE_FILE.name}"
    up = " ".join(compose_services_to_start())
    assert docker.read_text().splitlines() == [
        f"{file} ps --quiet",
        f"{file} up --wait {up}",
        f"{file} down --volumes",
    ]
    assert {"postgres", "kafka", "connect"} <= set(up.split())
    assert dict(os.environ) == before


def test_without_an_engine_compose_skips_with_the_reason_and_fails_in_ci(tmp_path: Path) -> None:
    program = tmp_path / "docker"
    program.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    program.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    skipped = run_suite(EMBED_STACK="compose", PATH=path)
    assert skipped.returncode == 0
    assert "1 skipped" in skipped.stdout
    assert "no Docker engine with compose answers: Cannot connect to the Docker daemon" in skipped.stdout
    failed = run_suite(EMBED_STACK="compose", PATH=path, CI="true")
    assert failed.returncode == 1
    assert "no Docker engine with compose answers: Cannot connect to the Docker daemon" in failed.stdout


def test_without_docker_compose_skips_with_the_reason(tmp_path: Path) -> None:
    skipped = run_suite(EMBED_STACK="compose", PATH=str(tmp_path))
    assert skipped.returncode == 0
    assert "no Docker engine with compose answers: [Errno 2] No such file or directory: 'docker'" in skipped.stdout


def test_external_names_the_variables_that_are_missing() -> None:
    first, *others = external_variables().values()
    failed = run_suite(EMBED_STACK="external", **{first: "localhost:1"})
    assert failed.returncode == 1
    assert f"these are not set: {', '.join(others)}" in failed.stdout


def test_external_services_that_do_not_answer_skip_with_the_reason() -> None:
    nowhere = {"dsn": "postgresql://u:unsaid@127.0.0.1:1/d", "url": "http://127.0.0.1:1", "servers": "127.0.0.1:1"}
    given = {variable: nowhere[name.rpartition("_")[2]] for name, variable in external_variables().items()}
    skipped = run_suite(EMBED_STACK="external", **given)
    assert "1 skipped" in skipped.stdout
    assert all(variable in skipped.stdout for variable in given)
    assert "unsaid" not in skipped.stdout + skipped.stderr


def test_a_kind_that_does_not_exist_is_an_error_of_usage() -> None:
    failed = run_suite(EMBED_STACK="containers")
    assert failed.returncode not in (0, 1)
    assert "EMBED_STACK is 'containers'; it must be local, compose or external" in failed.stdout + failed.stderr
