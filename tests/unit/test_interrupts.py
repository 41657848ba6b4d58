"""Ctrl-C while a command still imports, loads or downloads: one line, exit code 130, and no wait for what hangs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from consumer.errors import Exit

# A shell that starts the tests in its background ignores Ctrl-C for all that it starts.
PROGRAM = "from signal import *; signal(SIGINT, default_int_handler); from consumer.cli import main; main()"
TABLE = {"topic": "shop.public.products", "text": "{{ title }}"}
Running = subprocess.Popen[str]


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def start(folder: Path, silent: socket.socket, *arguments: str, model: str = "acme/model") -> Running:
    """The command in `folder`, for which every address but this machine is behind the silent server."""
    where = f"127.0.0.1:{silent.getsockname()[1]}"
    settings = {
        "store": {"dsn": "postgresql://nobody@127.0.0.1:1/none"},
        "embedding": {"model": model, "revision": "0" * 40},
        "log": {"format": "json"},
        "tables": [TABLE],
    }
    (folder / "embed-consumer.yaml").write_text(yaml.safe_dump(settings))
    proxies = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), f"http://{where}")
    own = {"XDG_CACHE_HOME": str(folder / "cache"), "HF_HOME": str(folder / "hub"), "NO_PROXY": "", "no_proxy": ""}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("EMBED", "HF_"))}
    command = [sys.executable, "-c", PROGRAM, *arguments]
    with (folder / "out").open("w") as out:
        return subprocess.Popen(
            command, cwd=folder, env=environment | proxies | own, stdout=out, stderr=subprocess.PIPE, text=True
        )


def interrupt(process: Running, when: Callable[[], object]) -> None:
    """Ctrl-C as soon as `when` says so; then one line and the exit code."""
    deadline = time.monotonic() + 120
    try:
        while not when():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == Exit.INTERRUPTED, told
    lines = [line for line in told.splitlines() if line and not line.startswith("{")]
    assert lines[-1] == "Interrupted."
    assert "Traceback" not in told
    assert "Error" not in told


def imports_torch(process: Running) -> bool:
    return any("libtorch" in mapped.path for mapped in psutil.Process(process.pid).memory_maps())


@pytest.mark.parametrize("arguments", [("--group", "prod"), ("doctor",), ("migrate",)])
def test_while_torch_is_imported(tmp_path: Path, silent: socket.socket, arguments: tuple[str, ...]) -> None:
    process = start(tmp_path, silent, *arguments)
    interrupt(process, lambda: imports_torch(process))


@pytest.mark.parametrize("arguments", [("--group", "prod"), ("stack", "up")])
def test_while_something_is_downloaded(tmp_path: Path, silent: socket.socket, arguments: tuple[str, ...]) -> None:
    """The model from its hub, the stack's jars from their repository: both hang."""
    silent.settimeout(0.005)
    process, taken = start(tmp_path, silent, *arguments), []

    def asked() -> bool:
        try:
            taken.append(silent.accept()[0])
        except TimeoutError:
            return False
        return True

    interrupt(process, asked)
    for connection in taken:
        connection.close()
