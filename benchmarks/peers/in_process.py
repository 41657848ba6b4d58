"""A contender whose pipeline is a Python program with the model inside, run in the peer's environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from benchmarks.peers import environments
from benchmarks.peers.contender import Contender, Site
from benchmarks.peers.environments import Program


class InProcess(Contender):
    """What CocoIndex, Pathway and PyDebeziumAI have in common: one process, started, killed and counted alike."""

    peer: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._counts = site.folder / "embedded"
        self._counts.touch()
        told = {"DSN": site.admin, "SOURCE_TABLE": self.table, "EMBEDDED": str(self._counts)}
        environment = {**told, "PYTHONPATH": str(environments.APPS), **self.environment()}
        self._program = Program(self.command(), site.folder, environment)

    def command(self) -> Sequence[str | Path]:
        """The program and its arguments."""
        return [environments.program(self.peer), environments.APPS / f"{self.peer}_app.py"]

    def environment(self) -> Mapping[str, str]:
        """What it is told beside DSN, SOURCE_TABLE and EMBEDDED."""
        return {}

    def start(self) -> None:
        self._program.start()

    def kill(self) -> None:
        self._program.kill()

    def stop(self) -> None:
        self._program.stop()

    def alive(self) -> bool:
        return self._program.alive()

    def embedded(self) -> int:
        return sum(map(int, self._counts.read_text(encoding="ascii").split()))

    def close(self) -> None:
        self._program.kill()

    @classmethod
    def versions(cls) -> Mapping[str, str]:
        return environments.versions(cls.peer, cls.packages)

    @classmethod
    def missing(cls) -> str:
        return environments.not_installed(cls.peer)
