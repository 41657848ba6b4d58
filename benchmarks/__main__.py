"""Run the benchmark groups: `python -m benchmarks [--only GROUP]`."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import (
    backlog,
    chunks,
    decode,
    demo,
    detection,
    engine,
    freshness,
    growth,
    loaded,
    memory,
    scrape,
    segments,
    skip,
    write,
)
from benchmarks import summary as page
from benchmarks.figures import Figure, machine, report
from consumer.local import Endpoints, Stack

# Those that need no stack or bring their own, and must not share the machine with another.
ALONE: dict[str, Callable[[Path], Sequence[Figure]]] = {
    "chunks": chunks.measure,
    "demo": demo.measure,
    "engine": lambda _: engine.measure(),
}
# For ratios alone, in seconds instead of minutes; writes no file.
QUICK: dict[str, Callable[[], Sequence[Figure]]] = {
    "decode": lambda: decode.compare(15),
    "engine": lambda: engine.measure(quick=True),
}
GROUPS: dict[str, Callable[[Endpoints, Path], Sequence[Figure]]] = {
    "backlog": backlog.measure,
    "decode": decode.measure,
    "detection": detection.measure,
    "freshness": lambda endpoints, folder: [*freshness.measure(endpoints, folder), *loaded.measure(endpoints, folder)],
    "growth": growth.measure,
    "memory": memory.measure,
    "scrape": scrape.measure,
    "segments": segments.measure,
    "skip": skip.measure,
    "write": write.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--only", choices=sorted(ALONE | GROUPS), help="one group instead of all")
    parser.add_argument("--quick", action="store_true", help="only ratios, briefly, of what needs no services")
    arguments = parser.parse_args()
    only = arguments.only
    if arguments.quick:
        for group in [group for group in QUICK if only in (None, group)]:
            report(QUICK[group](), machine(), group, keep=False)
        return
    with tempfile.TemporaryDirectory() as folder:
        chosen = [only] if only else [*ALONE, *GROUPS]
        for group in [group for group in chosen if group in ALONE]:
            facts = machine()
            report(ALONE[group](Path(folder)), facts, group)
        if shared := [group for group in chosen if group in GROUPS]:
            _on_a_stack(shared, Path(folder))
    page.main()


def _on_a_stack(groups: Sequence[str], folder: Path) -> None:
    stack = Stack(folder / "stack")
    try:
        endpoints = stack.up()
        stack.register_connector()
        for group in groups:
            facts = machine()
            report(GROUPS[group](endpoints, folder), facts, group)
    finally:
        stack.down(purge=True)


if __name__ == "__main__":
    main()
