"""Postgres with pgvector, on loopback: the source database and the store in one cluster."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from consumer.errors import Stop
from consumer.local import binaries, ports, processes
from consumer.local.processes import Account, Command, as_account
from consumer.local.resources import resource
from consumer.local.services import Service
from consumer.local.state import Layout, State
from consumer.local.versions import POSTGRES_SETTINGS, ROLES


@dataclass(frozen=True)
class Cluster:
    """One database cluster: its programs, its data folder, the account it runs as and the schema it is prepared for."""

    layout: Layout
    state: State
    programs: Path
    data: Path
    account: Account | None
    schema: str

    def service(self) -> Service:
        """The server as this stack runs it."""
        settings = POSTGRES_SETTINGS | {
            "listen_addresses": ports.HOST,
            "port": str(self.state.port("postgres")),
            "unix_socket_directories": "",
        }
        command = Command(
            argv=(
                str(self.programs / "postgres"),
                "-D",
                str(self.data),
                *(part for key, value in settings.items() for part in ("-c", f"{key}={value}")),
            ),
            marker=str(self.data),
            env={},
            log=self.layout.log("postgres"),
            pid_file=self.layout.pid_file("postgres"),
            account=self.account,
            stop_signal=signal.SIGINT,  # a fast shutdown: it does not wait for clients to leave
        )
        return Service(
            "postgres",
            self.state.port("postgres"),
            command,
            ready=self._answers,
            prepare=self._create,
            settle=self._prepare_databases,
            sweep=self._sweep,
        )

    def _create(self) -> None:
        """Makes the cluster, at once or not at all."""
        if self.data.is_dir():
            # Nothing runs there any more: its lock file holds a pid that may be anybody's by now.
            (self.data / "postmaster.pid").unlink(missing_ok=True)
            return
        self.data.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.data.parent, prefix=".new-") as folder:
            secret, new = Path(folder) / "password", Path(folder) / "cluster"
            secret.touch(mode=0o600)
            secret.write_text(self.state.passwords["postgres"], encoding="utf-8")
            if self.account:
                for path in (Path(folder), secret):
                    os.chown(path, self.account.uid, self.account.gid)
            argv = ["initdb", "-D", str(new), "-U", "postgres", "--pwfile", str(secret), "-A", "scram-sha-256"]
            self._run(
                [*argv, "-E", "UTF8", "--locale-provider=builtin", "--locale=C.UTF-8", "--no-sync"],
                {},
                "initdb",
                folder=Path(folder),
            )
            new.rename(self.data)

    def _sweep(self) -> None:
        """Ends backends that outlived a killed server, and an initdb that outlived a killed start."""
        processes.clear(self.data)
        for part in self.data.parent.glob(".new-*"):
            processes.clear(part)
            shutil.rmtree(part)

    def _prepare_databases(self) -> None:
        """Roles, databases, publication and extension, by the files of ops/postgres; once for each version of them."""
        scripts = sorted(resource("ops/postgres").glob("*.sql"))
        digest = hashlib.sha256(b"".join([self.schema.encode(), *(script.read_bytes() for script in scripts)]))
        if self.state.prepared == digest.hexdigest():
            return
        passwords = {variable: self.state.passwords[role] for role, variable in ROLES.items()}
        login = {"PGPASSWORD": self.state.passwords["postgres"], "STORE_SCHEMA": self.schema}
        address = ["-h", ports.HOST, "-p", str(self.state.port("postgres")), "-U", "postgres", "-d", "postgres"]
        for script in scripts:
            self._run(["psql", "-X", "-q", *address], login | passwords, "postgres-setup", stdin=script.read_bytes())
        self.state.prepared = digest.hexdigest()
        self.state.save(self.layout)

    def _run(
        self, argv: Sequence[str], env: dict[str, str], log: str, *, stdin: bytes = b"", folder: Path = Path("/")
    ) -> None:
        with self.layout.log(log).open("wb") as out:
            done = subprocess.run(
                [str(self.programs / argv[0]), *argv[1:]],
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"} | env,
                input=stdin,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=folder,
                check=False,
                **as_account(self.account),
            )
        if done.returncode:
            raise Stop(f"Postgres could not be set up ({argv[0]}).", f"The log says why: {self.layout.log(log)}.")

    def _answers(self) -> bool:
        try:
            psycopg.connect(
                host=ports.HOST,
                port=self.state.port("postgres"),
                user="postgres",
                password=self.state.passwords["postgres"],
                dbname="postgres",
                connect_timeout=2,
            ).close()
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                raise Stop(
                    "Postgres does not know this stack's password.",
                    f"{self.layout.state} is not the one its data was made with.",
                    "Run `embed-consumer stack down --purge`, then `stack up`.",
                ) from None
            return False
        return True


def remove(data: Path) -> None:
    """Deletes a cluster's files, and the folder of its own that it may have had outside the stack's home."""
    shutil.rmtree(data, ignore_errors=True)
    if data.is_relative_to(binaries.SHARED_DATA):
        shutil.rmtree(data.parent, ignore_errors=True)
