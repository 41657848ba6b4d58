"""A throw-away MariaDB for tests: own data folder, loopback only, a binary log for the connector, gone at the end."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

DATABASE, USER, PASSWORD = "shop", "debezium", "throw-away"
START_SECONDS = 60
# Debian keeps the server where only root's PATH looks. Little else: no variable of the caller changes the server.
_ENVIRONMENT = {"PATH": os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin")), "LC_ALL": "C"}
_PROGRAMS = ("mariadbd", "mariadb-install-db", "mariadb")
# What docs/mariadb.md asks of a server; a zone of its own, as real servers have, and no wait for a disk.
_SETTINGS = (
    *("--bind-address=127.0.0.1", "--skip-name-resolve", "--character-set-server=utf8mb4"),
    "--loose-binlog-legacy-event-pos=ON",  # needed from 11.4 on, unknown before
    *("--server-id=1", "--log-bin=binlog", "--binlog-format=ROW", "--binlog-row-image=FULL", "--gtid-strict-mode=ON"),
    *("--default-time-zone=+05:30", "--innodb-flush-log-at-trx-commit=0", "--sync-binlog=0"),
    *("--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M", "--performance-schema=OFF"),
)
_SETUP = f"""
CREATE DATABASE {DATABASE};
CREATE USER {USER}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';
GRANT SELECT, RELOAD, SHOW DATABASES, REPLICATION SLAVE, BINLOG MONITOR ON *.* TO {USER}@'127.0.0.1';
"""


@dataclass(frozen=True)
class MariaDb:
    """A running server."""

    folder: Path
    port: int

    def run(self, script: str, database: str = DATABASE) -> str:
        """Run SQL statements as root, each a transaction unless they say otherwise; what they print."""
        command = ("mariadb", "--no-defaults", f"--socket={self.folder / 'socket'}", "--user=root", "--batch")
        done = subprocess.run(
            [*command, "--skip-column-names", "--default-character-set=utf8mb4", database],
            input=script.encode(),
            capture_output=True,
            env=_ENVIRONMENT,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def connector(self) -> dict[str, str]:
        """Where the connector finds this server: overrides of a connector file."""
        return {
            "database.hostname": "127.0.0.1",
            "database.port": str(self.port),
            "database.user": USER,
            "database.password": PASSWORD,
            "database.include.list": DATABASE,
        }


@contextmanager
def throwaway_mariadb() -> Iterator[MariaDb]:
    """A new server for the length of the block, with an empty database `shop` and the connector's user."""
    _require_programs()
    folder = Path(tempfile.mkdtemp(prefix="mariadb-test-"))
    account = _account()
    if account:
        os.chown(folder, account.pw_uid, account.pw_gid)
    try:
        _create(folder, account)
        server = MariaDb(folder, _free_port())
        with (folder / "log").open("wb") as log:
            process = _start(server, account, log.fileno())
        try:
            _wait(server, process)
            server.run(_SETUP, database="mysql")
            yield server
        finally:
            process.kill()
            process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _require_programs() -> None:
    missing = [program for program in _PROGRAMS if shutil.which(program, path=_ENVIRONMENT["PATH"]) is None]
    if missing:
        reason = f"no MariaDB server on this machine ({', '.join(missing)} missing); .ci/run installs Debian's"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def _create(folder: Path, account: pwd.struct_passwd | None) -> None:
    arguments = ("--no-defaults", f"--datadir={folder / 'data'}", "--auth-root-authentication-method=normal")
    done = subprocess.run(
        ["mariadb-install-db", *arguments, "--skip-test-db", "--skip-log-bin"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        env=_ENVIRONMENT,
        check=False,
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
    )
    assert done.returncode == 0, done.stdout.decode()


def _start(server: MariaDb, account: pwd.struct_passwd | None, log: int) -> subprocess.Popen[bytes]:
    places = (f"--datadir={server.folder / 'data'}", f"--socket={server.folder / 'socket'}", f"--port={server.port}")
    return subprocess.Popen(
        ["mariadbd", "--no-defaults", *places, *_SETTINGS],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd="/",
        env=_ENVIRONMENT,
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
    )


def _wait(server: MariaDb, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not (server.folder / "socket").exists():
        assert process.poll() is None, (server.folder / "log").read_text(errors="replace")[-3000:]
        assert time.monotonic() < deadline, "MariaDB did not start in time"
        time.sleep(0.02)


def _account() -> pwd.struct_passwd | None:
    """MariaDB refuses to run as root: then another account of the machine does it."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
