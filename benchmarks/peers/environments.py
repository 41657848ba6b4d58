"""A virtual environment a peer, made from its lock file; and programs run in it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from benchmarks.peers.contender import THREADS
from consumer.local.artifacts import default_cache

HERE = Path(__file__).parent
APPS = HERE / "apps"
_VERSIONS = (
    "import json,sys;from importlib.metadata import version as v;print(json.dumps({n:v(n) for n in sys.argv[1:]}))"
)


def requirements(peer: str) -> Path:
    """Its lock file: every package with its exact version."""
    return HERE / "requirements" / f"{peer}.txt"


def folder(peer: str) -> Path:
    """Where its environment is, made or not."""
    return default_cache() / "peers" / peer


def program(peer: str, name: str = "python") -> Path:
    """A program of its environment."""
    return folder(peer) / "bin" / name


def install(peer: str) -> None:
    """Make the environment, exactly as locked."""
    subprocess.run([sys.executable, "-m", "venv", str(folder(peer))], check=True)
    pip = [str(program(peer)), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(requirements(peer))]
    subprocess.run(pip, check=True)


@cache
def versions(peer: str, names: tuple[str, ...]) -> Mapping[str, str]:
    """What is installed of these packages."""
    asked = [str(program(peer)), "-c", _VERSIONS, *names]
    found: dict[str, str] = json.loads(subprocess.run(asked, check=True, capture_output=True, text=True).stdout)
    return found


def not_installed(peer: str) -> str:
    """Empty, or why it cannot be run."""
    return "" if program(peer).exists() else f"not installed: run `python -m benchmarks.peers --install {peer}`"


class Program:
    """A program that runs in the background, its output in a file; starting it again appends."""

    def __init__(self, argv: Sequence[str | Path], where: Path, environment: Mapping[str, str]) -> None:
        self.log = where / "program.log"
        self._argv, self._where = [str(part) for part in argv], where
        quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1", "NO_PROXY": "*"}
        self._environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS), **quiet, **environment}
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self._argv,
                env=self._environment,
                cwd=self._where,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def kill(self) -> None:
        """SIGKILL to it and its children."""
        self._end(signal.SIGKILL, 10)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that does not end it within 10 s."""
        self._end(signal.SIGTERM, 10)

    def _end(self, how: signal.Signals, patience: float) -> None:
        if self._child is None:
            return
        group, child = self._child.pid, self._child
        for sent in (how, signal.SIGKILL):
            try:
                os.killpg(group, sent)
            except ProcessLookupError:
                break
            try:
                child.wait(patience)
            except subprocess.TimeoutExpired:
                continue
        self._child = None
