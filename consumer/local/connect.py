"""Kafka Connect with Debezium, on loopback: the worker, and the connectors in it."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from consumer.errors import Retry, Stop
from consumer.local import ports, registry
from consumer.local.files import write_private
from consumer.local.java import LOCALE, Java, properties
from consumer.local.processes import Command
from consumer.local.services import Service
from consumer.local.state import Layout, State
from consumer.local.versions import CONNECT_SETTINGS, SOURCE_DATABASE

RUNNING_WITHIN = 40.0
RESTART_EVERY = 10.0
# Loopback needs no proxy, whatever the environment says.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def service(layout: Layout, state: State, java: Java, plugins: Sequence[Path]) -> Service:
    """The Connect worker as this stack runs it."""
    config, text = layout.config("connect.properties"), _config(state, plugins)
    command = Command(
        argv=(*java.command("org.apache.kafka.connect.cli.ConnectDistributed", heap_mib=512), str(config)),
        marker=str(config),
        env=connector_environment(state) | LOCALE,
        log=layout.log("connect"),
        pid_file=layout.pid_file("connect"),
        config=text,
    )
    port = state.port("connect")
    return Service(
        "connect",
        port,
        command,
        ready=lambda: _answers(port, state.cluster_id),
        prepare=lambda: write_private(config, text),
    )


def connector_environment(state: State) -> dict[str, str]:
    """What the connector files name as `${env:…}`."""
    return {
        "SOURCE_HOST": ports.HOST,
        "SOURCE_PORT": str(state.port("postgres")),
        "SOURCE_DATABASE": SOURCE_DATABASE,
        "SOURCE_USER": "debezium",
        "SOURCE_PASSWORD": state.passwords.get("debezium", ""),
        "TOPIC_BOOTSTRAP_SERVERS": f"{ports.HOST}:{state.port('kafka')}",
        "TOPIC_PARTITIONS": "3",
        "TOPIC_REPLICATION": "1",
        "REGISTRY_URL": registry.address(state) + registry.NATIVE_API,
    }


def register(url: str, name: str, config: Mapping[str, str], log: Path) -> None:
    """Creates the connector or brings it to this configuration, and waits until its task runs.

    `url` is the worker's. Raises `Stop` if Connect refuses the configuration or the task keeps failing, `Retry` if it
    does not answer.
    """
    deadline = time.monotonic() + RUNNING_WITHIN
    connector = f"{url}/connectors/{name}"
    _call("PUT", f"{connector}/config", config, log, deadline)
    restart_at = 0.0
    while (states := _states(_call("GET", f"{connector}/status", None, log, deadline))) != {"RUNNING"}:
        if time.monotonic() > deadline:
            raise Stop(f"The connector {name} does not run.", f"The log of Connect says why: {log}.")
        if "FAILED" in states and time.monotonic() > restart_at:
            # A failure of the past, as after a restart of the database, is healed so; one of now comes back.
            _call("POST", f"{connector}/restart?includeTasks=true&onlyFailed=true", None, log, deadline)
            restart_at = time.monotonic() + RESTART_EVERY
        time.sleep(0.1)


def unregister(url: str, name: str, log: Path) -> None:
    """Removes the connector, if there is one; its offsets and its slot stay."""
    _call("DELETE", f"{url}/connectors/{name}", None, log, time.monotonic() + RUNNING_WITHIN)


def _states(status: Any) -> set[str]:
    """The states of connector and tasks; empty while there is no task."""
    if not status or not status["tasks"]:
        return set()
    return {status["connector"]["state"], *(task["state"] for task in status["tasks"])}


def _config(state: State, plugins: Sequence[Path]) -> str:
    return properties(
        CONNECT_SETTINGS
        | {
            "bootstrap.servers": f"{ports.HOST}:{state.port('kafka')}",
            "plugin.path": ",".join(map(str, plugins)),
            "listeners": f"http://{ports.HOST}:{state.port('connect')}",
            "rest.advertised.host.name": ports.HOST,
            "rest.advertised.port": str(state.port("connect")),
        }
    )


def _answers(port: int, cluster_id: str) -> bool:
    """Whether this stack's worker answers and takes part in its group; another stack's may listen there by now."""
    try:
        with _opener.open(f"http://{ports.HOST}:{port}/", timeout=2) as reply:
            ours = json.loads(reply.read())["kafka_cluster_id"] == cluster_id
        with _opener.open(f"http://{ports.HOST}:{port}/connectors", timeout=2) as reply:
            return ours and bool(reply.status == HTTPStatus.OK)
    except (OSError, ValueError, KeyError):
        return False


def _call(method: str, url: str, body: Mapping[str, str] | None, log: Path, deadline: float) -> Any:
    """One request, repeated until `deadline` while the worker is rebalancing; None where there is no such thing."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)  # noqa: S310
    while True:
        try:
            with _opener.open(request, timeout=30) as reply:
                return json.loads(reply.read() or b"null")
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.NOT_FOUND:
                return None
            if error.code != HTTPStatus.CONFLICT or time.monotonic() > deadline:
                # Connect's answer may repeat what it was sent, so only the code is told.
                raise Stop(f"Connect refused {method} with {error.code}.", f"Its log says why: {log}.") from None
        except OSError as error:
            raise Retry(
                f"Connect did not answer ({type(error).__name__}).", f"Its log is {log}.", "Run the command again."
            ) from None
        time.sleep(0.2)
