"""`embed-consumer stack up|down|status`: the local stack from the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from consumer.cli.output import remark
from consumer.errors import Exit

if TYPE_CHECKING:
    from consumer.local import ServiceStatus, Stack

app = typer.Typer(help="Postgres, Kafka, Connect and a schema registry as local processes.", no_args_is_help=True)

Home = Annotated[Path, typer.Option(help="Folder of data, logs and passwords.", envvar="EMBED_STACK_HOME")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
HOME = Path(".embed-consumer")
WIDTH = 500
STATES = {"ready": "green", "starting": "yellow", "stopped": "red"}


def _port(name: str) -> object:
    return typer.Option(
        min=1,
        max=65535,
        help=f"Port of {name}; by default a free one is found.",
        envvar=f"EMBED_STACK_{name.upper()}_PORT",
    )


@app.command()
def up(
    home: Home = HOME,
    config: Annotated[Path, typer.Option(help="Settings file to write; one you wrote is never overwritten.")] = Path(
        "embed-consumer.yaml"
    ),
    postgres_port: Annotated[int | None, _port("postgres")] = None,
    kafka_port: Annotated[int | None, _port("kafka")] = None,
    connect_port: Annotated[int | None, _port("connect")] = None,
    registry_port: Annotated[int | None, _port("registry")] = None,
    wire: Annotated[
        Literal["json", "avro"] | None,
        typer.Option("--format", help="What the connector writes; avro adds a registry. Default: as before, json."),
    ] = None,
    connector: Annotated[bool, typer.Option(help="Start the Debezium connector on the source database too.")] = True,
    as_json: AsJson = False,
) -> None:
    """Start everything that does not run and write a settings file for it. Safe to run again."""
    from consumer.local import Stack, interrupt_on_signals, shown, write_sql_script

    wanted = {"postgres": postgres_port, "kafka": kafka_port, "connect": connect_port, "registry": registry_port}
    stack = Stack(home, asked={name: port for name, port in wanted.items() if port is not None}, notice=remark)
    interrupt_on_signals()
    with shown(Console(stderr=True)) as watcher, _ended_if_interrupted(stack):
        endpoints = stack.up(watcher, wire=wire)
        if connector:
            watcher.service("connector", "starting")
            stack.register_connector()
            watcher.service("connector", "ready")
        write_sql_script(stack.layout.sql, endpoints)
        written = stack.write_settings(config, home / "embed-consumer.yaml")
    if sys.stderr.isatty():
        print(file=sys.stderr)
    if written != config:
        remark(f"{config} is yours and stays as it is.")
    _report(stack.status(), as_json, {"settings": written, "sql": home / "sql"})


@contextmanager
def _ended_if_interrupted(stack: Stack) -> Iterator[None]:
    """What did not run before the block does not run after an interrupted one; a stack that ran goes on."""
    from consumer.local import undisturbed

    ran = any(service.state != "stopped" for service in stack.status())
    try:
        yield
    except KeyboardInterrupt:
        if not ran:
            remark("stopping what was started")
            with undisturbed():
                stack.down()
        raise


@app.command()
def down(
    home: Home = HOME,
    purge: Annotated[bool, typer.Option("--purge", help="Remove data, logs and passwords too.")] = False,
) -> None:
    """Stop everything, also what a half-finished start left."""
    from consumer.local import Stack

    stack = Stack(home, notice=remark)
    if not stack.exists:
        still = any(service.pid for service in stack.status())
        stack.down()
        remark(f"There is no stack in {home}" + (", but one still ran: it is stopped." if still else "."))
        return
    left = stack.down(purge=purge)
    remark(f"{home}: stopped, its data removed" if purge else f"{home}: stopped")
    if left:
        remark(f"{left} stays: it was changed since the stack wrote it. It may hold the stack's passwords.")


@app.command()
def status(home: Home = HOME, as_json: AsJson = False) -> None:
    """Show each service: state, port, process and log. Exits 3 unless all are ready."""
    from consumer.local import Stack

    stack = Stack(home)
    services = stack.status()
    if not stack.exists:
        remark(f"There is no stack in {home}; `embed-consumer stack up` makes one.")
    if as_json or stack.exists or any(service.pid for service in services):
        _report(services, as_json)
    if any(service.state != "ready" for service in services):
        raise typer.Exit(Exit.UNREACHABLE)


def _report(services: list[ServiceStatus], as_json: bool, files: Mapping[str, Path] | None = None) -> None:
    if as_json:
        found = {"services": [asdict(service) | {"log": str(service.log)} for service in services]}
        print(json.dumps({**found, **{name: str(path) for name, path in (files or {}).items()}}))
        return
    table = Table(box=None, pad_edge=False)
    for title in ("service", "state", "where", "pid", "log"):
        table.add_column(title, overflow="fold")
    for service in services:
        color = STATES[service.state]
        where = f"127.0.0.1:{service.port}" if service.port else "-"
        table.add_row(service.name, f"[{color}]{service.state}[/]", where, str(service.pid or "-"), _near(service.log))
    Console(width=WIDTH).print(table)  # a line each, which a narrow terminal breaks without losing a path
    for name, path in (files or {}).items():
        print(f"{name:<9} {path}")


def _near(path: Path) -> str:
    """As seen from here, if it is below."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
