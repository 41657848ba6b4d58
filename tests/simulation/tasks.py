"""Code that runs until it is about to ask somebody, then waits its turn: what a scheduler interleaves.

Each task has a thread, but only one thread ever runs: whoever has the turn. So the order of everything is the
scheduler's choice, and the same choices give the same run.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock, Thread
from typing import Any


class Crashed(BaseException):
    """The process is gone: nothing of it goes on, whatever it was about to do."""


class _Runner:
    """A thread that is used again by one task after another."""

    def __init__(self) -> None:
        self.task: Task | None = None
        self.go, self.back = Lock(), Lock()
        self.go.acquire()
        self.back.acquire()
        Thread(target=self._run, name="simulated", daemon=True).start()

    def _run(self) -> None:
        while True:
            self.go.acquire()
            assert self.task is not None
            self.task.run()
            self.back.release()


_idle: list[_Runner] = []


class Task:
    """`work` on its way. `step` is what it was about to do when it was last interrupted."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.step, self.done = "", False
        self.result: Any = None
        self._work, self._fault = work, False
        self._error: BaseException | None = None
        self._runner = _idle.pop() if _idle else _Runner()
        self._runner.task = self

    def go_on(self) -> None:
        """Let it run to its next pause or its end; what it fails of is raised here."""
        runner = self._runner
        runner.go.release()
        runner.back.acquire()
        if self.done:
            _idle.append(runner)
            if self._error is not None:
                raise self._error

    def to_the_end(self) -> None:
        """Without letting anybody else run in between."""
        while not self.done:
            self.go_on()

    def until(self, step: str) -> None:
        """To the next pause before `step`."""
        self.go_on()
        while self.step != step:
            assert not self.done, f"it ended without {step}"
            self.go_on()

    def crash(self) -> None:
        """End it where it stands."""
        self._fault = True
        while not self.done:
            self.go_on()

    def pause(self, step: str) -> None:
        """Called by the work itself: others may run now."""
        self.step = step
        self._runner.back.release()
        self._runner.go.acquire()
        if self._fault:
            raise Crashed

    def run(self) -> None:
        """The thread's part."""
        try:
            if not self._fault:
                self.result = self._work()
        except Crashed:
            pass
        except BaseException as error:
            self._error = error
        self.step, self.done = "", True
