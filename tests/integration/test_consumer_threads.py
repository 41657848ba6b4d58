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

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # it is done on purpose


def thread(name: str) -> int | None:
    """The number of a living thread of this process."""
    return next((each.ident for each in threading.enumerate() if each.name == name), None)


def test_the_process_ends_when_the_http_thread_dies(world: World) -> None:
    fault = fault_after_the_death_of("http", world)
    assert isinstance(fault, Stop)
    assert fault.exit_code == Exit.FAILED
    assert "has died" in fault.why


def test_the_process_ends_when_the_worker_dies(world: World) -> None:
    """As it waits for a batch, or in the midst of one."""
    assert isinstance(fault_after_the_death_of("worker_0", world), RuntimeError | SystemExit)


def fault_after_the_death_of(name: str, world: World) -> BaseException | None:
    """What a consumer ends with when this thread of it has died; fails if it goes on."""
    world.migrate()
    stopping, settings = Event(), load_settings(world.settings()).settings
    with ThreadPoolExecutor(1) as runner:
        running = runner.submit(run_consumer, settings, prepare(settings), stopping)
        try:
            world.until(lambda: thread("worker_0"))  # it has joined and does chores
            ident = thread(name)
            assert ident is not None
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(SystemExit))
            return running.exception(60)
        finally:
            stopping.set()
