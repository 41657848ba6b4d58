"""The stack coming up, as seen on a terminal: a bar while there is something to download, then each service."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from consumer.local.stack import Watcher


@contextmanager
def shown(console: Console) -> Iterator[Watcher]:
    """A watcher that tells `console` (stderr, by rule) what happens, until the block ends."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True)
    try:
        yield _Display(console, bar)
    finally:
        if bar.live.is_started:
            bar.stop()


class _Display:
    def __init__(self, console: Console, bar: Progress) -> None:
        self._console, self._bar = console, bar
        self._task: TaskID | None = None
        self._began: dict[str, float] = {}

    def downloading(self, received: int, total: int) -> None:
        if self._task is None:
            self._console.print(
                f"downloading Kafka, Connect and Debezium, once ({total / 1e6:.0f} MB)", highlight=False
            )
            self._bar.start()
            self._task = self._bar.add_task("download", total=total)
        self._bar.update(self._task, completed=received)
        if received >= total:
            self._bar.stop()

    def service(self, name: str, state: str) -> None:
        now = time.monotonic()
        began = self._began.setdefault(name, now)
        if state == "ready":
            self._console.print(f"{name:<10} ready after {now - began:.1f} s", highlight=False)
