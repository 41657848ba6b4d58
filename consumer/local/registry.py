"""Apicurio's schema registry on loopback, for stacks whose connector writes Avro.

Its storage is H2, which it is built with, in a file: the variants that keep schemas in Postgres or Kafka are container
images only. An id that a record carries must never come to mean another schema, so every write is on disk (WRITE_DELAY
0) before it is answered.
"""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

from consumer.local import ports
from consumer.local.java import LOCALE, Java
from consumer.local.processes import Command
from consumer.local.services import Service
from consumer.local.state import Layout, State

CONFLUENT_API = "/apis/ccompat/v7"
NATIVE_API = "/apis/registry/v2"
# Loopback needs no proxy, whatever the environment says.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def service(layout: Layout, state: State, java: Java) -> Service:
    """The registry as this stack runs it; `java` has the class path of its own."""
    data, port = layout.data("registry"), state.port("registry")
    command = Command(
        argv=(*java.command("io.quarkus.runner.GeneratedMain", heap_mib=256), str(data)),
        marker=str(data),
        env=LOCALE
        | {
            "QUARKUS_HTTP_HOST": ports.HOST,
            "HTTP_PORT": str(port),
            "REGISTRY_DATASOURCE_URL": f"jdbc:h2:file:{data / 'registry'};WRITE_DELAY=0",
        },
        log=layout.log("registry"),
        pid_file=layout.pid_file("registry"),
    )
    return Service("registry", port, command, ready=lambda: _answers(port), prepare=lambda: data.mkdir(exist_ok=True))


def classpath(folder: Path | None) -> tuple[Path, ...]:
    """The runnable jar in the unpacked archive; it names all others."""
    return tuple(folder.glob("*-runner.jar")) if folder else ()


def address(state: State) -> str:
    """Where it answers, without the path of an API; empty for a stack without a registry."""
    return f"http://{ports.HOST}:{state.port('registry')}" if state.port("registry") else ""


def _answers(port: int) -> bool:
    try:
        with _opener.open(f"http://{ports.HOST}:{port}/health/ready", timeout=2) as reply:
            return bool(json.loads(reply.read())["status"] == "UP")
    except (OSError, ValueError, KeyError):
        return False
