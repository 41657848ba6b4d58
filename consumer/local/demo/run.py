"""The demo's life around its story: a folder of its own, everything ended if it fails, and a word on what goes on."""

from __future__ import annotations

import os
import shlex
import shutil
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from consumer.errors import Fault
from consumer.local.demo.figures import Report
from consumer.local.demo.home import Home
from consumer.local.demo.screen import Screen
from consumer.local.demo.story import Demo
from consumer.local.interrupts import undisturbed
from consumer.observe import configure_logging


def run(demo: Demo, *, down: bool, keep: bool, overriding: Sequence[str] = ()) -> Report:
    """Tells the story in `demo.home`, beginning with nothing. What it started goes on running, unless `down`.

    Whatever goes wrong is raised when all that was started has ended; with `keep` a fault leaves it as it is.
    `overriding` are variables of the caller's environment that would turn other commands away from the demo.
    """
    home, screen = demo.home, demo.screen
    with home.alone():
        try:
            with screen.waiting("removing what an earlier demo left"):
                home.prepare()
            with home.log.open("a", encoding="utf-8") as log:
                configure_logging("info", "json", stream=log)
                report = demo.run()
            screen.checks(report.checks.made)
            screen.summary(report)
            if down:
                _end(home, screen, purge=True)
                home.remove()
            else:
                screen.next_steps(_next_steps(home, report, overriding))
        except BaseException as failure:
            if keep and isinstance(failure, Fault):
                screen.line("kept", f"everything is left as it is; this ends it: {_stop_command(home)}")
            else:
                _end(home, screen, purge=False)
            raise
    return report


def stop(home: Home, screen: Screen) -> bool:
    """Ends what an earlier demo left running and removes its folder; whether there was anything."""
    if not home.exists:
        return False
    with home.alone():
        _end(home, screen, purge=True)
        home.remove()
    return True


def _end(home: Home, screen: Screen, *, purge: bool) -> None:
    with undisturbed(), screen.waiting("stopping the consumer, Connect, Kafka and Postgres"):
        home.end(purge=purge)
    screen.line("stopped", "everything has ended" + ("" if purge else f"; logs stay in {home.shown}"))


def _next_steps(home: Home, report: Report, overriding: Sequence[str]) -> Sequence[tuple[str, Sequence[str]]]:
    """Headings, and lines that work when copied."""
    program = _program()
    known = report.searches[0].hits[0].source_key["id"]
    return (
        (
            "Try next",
            (
                *([f"unset {' '.join(overriding)}"] if overriding else []),
                f"export EMBED_CONSUMER_CONFIG={_shown(home.settings)}",
                f'{program} search "how do I read a csv file"',
                f"{program} status",
                f"{_shown(home.sql)} shop \"UPDATE docs SET text = 'Brews green tea.' WHERE id = {known}\"",  # noqa: S608 (shown)
                f'{program} search "something to drink"',
                f'{_shown(home.sql)} vectors "SELECT source_key, kafka_offset, embedded_at FROM chunks LIMIT 5"',  # noqa: S608 (shown)
                f"{home.url}/metrics",
            ),
        ),
        (
            "Still running",
            (
                f"the consumer, pid {home.consumer_pid}, log {_shown(home.consumer_log)}",
                "Postgres, Kafka and Connect, with their ports and logs:",
                f"{program} stack status --home {_shown(home.stack.layout.home)}",
            ),
        ),
        (
            f"Stop all of it and remove {home.shown}",
            (_stop_command(home),),
        ),
    )


def _stop_command(home: Home) -> str:
    return f"{_program()} demo --stop" + ("" if home.is_default else f" --home {shlex.quote(str(home.shown))}")


def _program() -> str:
    """How this command is called from here."""
    script = Path(sysconfig.get_path("scripts")) / "embed-consumer"
    found = shutil.which("embed-consumer")
    return "embed-consumer" if found and Path(found).samefile(script) else _shown(script)


def _shown(path: Path) -> str:
    """The path as one would type it from here."""
    relative = os.path.relpath(path)
    return shlex.quote(str(path) if relative.startswith("..") else relative)
