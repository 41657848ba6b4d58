"""`python -m benchmarks.peers`: run contenders side by side, one after another, in an order that alternates by round.

`--install NAME` makes a peer's environment. `--rounds N` measures speed, `--cases` right or wrong, `--long N` a load
of N long texts. What a run measures is added to `--out`, so that a long series may be cut into pieces;
`python -m benchmarks.peers.table FILE` makes the Markdown tables of it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Any

import psycopg
from psycopg import sql

from benchmarks.figures import RESULTS, machine
from benchmarks.peers import cases, environments, reference, speed
from benchmarks.peers.cocoindex import CocoIndex
from benchmarks.peers.contender import DATABASE, THREADS, Contender, Site
from benchmarks.peers.ours import Ours
from benchmarks.peers.pathway import Pathway
from benchmarks.peers.pgai import Pgai
from benchmarks.peers.pydebeziumai import PyDebeziumAI
from benchmarks.peers.trial import TooLate, Trial, trial
from consumer.local import Stack, interrupt_on_signals

CONTENDERS: Mapping[str, type[Contender]] = {
    "ours": Ours,
    "pgai": Pgai,
    "cocoindex": CocoIndex,
    "pathway": Pathway,
    "pydebeziumai": PyDebeziumAI,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.peers", description=__doc__)
    parser.add_argument("--contender", action="append", choices=CONTENDERS, help="again for more; default: all")
    parser.add_argument("--install", action="append", default=[], help="make this peer's environment, and nothing else")
    parser.add_argument("--rows", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--long", type=int, default=0, help="so many long texts, once")
    parser.add_argument("--cases", action="store_true", help="right or wrong, once")
    parser.add_argument("--cap", type=float, default=900, help="seconds after which a load counts as not finished")
    parser.add_argument("--out", type=Path, help="file to add to; default: a new one in benchmarks/results")
    asked = parser.parse_args()
    interrupt_on_signals()
    if asked.install:
        for peer in asked.install:
            environments.install(peer)
        return
    names = asked.contender or list(CONTENDERS)
    out = asked.out or RESULTS / f"peers-{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}.json"
    kept = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {"runs": []}
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder) / "stack")
        try:
            stack.up()
            _make_database(stack)
            for kind, name in _plan(asked, names, len(kept["runs"])):
                kept["runs"].append(_run(stack, Path(folder), kind, name, asked))
                print(json.dumps(kept["runs"][-1]), flush=True)
                out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        finally:
            stack.down(purge=True)


def _plan(asked: argparse.Namespace, names: list[str], before: int) -> Iterator[tuple[str, str]]:
    """What to run, in turn. Every other round goes backwards, so that nobody is always first on a warm machine."""
    for number in range(asked.rounds):
        turned = (before // max(1, len(names)) + number) % 2
        yield from (("short", name) for name in (names[::-1] if turned else names))
    for kind, wanted in (("long", asked.long), ("cases", asked.cases)):
        if wanted:
            yield from ((kind, name) for name in names)


def _run(stack: Stack, folder: Path, kind: str, name: str, asked: argparse.Namespace) -> dict[str, Any]:
    """One contender once: what it measured, or why it did not."""
    contender = CONTENDERS[name]
    run: dict[str, Any] = {"kind": kind, "contender": name, "at": f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}"}
    if why := contender.missing():
        return run | {"not_run": why}
    run |= {"versions": dict(contender.versions()), "given": list(contender.given)}
    run |= {"machine": machine() | {"threads": THREADS}, "rows": asked.rows if kind == "short" else asked.long}
    with _services(stack, contender), tempfile.TemporaryDirectory(dir=folder) as here:
        made = contender(Site(stack, stack.endpoints(), Path(here), f"peer_{token_hex(4)}"))
        try:
            with trial(made) as world:
                return run | _measured(world, kind, asked)
        except TooLate as failure:
            traceback.print_exc(file=sys.stderr)
            with suppress(OSError):
                print((Path(here) / "program.log").read_text(errors="replace")[-3000:], file=sys.stderr)
            return run | {"failed": f"{type(failure).__name__}: {failure}"[:300]}


def _measured(world: Trial, kind: str, asked: argparse.Namespace) -> dict[str, Any]:
    if kind == "cases":
        return {"verdicts": dict(cases.judge(world))}
    if kind == "long":
        return {"figures": dict(speed.long_texts(world, asked.long, asked.cap))}
    figures = dict(speed.short_texts(world, asked.rows, asked.cap))
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


def _make_database(stack: Stack) -> None:
    with psycopg.connect(stack.endpoints().admin_source_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
    site = Site(stack, stack.endpoints(), Path(), "")
    with psycopg.connect(site.admin, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")


if __name__ == "__main__":
    main()
