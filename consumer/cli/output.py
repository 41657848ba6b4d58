"""How commands print: data to stdout as tables or JSON, progress and remarks to stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

PIPED_WIDTH = 200  # nobody's terminal: let tables have the room they need
LINE_EVERY_SECONDS = 10.0

Cell = object


def stdout() -> Console:
    """The console of data. Colours only on a terminal, and not with NO_COLOR."""
    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False)


def stderr() -> Console:
    """The console of progress and remarks."""
    return Console(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """One JSON document on one line."""
    print(msgspec.json.encode(value).decode(), flush=True)


def remark(text: str) -> None:
    """A sentence for the person who looks on; no data."""
    print(text, file=sys.stderr)  # not through a console of its own: a progress bar catches what goes to stderr


def table(columns: Sequence[str], rows: Sequence[Sequence[Cell]], title: str | None = None) -> RenderableType:
    """A plain table; numbers to the right, None as a dash. Cells are shown as they are, never read as markup."""
    shown = Table(box=None, pad_edge=False, title=title, title_justify="left")
    for number, name in enumerate(columns):
        right = bool(rows) and all(isinstance(row[number], int | float | None) for row in rows)
        shown.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(Text("-" if cell is None else str(cell)) for cell in row))
    return shown


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar with rate and ETA on stderr; where that is no terminal, a line every ten seconds.

    Call it with steps, and with 0 when the work begins: what was prepared before is in no rate.
    """
    console = stderr()
    if not console.is_terminal:
        yield _Lines(what, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task, began, done = bar.add_task(what, total=total, rate="", start=False), time.monotonic(), 0

        def advance(steps: int) -> None:
            nonlocal began, done
            if not steps:
                bar.start_task(task)
                began = time.monotonic()
                return
            done += steps
            bar.update(task, advance=steps, rate=f"{done / max(time.monotonic() - began, 1e-3):,.0f} events/s")

        yield advance


class _Lines:
    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done = what, total, 0
        self._began = self._said = time.monotonic()

    def __call__(self, steps: int) -> None:
        self._done += steps
        now = time.monotonic()
        if not steps:  # the work begins here, perhaps long after the start: a model was loaded
            self._began = now
        if not steps or now - self._said < LINE_EVERY_SECONDS:
            return
        self._said = now
        rate = self._done / max(now - self._began, 1e-3)
        left = (self._total - self._done) / rate if rate else 0.0
        remark(f"{self._what}: {self._done} of {self._total} events, {rate:,.0f}/s, about {left:.0f} s left")
