"""Ctrl-C: one line and exit code 130, whatever the process is doing; commands with something to end say so."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

from consumer.errors import Exit


def leave_at_once() -> None:
    """From here on Ctrl-C ends the process on the spot: while it imports, loads, downloads or reads.

    Raised as an exception there, it comes out of libraries as a traceback, or waits for their threads. Whatever the
    database has begun it rolls back, as after kill -9. A process that ignores Ctrl-C (a shell's background) still does.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)


def raise_again() -> None:
    """From here on Ctrl-C is a KeyboardInterrupt again: there is something to end or to put back."""
    if signal.getsignal(signal.SIGINT) is leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def leave(*_: object) -> NoReturn:
    """Say so and end, without waiting for any thread."""
    with suppress(Exception):  # in the middle of a write, or the reader has gone
        sys.stdout.flush()
    with suppress(OSError):  # straight to the descriptor: no lock and no import that the interrupted code may be in
        os.write(2, b"\nInterrupted.\n" if os.isatty(2) else b"Interrupted.\n")
    os._exit(Exit.INTERRUPTED)
