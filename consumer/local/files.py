"""Files that a killed process must not leave half-written, and locks that end with the process that held them."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from consumer.errors import Retry

MOMENT_SECONDS = 1.0


def write_private(path: Path, text: str) -> None:
    """Replaces the file at once, readable by its owner only."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def exclusive(path: Path, patience: float, notice: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Holds the lock file `path`; waits up to `patience` seconds for another process that holds it, else `Retry`.

    `notice` is told if it must wait for longer than a moment.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as lock:
        _acquire(lock.fileno(), path, patience, notice)
        yield


def _acquire(descriptor: int, path: Path, patience: float, notice: Callable[[str], None]) -> None:
    begun, told = time.monotonic(), False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            waited = time.monotonic() - begun
            if waited > MOMENT_SECONDS and not told:
                notice(f"waiting for another process that is at work on {path.parent} (up to {patience:.0f} s)")
                told = True
            if waited > patience:
                raise Retry(
                    f"Another process is at work on {path.parent}.",
                    "It has held the lock for too long.",
                    "Wait for it to end, or stop it, then run the command again.",
                ) from None
            time.sleep(0.05)
