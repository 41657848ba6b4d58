"""`embed-consumer status`: one reading, or one after the other while somebody looks on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from consumer.cli.interrupts import raise_again
from consumer.cli.options import ConfigOption, GroupOption, JsonOption, load
from consumer.cli.output import print_json, stdout
from consumer.errors import Exit

if TYPE_CHECKING:
    from consumer.operations.status import Status
    from consumer.settings import Settings

WATCH_SECONDS = 2.0
ETA_READINGS = 15  # how far back the rate reaches that an ETA is made from
OLD_SECONDS = 15.0  # a screen that could not be read anew for so long says nothing about now

Reading = tuple["Status", float | None]


def status(
    as_json: JsonOption = False,
    watch: Annotated[bool, typer.Option("--watch", help="Read it again every two seconds, with an ETA.")] = False,
    config: ConfigOption = None,
    group: GroupOption = None,
) -> None:
    """Fresh or not, and where it waits. Exits 3 if a dependency does not answer, 4 if the store refuses."""
    settings = load(config, group)
    from consumer.cli.status_view import headline, status_json, status_view

    readings, console = _readings(settings), stdout()
    if watch and console.is_terminal and not as_json:
        _watch(console, readings)
    for now, eta in readings:
        if as_json:
            print_json(status_json(now, eta))
        elif watch:
            console.print(headline(now, eta), soft_wrap=True)
        else:
            console.print(status_view(now, width=console.width))
        if not watch:
            raise typer.Exit(now.exit_code)


def _watch(console: Console, readings: Iterator[Reading]) -> None:
    """Fill the terminal until Ctrl-C, which leaves the last reading behind."""
    from consumer.cli.status_view import status_view

    screen = _Screen(console)
    raise_again()
    try:
        with Live(get_renderable=screen.view, console=console, screen=True, refresh_per_second=2):
            for screen.reading in readings:
                pass
    except KeyboardInterrupt:
        if screen.reading is not None:
            console.print(status_view(*screen.reading, width=console.width))
        raise typer.Exit(Exit.INTERRUPTED) from None


class _Screen:
    """Drawn twice a second from the last reading, so that one that grows old is seen to."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.reading: Reading | None = None

    def view(self) -> RenderableType:
        """The reading and its age."""
        from consumer.cli.status_view import status_view

        if self.reading is None:
            return Text("asking Kafka and the store …")
        taken, eta = self.reading
        age = time.time() - taken.taken_us / 1e6
        clock = time.strftime("%H:%M:%S", time.localtime(taken.taken_us / 1e6))
        foot = Text(f"read at {clock}, {age:.0f} s ago; every {WATCH_SECONDS:g} s, Ctrl-C ends", style="dim")
        if age > OLD_SECONDS:
            foot = Text(f"NO ANSWER for {age:.0f} s: what is shown was so at {clock}", style="bold red")
        height = self._console.height - 1
        return Group(foot, status_view(taken, eta, width=self._console.width, height=height))


def _readings(settings: Settings) -> Iterator[Reading]:
    """One reading, then another every two seconds with the seconds until nothing waits, where that can be told."""
    from consumer.operations.status import eta_seconds, read_status
    from consumer.operations.wiring import open_broker, open_store

    broker, earlier = open_broker(settings), deque["Status"](maxlen=ETA_READINGS)
    with open_store(settings, answer_within=10.0) as store:
        while True:
            now = read_status(settings, broker, store)
            yield now, eta_seconds(earlier[0], now) if earlier else None
            earlier.append(now)
            time.sleep(WATCH_SECONDS)
