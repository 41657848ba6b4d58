"""The command line's commands. Anything heavy is imported inside the command that needs it: `--help` is quick."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from threading import Event
from typing import Annotated

import typer

from consumer import __version__
from consumer.cli.config import config_app
from consumer.cli.demo import demo
from consumer.cli.doctor import doctor
from consumer.cli.failed import failed_app
from consumer.cli.jobs import offsets_app, rekey, search_command
from consumer.cli.options import ConfigOption, GroupOption, given, load
from consumer.cli.output import remark
from consumer.cli.replay import replay
from consumer.cli.stack import app as stack_app
from consumer.cli.status import status
from consumer.errors import Exit
from consumer.settings import DEFAULT_FILE

app = typer.Typer(
    help="Keep pgvector embeddings as fresh and as trustworthy as the rows they come from.\n\n"
    "Without a command: run the consumer, as `run` does.",
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # whose panels cut long names off in a narrow terminal, where plain text wraps
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)

NoWaitOption = Annotated[bool, typer.Option("--no-wait", help="Exit 3 when a dependency is down, instead of waiting.")]


def _version(show: bool) -> None:
    if show:
        typer.echo(f"embed-consumer {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    group: GroupOption = None,
    config: ConfigOption = None,
    no_wait: NoWaitOption = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Without a command: run the consumer."""
    if context.invoked_subcommand is not None:
        given.config, given.group = config, group  # `embed-consumer --config F status` means `status --config F`
    elif group is None and config is None and not no_wait and not Path(DEFAULT_FILE).is_file():
        typer.echo(context.get_help())
    else:
        run(group, config, no_wait)


@app.command()
def run(group: GroupOption = None, config: ConfigOption = None, no_wait: NoWaitOption = False) -> None:
    """Run the consumer: join the group and keep the vectors fresh until SIGTERM or Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(Exit.DONE))  # nothing is begun yet, as with Ctrl-C
    settings = load(config, group)
    from consumer.operations.run import prepare, run_consumer

    engine = prepare(settings, wait=not no_wait)
    stopping, interrupted = Event(), Event()

    def stop(number: int, _: object) -> None:
        if stopping.is_set():
            os._exit(Exit.INTERRUPTED)  # asked twice: as kill -9 would, which loses nothing
        stopping.set()
        if number == signal.SIGINT:
            interrupted.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    run_consumer(settings, engine, stopping, wait=not no_wait)
    if interrupted.is_set():
        raise typer.Exit(Exit.INTERRUPTED)


@app.command()
def migrate(
    plan: Annotated[bool, typer.Option("--plan", help="Print the SQL and change nothing.")] = False,
    config: ConfigOption = None,
) -> None:
    """Create or upgrade the tables, and the vector space of the configured model."""
    settings = load(config, None)
    from consumer.operations.migrate import migrate as take_steps
    from consumer.operations.migrate import plan as show_steps

    remark(f"loading the model {settings.embedding.model}")  # half a minute on a busy machine, or a download
    steps = show_steps(settings) if plan else take_steps(settings)
    for step in steps:
        typer.echo(f"-- {step.name}\n{step.sql}" if plan else f"done: {step.name}")
    if not steps:
        typer.echo("Nothing to do: the schema is up to date.", err=plan)


app.command("demo")(demo)
app.add_typer(stack_app, name="stack")
app.add_typer(config_app, name="config")
app.command("doctor")(doctor)
app.command("status")(status)
app.command("search")(search_command)
app.command("replay")(replay)
app.add_typer(offsets_app, name="offsets")
app.command("rekey")(rekey)
app.add_typer(failed_app, name="failed")
