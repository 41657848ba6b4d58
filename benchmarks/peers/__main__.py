"""`python -m benchmarks.peers`: run contenders side by side, one after another, in an order that turns round by round.

`--install NAME` makes a peer's environment. `--rounds N` measures speed, `--cases` right or wrong, `--long N` a load
of N long texts. Each run is added to `--out` when it is over, and what is there already is not run again: a series
that was interrupted, or cut into pieces by `--minutes`, goes on where it stood when the same command is given again.
`python -m benchmarks.peers.table FILE` makes the Markdown tables of it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Any

import psycopg
from psycopg import sql

from benchmarks.figures import RESULTS, machine
from benchmarks.peers import cases, environments, maven, reference, speed
from benchmarks.peers.cocoindex import CocoIndex
from benchmarks.peers.contender import DATABASE, THREADS, Contender, Site
from benchmarks.peers.debeziumai import DebeziumAI
from benchmarks.peers.ours import Ours, OursInBfloat16
from benchmarks.peers.pathway import Pathway
from benchmarks.peers.pgai import Pgai
from benchmarks.peers.pydebeziumai import PyDebeziumAI
from benchmarks.peers.trial import TooLate, Trial, trial
from consumer.local import Stack, interrupt_on_signals

CONTENDERS: Mapping[str, type[Contender]] = {
    "ours": Ours,
    "ours-bfloat16": OursInBfloat16,
    "pgai": Pgai,
    "cocoindex": CocoIndex,
    "pathway": Pathway,
    "pydebeziumai": PyDebeziumAI,
    "debeziumai": DebeziumAI,
}


@dataclass(frozen=True)
class Job:
    """One contender once. `kind` is `short`, `long` or `cases`; `rows` of the first load, 0 for cases."""

    kind: str
    rows: int
    round: int
    contender: str


def main() -> None:
    asked = _arguments()
    interrupt_on_signals()
    if asked.install:
        for peer in asked.install:
            maven.install() if peer == maven.PEER else environments.install(peer)
        return
    out = asked.out or RESULTS / f"peers-{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}.json"
    kept = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {"runs": []}
    done = {Job(run["kind"], run["rows"], run["round"], run["contender"]) for run in kept["runs"]}
    jobs = [job for job in _jobs(asked) if job not in done]
    deadline = time.monotonic() + 60 * asked.minutes
    with _stack() as (stack, folder):
        for job in jobs:
            if time.monotonic() > deadline:
                break
            kept["runs"].append(_run(stack, folder, job, asked.cap))
            print(json.dumps(kept["runs"][-1]), flush=True)
            out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.peers", description=__doc__)
    parser.add_argument("--contender", action="append", choices=CONTENDERS, help="again for more; default: all")
    parser.add_argument("--install", action="append", default=[], help="make this peer's environment, and nothing else")
    parser.add_argument("--rows", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--long", type=int, default=0, help="so many long texts, once")
    parser.add_argument("--cases", action="store_true", help="right or wrong, once")
    parser.add_argument("--cap", type=float, default=900, help="seconds after which a load counts as not finished")
    parser.add_argument("--minutes", type=float, default=24 * 60, help="begin no run after so many")
    parser.add_argument("--out", type=Path, help="file to add to; default: a new one in benchmarks/results")
    return parser.parse_args()


def _jobs(asked: argparse.Namespace) -> Iterator[Job]:
    """What to run, in turn. Every other round goes backwards, so that nobody is always first on a warm machine."""
    names = asked.contender or list(CONTENDERS)
    for number in range(1, asked.rounds + 1):
        yield from (Job("short", asked.rows, number, name) for name in (names if number % 2 else names[::-1]))
    if asked.long:
        yield from (Job("long", asked.long, 1, name) for name in names)
    if asked.cases:
        yield from (Job("cases", 0, 1, name) for name in names)


def _run(stack: Stack, folder: Path, job: Job, cap: float) -> dict[str, Any]:
    """What it measured, or why it did not."""
    contender = CONTENDERS[job.contender]
    run: dict[str, Any] = asdict(job) | {"at": f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}"}
    if why := contender.missing():
        return run | {"not_run": why}
    run |= {"versions": dict(contender.versions()), "given": list(contender.given)}
    run |= {"machine": machine() | {"threads": THREADS}}
    with _services(stack, contender), tempfile.TemporaryDirectory(dir=folder) as here:
        made = contender(Site(stack, stack.endpoints(), Path(here), f"peer_{token_hex(4)}"))
        try:
            with trial(made) as world:
                return run | _measured(world, job, cap)
        except TooLate as failure:
            traceback.print_exc(file=sys.stderr)
            with suppress(OSError):
                _tell((Path(here) / "program.log").read_text(errors="replace").splitlines())
            return run | {"failed": f"{type(failure).__name__}: {failure}"[:300]}


def _tell(log: list[str]) -> None:
    """What a contender's log says of its end: lines that name an error, and the last ones."""
    errors = [line for line in log if any(word in line for word in ("ERROR", "Exception", "Error:", "Caused by"))]
    print("\n".join([*errors[:20], "…", *log[-20:]]), file=sys.stderr)


def _measured(world: Trial, job: Job, cap: float) -> dict[str, Any]:
    if job.kind == "cases":
        return {"verdicts": dict(cases.judge(world))}
    if job.kind == "long":
        return {"figures": dict(speed.long_texts(world, job.rows, cap))}
    figures = dict(speed.short_texts(world, job.rows, cap))
    return {"figures": figures, "cosine": reference.worst_cosine(world.vectors(20))}


@contextmanager
def _services(stack: Stack, contender: type[Contender]) -> Iterator[None]:
    """Only what it needs runs beside Postgres: nobody pays for another one's broker."""
    if contender.services:
        stack.up()
    else:
        for service in ("connect", "kafka"):
            stack.stop(service)
    yield


@contextmanager
def _stack() -> Iterator[tuple[Stack, Path]]:
    """A stack of its own with the peers' database, and a folder for the contenders' files; nothing of it stays."""
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder) / "stack")
        try:
            stack.up()
            _make_database(stack)
            yield stack, Path(folder)
        finally:
            stack.down(purge=True)


def _make_database(stack: Stack) -> None:
    with psycopg.connect(stack.endpoints().admin_source_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
    site = Site(stack, stack.endpoints(), Path(), "")
    with psycopg.connect(site.admin, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")


if __name__ == "__main__":
    main()
