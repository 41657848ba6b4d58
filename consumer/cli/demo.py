"""`embed-consumer demo`: the two-minute proof."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from consumer.cli.output import print_json, remark, stderr, stdout
from consumer.errors import Fault


def demo(
    rows: Annotated[int, typer.Option(min=200, max=4000, help="Rows of the source table.")] = 2000,
    home: Annotated[
        Path | None,
        typer.Option(help="Folder of the demo, made anew by each run.", show_default=".embed-consumer-demo"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures and checks as one JSON object.")] = False,
    down: Annotated[bool, typer.Option("--down", help="Stop and remove everything when done.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running after a failure.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Only stop and remove what an earlier demo left.")] = False,
) -> None:
    """Watch real rows become searchable vectors and stay fresh while they change, on a local stack.

    It runs in a folder of its own, checks what it shows (a failed check exits 1), and leaves everything running.
    """
    overriding = _ignore_own_settings()
    from consumer.local import demo as local
    from consumer.local import interrupt_on_signals

    interrupt_on_signals()

    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    place, screen = local.Home(home or local.HOME), local.Screen(stderr(), None if as_json else stdout())
    if stop:
        if not local.stop(place, screen):
            remark(f"There is no demo in {place.shown}.")
        return
    story = local.Demo(place, rows, screen, _migrate)
    try:
        local.run(story, down=down, keep=keep, overriding=overriding)
    except Fault as fault:
        if as_json:
            print_json({"ok": False, "error": str(fault), **story.report.as_json()})
        raise
    if as_json:
        print_json({"ok": True, "error": None, **story.report.as_json()})


def _migrate(config: Path) -> None:
    """What `embed-consumer migrate` does."""
    from consumer.operations.migrate import migrate
    from consumer.settings import load_settings

    migrate(load_settings(config).settings)


def _ignore_own_settings() -> list[str]:
    """Settings of the environment are for your database: the demo must reach only its own. The variables' names."""
    from consumer.settings import own_variables

    names = own_variables()
    for name in names:
        del os.environ[name]
    return names
