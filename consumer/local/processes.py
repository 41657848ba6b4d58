"""Plain child processes that outlive the command which started them, and are found again without ever being mistaken.

A pid alone proves nothing, it is reused: a process is ours if its start time is the one noted when it was started, or
if it runs our program on a file or folder that belongs to this stack only (`marker`), which also finds what a killed
`up` left.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import psutil

from consumer.local.files import write_private

# Our own children, kept so that they are reaped when they end; those of earlier commands are reaped by the system.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class Account:
    """The system account a process runs as, where that is not the caller's own."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Command:
    """How a service is started and recognised. `marker` is the argument that no other stack has."""

    argv: tuple[str, ...]
    marker: str
    env: Mapping[str, str]
    log: Path
    pid_file: Path
    account: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    config: str = ""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the process would be started otherwise than it runs. Secrets enter as a digest only."""
        parts = (*self.argv, *(f"{key}={value}" for key, value in sorted(self.env.items())), self.config)
        return sha256("\0".join(parts).encode()).hexdigest()


def start(command: Command) -> None:
    """Starts it detached from terminal and caller; its output goes to the log, the former log is kept beside it."""
    if command.log.exists():
        command.log.replace(command.log.with_suffix(".previous.log"))
    with command.log.open("wb") as log:
        child = subprocess.Popen(
            command.argv,
            env={**_inherited(), **command.env},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd="/",
            start_new_session=True,
            **as_account(command.account),
        )
    _children[child.pid] = child
    noted = {"pid": child.pid, "started": _started(child.pid), "fingerprint": command.fingerprint}
    write_private(command.pid_file, json.dumps(noted))


def find(command: Command) -> psutil.Process | None:
    """The running process of this command, or None."""
    noted = _noted(command)
    process = alive(int(noted.get("pid", 0)))
    if process is not None and abs(process.create_time() - float(noted["started"])) < 1:
        return process
    return next(iter(_marked(command)), None)


def current(command: Command) -> bool:
    """Whether the running process was started exactly as `command` says."""
    process, noted = find(command), _noted(command)
    return process is not None and noted.get("pid") == process.pid and noted["fingerprint"] == command.fingerprint


def stop(command: Command, patience: float) -> None:
    """Ends every process of this command and all their children: asked first, killed after `patience` seconds."""
    found = {process.pid: process for process in (find(command), *_marked(command)) if process is not None}
    _end(list(found.values()), command.stop_signal, patience)
    command.pid_file.unlink(missing_ok=True)


def kill(command: Command) -> None:
    """SIGKILL, as a crash would; returns when the process and its children are gone."""
    process = find(command)
    if process is not None:
        _end([process], signal.SIGKILL, patience=10)


def clear(folder: Path) -> None:
    """Ends whatever still runs with `folder`, or a folder inside it, as its working folder."""
    inside = [
        process
        for process in psutil.process_iter(["cwd"])
        if process.info["cwd"] and Path(process.info["cwd"]).is_relative_to(folder)
    ]
    _end(inside, signal.SIGTERM, patience=5)


def alive(pid: int) -> psutil.Process | None:
    """The process with this id; None if there is none, or only a zombie of it."""
    if pid in _children and _children[pid].poll() is not None:
        del _children[pid]
    try:
        process = psutil.Process(pid) if pid > 0 else None
        return process if process and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def as_account(account: Account | None) -> dict[str, Any]:
    """The arguments by which subprocess runs a program as this account."""
    return {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}


def _end(roots: list[psutil.Process], sent: signal.Signals, patience: float) -> None:
    family = [*roots, *(child for root in roots for child in _descendants(root))]
    for root in roots:
        _signal(root, sent)
    for process in _left(family, patience):
        _signal(process, signal.SIGKILL)
    _left(family, patience=10)


def _left(processes: list[psutil.Process], patience: float) -> list[psutil.Process]:
    """Those that still run, as soon as there are none or `patience` seconds have passed."""
    deadline = time.monotonic() + patience
    while (left := [process for process in processes if _runs(process)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def _runs(process: psutil.Process) -> bool:
    return alive(process.pid) is not None and bool(process.is_running())


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _signal(process: psutil.Process, sent: signal.Signals) -> None:
    try:
        process.send_signal(sent)
    except psutil.NoSuchProcess:
        return


def _marked(command: Command) -> Iterable[psutil.Process]:
    program = Path(command.argv[0]).name
    for process in psutil.process_iter():
        try:
            argv = process.cmdline()
        except psutil.Error:
            continue
        if argv and Path(argv[0]).name == program and command.marker in argv[1:]:
            yield process


def _noted(command: Command) -> dict[str, Any]:
    try:
        noted: dict[str, Any] = json.loads(command.pid_file.read_text(encoding="utf-8"))
        return noted
    except (OSError, ValueError):
        return {}


def _started(pid: int) -> float:
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return 0.0


def _inherited() -> dict[str, str]:
    # Little, so that a variable of the caller's shell does not change how a service runs.
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
