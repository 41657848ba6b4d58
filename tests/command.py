"""The real command in a process of its own: its signals, exit code, log lines and metrics."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests import crash_points

_fork = multiprocessing.get_context("forkserver")
_fork.set_forkserver_preload(["tests.preload"])


def preload() -> None:
    """Begin to import what every process needs, in the background."""
    forkserver.ensure_running()


def _become_command(
    arguments: list[str], folder: Path, environment: dict[str, str], out: Path, err: Path, cpu: int | None
) -> None:
    """In the new process: become `embed-consumer ARGUMENTS`, run in `folder`, with output to files."""
    os.chdir(folder)
    if cpu is not None:
        cpus = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cpus[cpu % len(cpus)]})
    for stream, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), stream)
    from consumer.cli import main

    os.environ.clear()
    os.environ.update(environment)
    crash_points.arm(environment.get(crash_points.VARIABLE))
    sys.argv = ["embed-consumer", *arguments]
    # As in a terminal, even where the tests run in the background of a shell, which ignores Ctrl-C there.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main()


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str


class CommandProcess:
    """A running `embed-consumer ARGUMENTS` in a process of its own; what it prints goes to files.

    `cpu` keeps it to one CPU, counted modulo those there are: so share several consumers a small machine best.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        name: str,
        cpu: int | None = None,
    ) -> None:
        self.out, self.log = folder / f"{name}.out", folder / f"{name}.log"
        self.out.touch()
        self.log.touch()
        environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "160", **environment}
        self._process = _fork.Process(
            target=_become_command, args=(list(arguments), folder, environment, self.out, self.log, cpu), daemon=True
        )
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def alive(self) -> bool:
        return self._process.is_alive()

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL: no clean-up of any kind."""
        self._process.kill()
        self._process.join(10)

    def die(self) -> None:
        """SIGKILL, without waiting for the end: from any thread."""
        self.signal(signal.SIGKILL)

    def stop(self, timeout: float = 60) -> int:
        """SIGTERM, and the exit code."""
        if self.alive():
            self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def wait(self, timeout: float = 60) -> int:
        """The exit code (negative: the signal that ended it), once it has ended by itself."""
        self._process.join(timeout)
        assert self._process.exitcode is not None, f"still running after {timeout} s\n{self.output()[-2000:]}"
        return self._process.exitcode

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def lines(self, event: str = "") -> list[dict[str, Any]]:
        """The log's JSON lines, or those of one event; a line that is being written is left out."""
        said = []
        for line in self.output().splitlines():
            with suppress(ValueError):
                said.append(json.loads(line))
        return [line for line in said if isinstance(line, dict) and event in ("", line.get("event"))]

    def batches(self) -> list[dict[str, Any]]:
        """One line per committed transaction: events, documents, embedded, failed, offsets."""
        return self.lines("batch")

    def applied(self) -> int:
        """How many events this process has applied."""
        return sum(line["events"] for line in self.batches())

    def embedded(self) -> int:
        """How many vectors this process has computed and committed."""
        return sum(line["embedded"] for line in self.batches())

    def metrics(self) -> dict[tuple[str, tuple[str, ...]], float]:
        """What /metrics shows now: (name without its prefix, label values in the order of their names) -> value."""
        url = self.lines("ready to join")[0]["http"]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{url}/metrics", timeout=10) as reply:
            families = list(text_string_to_metric_families(reply.read().decode()))
        return {
            (s.name.removeprefix("embedding_pipeline_"), tuple(value for _, value in sorted(s.labels.items()))): s.value
            for family in families
            for s in family.samples
        }

    def held(self) -> int:
        """How many partitions of tables it holds."""
        return sum(name == "freshness_lag_seconds" for name, _ in self.metrics())

    def connections(self) -> set[int]:
        """Its local TCP ports: how the database's sessions are told apart by process."""
        return {c.laddr.port for c in psutil.Process(self.pid).net_connections("tcp") if c.laddr}
