"""Where the services of the suite come from: `EMBED_STACK` is `local` (the default), `compose` or `external`.

`local` starts them as processes of this machine, `compose` brings up docker-compose.yml through testcontainers, and
`external` takes what the variables `EMBED_EXTERNAL_…` name. CONTRIBUTING.md says how each is used.
`python -m tests.stacks <folder>` prints those variables for a local stack that is up in that folder.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import NoReturn, Protocol

import psycopg
import pytest
import yaml
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from testcontainers.compose import DockerCompose

from consumer.local import Endpoints, Stack, connect, ports, resource
from consumer.local.versions import CONNECTOR, ROLES

ROOT = Path(__file__).parents[1]
COMPOSE_FILE = ROOT / "docker-compose.yml"
# A project of its own: the tests' `down --volumes` must never meet what a person runs from the same file.
PROJECT = "embed-consumer-tests"
# What docker-compose.yml leaves open and the tests decide: published ports by service, passwords by role.
PORTS = {"postgres": "POSTGRES_PORT", "kafka": "KAFKA_PORT", "connect": "CONNECT_PORT"}
PASSWORDS = {"postgres": "POSTGRES_PASSWORD", **ROLES}


class Services(Protocol):
    """What any test may ask of the services, wherever they run."""

    def endpoints(self) -> Endpoints:
        """Where they answer."""

    def register_connector(
        self, path: Path | None = None, *, name: str | None = None, overrides: Mapping[str, str] | None = None
    ) -> None:
        """Give Connect a connector file (default: connectors/postgres-json.json) and wait until its task runs."""


@dataclass(frozen=True)
class Remote:
    """Services that are no processes of this suite: it knows where they answer, and no more."""

    where: Endpoints
    log: str

    def endpoints(self) -> Endpoints:
        return self.where

    def register_connector(
        self, path: Path | None = None, *, name: str | None = None, overrides: Mapping[str, str] | None = None
    ) -> None:
        path = path or resource(f"connectors/{CONNECTOR}.json")
        config = json.loads(path.read_text(encoding="utf-8")) | dict(overrides or {})
        connect.register(self.where.connect_url, name or path.stem, config, Path(self.log))


def kind() -> str:
    """What `EMBED_STACK` asks for."""
    wanted = os.environ.get("EMBED_STACK") or "local"
    if wanted not in ("local", "compose", "external"):
        raise pytest.UsageError(f"EMBED_STACK is {wanted!r}; it must be local, compose or external")
    return wanted


# For tests that start the local stack themselves or look into its processes.
local_only = pytest.mark.skipif(
    kind() != "local", reason=f"about the local stack's own processes, and EMBED_STACK is {kind()}"
)


@contextmanager
def services(fresh: Path) -> Iterator[Services]:
    """The services that `EMBED_STACK` asks for. Local ones live in the folder `fresh` and end with the block;
    `EMBED_TEST_STACK=<folder>` keeps them there for the next run.
    """
    if kind() == "compose":
        with compose_services() as remote:
            yield remote
    elif kind() == "external":
        yield external_services()
    else:
        kept = os.environ.get("EMBED_TEST_STACK")
        stack = Stack(Path(kept) if kept else fresh)
        try:
            stack.up(mariadb=True)
            yield stack
        finally:
            if not kept:
                stack.down(purge=True)


def unavailable(reason: str) -> NoReturn:
    """A service that is missing fails the tests in CI, and skips them elsewhere."""
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@contextmanager
def compose_services() -> Iterator[Remote]:
    """docker-compose.yml on free ports, with new passwords, in a project that is gone at the end."""
    variables = compose_variables()
    compose = DockerCompose(ROOT, compose_file_name=COMPOSE_FILE.name, services=compose_services_to_start())
    with pytest.MonkeyPatch.context() as environment:
        for name, value in variables.items():
            environment.setenv(name, value)  # before any file `.env`
        if trouble := _compose_trouble(compose):
            unavailable(f"EMBED_STACK is compose, but no Docker engine with compose answers: {trouble}")
        try:
            compose.start()
            yield Remote(compose_endpoints(variables), f"`docker compose -p {PROJECT} logs connect`")
        except subprocess.CalledProcessError as failed:
            pytest.fail(f"docker compose failed: {failed.stderr.decode(errors='replace')[-2000:]}", pytrace=False)
        finally:
            compose.services = None  # named, it would leave network and volumes behind
            compose.stop()


def compose_variables() -> dict[str, str]:
    """What docker-compose.yml is to run with: the project's name, ports that are free now, and new passwords."""
    free = ports.choose(PORTS, {}, {}, set())
    return {
        "COMPOSE_PROJECT_NAME": PROJECT,
        **{PORTS[name]: str(port) for name, port in free.items()},
        **{name: secrets.token_urlsafe(18) for name in PASSWORDS.values()},
    }


