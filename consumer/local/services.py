"""The life of one service: prepared, started, waited for. What differs is in postgres, kafka and connect."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from consumer.errors import Retry, Stop
from consumer.local import processes
from consumer.local.processes import Command

READY_WITHIN = 120.0


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Service:
    """One service: `prepare` runs before its process, `ready` tells whether it answers, `settle` runs once it does.

    `sweep` clears away, when the process is gone, what a killed one may have left running.
    """

    name: str
    port: int
    command: Command
    ready: Callable[[], bool]
    prepare: Callable[[], None] = _nothing
    settle: Callable[[], None] = _nothing
    sweep: Callable[[], None] = _nothing
    patience: float = 20.0

    @property
    def state(self) -> str:
        """`ready`, `starting` (runs, does not answer) or `stopped`."""
        if processes.find(self.command) is None:
            return "stopped"
        return "ready" if self.port and self.ready() else "starting"  # without a port its stack is not remembered

    def start(self, cancelled: threading.Event) -> None:
        """Makes it run as described now and waits until it answers; what already runs so is left alone.

        Returns early, without a word, when another service failed and `cancelled` is set.
        """
        if not processes.current(self.command):
            self.stop()
            self.prepare()
            processes.start(self.command)
        if self._answers_before(cancelled):
            self.settle()

    def stop(self) -> None:
        """Ends it and everything a half-finished start left of it."""
        processes.stop(self.command, self.patience)
        self.sweep()

    def _answers_before(self, cancelled: threading.Event) -> bool:
        deadline = time.monotonic() + READY_WITHIN
        while not self.ready():
            if processes.find(self.command) is None:
                raise Stop(
                    f"{self.name} ended while starting.",
                    f"Its log says why: {self.command.log}.",
                    "Run `embed-consumer stack up` again once that is mended.",
                )
            if time.monotonic() > deadline:
                raise Retry(
                    f"{self.name} did not answer within {READY_WITHIN:.0f} s.",
                    f"Its log may say why: {self.command.log}.",
                    "Run `embed-consumer stack up` again.",
                )
            if cancelled.wait(0.05):
                return False
        return True
