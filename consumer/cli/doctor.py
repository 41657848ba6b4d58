"""`embed-consumer doctor`: a line for each thing that was looked at, with what to do where it is not well."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING

import typer
from rich.text import Text

from consumer.cli.options import ConfigOption, GroupOption, JsonOption, load
from consumer.cli.output import print_json, remark, stdout

if TYPE_CHECKING:
    from consumer.operations.doctor import Finding, Verdict

COLOURS: dict[Verdict, str] = {"pass": "green", "warn": "yellow", "fail": "bold red", "skip": "dim"}


def doctor(as_json: JsonOption = False, config: ConfigOption = None, group: GroupOption = None) -> None:
    """Check every dependency, role, topic, slot, table and clock, and say how to mend what fails. Changes nothing.

    Exits 0 if nothing fails, 1 if something does, 3 if a dependency does not answer.
    """
    settings = load(config, group)
    from consumer.operations.doctor import examine, exit_code

    logging.getLogger("librdkafka").setLevel(logging.CRITICAL)  # a broker that is away is a finding, said once
    found, console = [], stdout()
    for finding in examine(settings):
        found.append(finding)
        if not as_json:
            console.print(line(finding), soft_wrap=True)
    counts = Counter(finding.verdict for finding in found)
    if as_json:
        print_json({"ok": not counts["fail"], "checks": found})
    else:
        remark(", ".join(f"{counts[verdict]} {verdict}" for verdict in COLOURS))
    raise typer.Exit(exit_code(found))


def line(finding: Finding) -> Text:
    """What was found, and the fix on a line of its own below it."""
    shown = Text(f"{finding.verdict.upper()}  ", style=COLOURS[finding.verdict])
    shown.append(f"{finding.check}: ", style="bold not dim").append(finding.what, style="default not bold not dim")
    if finding.fix:
        shown.append(f"\n      fix: {finding.fix}", style="default not bold not dim")
    return shown