def compose_services_to_start() -> list[str]:
    """What the tests need of docker-compose.yml: neither our own image, nor one-shot jobs, nor what has a profile."""
    content = yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))["services"]
    return [
        name
        for name, service in content.items()
        if "build" not in service and "profiles" not in service and "test" in service["healthcheck"]
    ]


def compose_endpoints(variables: Mapping[str, str]) -> Endpoints:
    """Where docker-compose.yml answers on this machine when it runs with these variables."""

    def dsn(role: str, database: str) -> str:
        address = f"{role}:{variables[PASSWORDS[role]]}@127.0.0.1:{variables['POSTGRES_PORT']}"
        return f"postgresql://{address}/{database}"

    servers, connect_url = f"localhost:{variables['KAFKA_PORT']}", f"http://127.0.0.1:{variables['CONNECT_PORT']}"
    return Endpoints.of(dsn, servers, connect_url)


def _compose_trouble(compose: DockerCompose) -> str:
    """Why compose cannot be used here, in its own words; empty if the plugin and the engine answer."""
    ask = [*compose.docker_compose_command(), "ps", "--quiet"]
    try:
        asked = subprocess.run(ask, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return asked.stderr.strip() or f"exit code {asked.returncode}" if asked.returncode else ""


def external_variables() -> dict[str, str]:
    """The variable that names each endpoint; there is none for the registry, whose tests bring up their own stack."""
    return {each.name: f"EMBED_EXTERNAL_{each.name.upper()}" for each in fields(Endpoints) if each.default is MISSING}


def external_services() -> Remote:
    """Your own services, as the environment names them. A missing variable fails the run, whoever runs it."""
    given = {name: os.environ.get(variable, "") for name, variable in external_variables().items()}
    if missing := [external_variables()[name] for name, value in given.items() if not value]:
        pytest.fail(f"EMBED_STACK is external, and these are not set: {', '.join(missing)}", pytrace=False)
    where = Endpoints(**given)
    if silent := _silent(where):
        unavailable(f"EMBED_STACK is external, but there is no answer from {', '.join(silent)}")
    return Remote(where, "that of your Connect worker")


def _silent(where: Endpoints) -> list[str]:
    """The variables of the services that do not answer within seconds; never what the variables hold."""
    silent = []
    for name, variable in external_variables().items():
        value = getattr(where, name)
        try:
            if name.endswith("_dsn"):
                psycopg.connect(value, connect_timeout=5).close()
            elif name.endswith("_url"):
                opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                opener.open(value, timeout=5).close()
            else:
                AdminClient({"bootstrap.servers": value}).list_topics(timeout=5)
        except (psycopg.Error, OSError, KafkaException) as error:
            silent.append(f"{variable} ({type(error).__name__})")
    return silent


if __name__ == "__main__":
    _given = asdict(Stack(Path(sys.argv[1])).endpoints())
    for _name, _variable in external_variables().items():
        print(f"export {_variable}={shlex.quote(_given[_name])}")
