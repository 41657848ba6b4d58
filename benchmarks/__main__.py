"""Run the benchmark groups: `python -m benchmarks [--only GROUP]`."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import decode, detection, freshness, memory
from benchmarks.figures import Figure, machine, report
from consumer.local import Endpoints, Stack

GROUPS: dict[str, Callable[[Endpoints, Path], Sequence[Figure]]] = {
    "decode": decode.measure,
    "detection": detection.measure,
    "freshness": freshness.measure,
    "memory": memory.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--only", choices=sorted(GROUPS), help="one group instead of all")
    only = parser.parse_args().only
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder) / "stack")
        try:
            endpoints = stack.up()
            stack.register_connector()
            for group in [only] if only else GROUPS:
                facts = machine()
                report(GROUPS[group](endpoints, Path(folder)), facts, group)
        finally:
            stack.down(purge=True)


if __name__ == "__main__":
    main()
