"""What a stack remembers between commands: ports, passwords, and where its files lie."""

from __future__ import annotations

import json
import secrets
import shutil
import uuid
from base64 import urlsafe_b64encode
from dataclasses import asdict, dataclass, field
from pathlib import Path

from consumer.errors import Exit, Stop
from consumer.local.files import write_private
from consumer.local.versions import ROLES

FOLDERS = ("logs", "run", "config", "data")


@dataclass(frozen=True)
class Layout:
    """The folders of one stack's home."""

    home: Path

    @property
    def state(self) -> Path:
        """Ports and passwords, readable by the owner only."""
        return self.home / "state.json"

    @property
    def lock(self) -> Path:
        """Held by whoever starts or stops this stack."""
        return self.home / "run" / "lock"

    def log(self, service: str) -> Path:
        """Where a service's output goes."""
        return self.home / "logs" / f"{service}.log"

    def pid_file(self, service: str) -> Path:
        """The note about a service's process."""
        return self.home / "run" / f"{service}.json"

    def config(self, name: str) -> Path:
        """A file written for a service at each start."""
        return self.home / "config" / name

    def data(self, service: str) -> Path:
        """Where a service keeps what it stores."""
        return self.home / "data" / service

    @property
    def sql(self) -> Path:
        """The script that runs SQL on the stack; it holds passwords."""
        return self.home / "sql"

    def create(self) -> None:
        """Makes the folders, invisible to version control. `Stop` if that is not possible here."""
        if "," in str(self.home):
            raise Stop(
                f"{self.home} cannot be the folder of a stack.",
                "Kafka takes a comma for the end of a folder's name.",
                "Choose another one with --home.",
                exit_code=Exit.USAGE,
            )
        try:
            if not self.state.exists() and self._strangers():
                raise Stop(
                    f"{self.home} is not the folder of a stack.",
                    "There are files in it that no stack made, and a purge would take them along.",
                    "Choose another one with --home.",
                    exit_code=Exit.USAGE,
                )
            for name in FOLDERS:
                (self.home / name).mkdir(parents=True, exist_ok=True)
            if not self._ignored.exists():
                self._ignored.write_text("*\n", encoding="utf-8")
        except OSError as error:
            raise Stop(
                f"{self.home} cannot be the folder of a stack.",
                f"The system says: {error.strerror}.",
                "Choose another one with --home.",
                exit_code=Exit.USAGE,
            ) from None

    @property
    def _ignored(self) -> Path:
        return self.home / ".gitignore"

    def _strangers(self) -> bool:
        """Whether the folder holds a file that a start which was killed at its very beginning does not leave."""
        ours = (self.lock, self._ignored)
        files = (path for path in self.home.rglob("*") if not path.is_dir() and path not in ours)
        return any(not path.name.startswith(f".{self.state.name}.") for path in files)

    def remove(self) -> None:
        """Deletes what a stack made; what else lies in the folder stays, and the folder with it."""
        for name in FOLDERS:
            shutil.rmtree(self.home / name, ignore_errors=True)
        for path in (self.state, self.sql, self._ignored, self.home / "embed-consumer.yaml"):
            path.unlink(missing_ok=True)
        if not any(self.home.iterdir()):
            self.home.rmdir()


@dataclass
class State:
    """The remembered part of a stack; `passwords` by role, `prepared` the digest of the SQL its databases had.

    `settings_file` is the last one that was written for it. `format` is what the connector writes, `json` or `avro`;
    `mariadb` whether Connect has that connector too.
    """

    ports: dict[str, int] = field(default_factory=dict)
    passwords: dict[str, str] = field(default_factory=dict)
    cluster_id: str = ""
    prepared: str = ""
    postgres_data: str = ""
    settings_file: str = ""
    format: str = "json"
    mariadb: bool = False

    @classmethod
    def load(cls, layout: Layout) -> State | None:
        """The state of an existing stack; None where there is none. `Stop` if the file was damaged."""
        try:
            return cls(**json.loads(layout.state.read_text(encoding="utf-8")))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, TypeError):
            raise Stop(
                f"{layout.state} cannot be read.",
                "It is damaged or was written by another version.",
                "Run `embed-consumer stack down --purge`, then `stack up`.",
                exit_code=Exit.USAGE,
            ) from None

    @classmethod
    def new(cls) -> State:
        """Fresh passwords and cluster id."""
        names = ("postgres", *ROLES)
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        return cls(passwords={name: secrets.token_urlsafe(18) for name in names}, cluster_id=cluster)

    def port(self, name: str) -> int:
        """The port of a service or listener; 0 before the first start."""
        return self.ports.get(name, 0)

    @property
    def has_registry(self) -> bool:
        """Once a stack has a registry it keeps it: its topics hold records that only the registry explains."""
        return self.format == "avro" or "registry" in self.ports

    def save(self, layout: Layout) -> None:
        """Writes it at once, readable by the owner only."""
        write_private(layout.state, json.dumps(asdict(self), indent=1) + "\n")
