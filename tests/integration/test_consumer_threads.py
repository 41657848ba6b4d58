"""A consumer whose thread dies does not live on without it."""

from __future__ import annotations

import ctypes
import threading
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from consumer.errors import Exit, Stop
from consumer.operations.run import prepare, run_consumer
from consumer.settings import load_settings
from tests.world import World


def thread(name: str) -> int | None:
    """The number of a living thread of this process."""
    return next((each.ident for each in threading.enumerate() if each.name == name), None)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # that is what is done here
def test_the_process_ends_when_the_http_thread_dies(world: World) -> None:
    world.migrate()
    stopping, settings = Event(), load_settings(world.settings()).settings
    with ThreadPoolExecutor(1) as runner:
        running = runner.submit(run_consumer, settings, prepare(settings), stopping)
        try:
            world.until(lambda: thread("worker_0"))  # it has joined and does chores
            ident = thread("http")
            assert ident is not None
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(SystemExit))
            fault = running.exception(30)
        finally:
            stopping.set()
    assert isinstance(fault, Stop)
    assert fault.exit_code == Exit.FAILED
    assert "has died" in fault.why
