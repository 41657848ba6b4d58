"""What goes wrong in a thread of the loop ends the loop: a process never goes on without its worker."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from threading import Event
from typing import NoReturn

import pytest

from consumer.pipeline import run
from consumer.planning import Advance, Batch
from consumer.steps import Settled
from tests.unit.records import TOPIC, record


class OneBatch:
    """A source with one record, then nothing for ever."""

    def __init__(self) -> None:
        self.before_revoke: Callable[[], None] = lambda: None
        self.full = False
        self._batches = [Batch((record(0, "c", {"id": 1}),), {(TOPIC, 0): Advance(TOPIC, 0, 1, 0, 1)})]

    def poll(self, timeout: float) -> None: ...
    def hold(self) -> None: ...
    def stored(self, advances: Iterable[Advance]) -> None: ...
    def fenced(self, advances: Iterable[Advance]) -> None: ...
    def expect(self, *, changes: bool) -> None: ...

    def take(self) -> Batch | None:
        return self._batches.pop() if self._batches else None

    def take_idle(self) -> Batch | None:
        return None


def no_chore() -> None:
    return None


def settles(*_: object) -> Settled:
    return Settled()


def fails(*_: object) -> NoReturn:
    raise ZeroDivisionError("a bug")


def test_an_error_in_a_batch_ends_the_loop() -> None:
    stopping = Event()
    with pytest.raises(ZeroDivisionError):
        run(OneBatch(), fails, no_chore, lambda: None, stopping)
    assert stopping.is_set(), "else what waits for a dependency would keep the process alive"


def test_an_error_in_a_chore_ends_the_loop() -> None:
    with pytest.raises(ZeroDivisionError):
        run(OneBatch(), settles, lambda: fails, lambda: None, Event())


def test_an_error_of_the_main_thread_ends_the_loop() -> None:
    with pytest.raises(ZeroDivisionError):
        run(OneBatch(), settles, no_chore, fails, Event())


def test_a_worker_that_dies_between_two_batches_ends_the_loop() -> None:
    """Its thread takes the next job to its grave: nobody would ever hear of that again."""
    begun, begins, deadline = Event(), Event(), time.monotonic() + 60

    def job() -> None:
        begun.set()

    def kill() -> None:
        assert time.monotonic() < deadline, "it lives on without its worker"
        if begun.is_set() and not begins.is_set():
            begins.set()
            ident = next(each.ident for each in threading.enumerate() if each.name == "worker_0")
            assert ident is not None
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(SystemExit))

    source = OneBatch()
    source.take = lambda: None  # type: ignore[method-assign]
    # Where the thread was not waiting yet, what it dies of comes out by itself.
    with pytest.raises((RuntimeError, SystemExit)):
        run(source, settles, lambda: job, kill, Event())


def test_the_source_hears_of_each_transaction_while_the_batch_goes_on() -> None:
    """Lag exporters and autoscalers see the group advance, however long a batch takes."""
    heard: list[Advance] = []
    first, stopping = Event(), Event()

    class Listening(OneBatch):
        def stored(self, advances: Iterable[Advance]) -> None:
            heard.extend(advances)
            first.set()

    def works(parts: Sequence[Batch], told: Callable[[Sequence[Advance]], None], more: object) -> Settled:
        told(parts[0].advances)
        assert first.wait(20), "the batch waits for nobody to hear of its first transaction"
        told([Advance(TOPIC, 0, 1, 1, 2)])
        stopping.set()
        return Settled()

    run(Listening(), works, no_chore, lambda: None, stopping)
    assert [advance.end for advance in heard] == [1, 2]
