"""Ctrl-C and its kin, for commands that start processes: they end what they began, and a second one waits for that."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_ENDING = (signal.SIGTERM, signal.SIGHUP)


def interrupt_on_signals() -> None:
    """Ctrl-C, SIGTERM and a closed terminal all raise KeyboardInterrupt, so that nothing is left behind.

    A Ctrl-C that is ignored, as in the background of a shell, stays ignored.
    """
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    for number in _ENDING if ignored else (signal.SIGINT, *_ENDING):
        signal.signal(number, _interrupt)


@contextmanager
def undisturbed() -> Iterator[None]:
    """A second Ctrl-C does not leave half of it running."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, *_ENDING)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
