"""`python -m tests.simulation SEED` runs one seed and prints what happened; `--seeds N` runs so many."""

from __future__ import annotations

import argparse
import logging
import sys
import time

import structlog

from tests.simulation.scheduler import lived


def replayed(seed: int) -> int:
    """Print the trace of one seed, the records there were, and what is wrong."""
    simulation, failure = lived(seed)
    print(*simulation.world.trace, *sorted(simulation.world.log.deliveries.values()), sep="\n")
    print(failure or "nothing is wrong")
    return 1 if failure else 0


def many(first: int, seeds: int) -> int:
    """Run seeds, print those that fail and how to replay them."""
    began, failing, commits, steps = time.process_time(), 0, 0, 0
    for seed in range(first, first + seeds):
        simulation, failure = lived(seed)
        if failure:
            failing += 1
            print(failure, flush=True)
        commits, steps = commits + simulation.world.commits, steps + len(simulation.world.trace)
    seconds = time.process_time() - began
    print(
        f"{seeds} seeds, {steps} steps, {commits} commits, {failing} failing, {seconds:.0f} s of CPU", file=sys.stderr
    )
    return 1 if failing else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", nargs="?", type=int, help="run this one and print its trace")
    parser.add_argument("--seeds", type=int, help="run so many")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default 0)")
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    if (asked.seed is None) == (asked.seeds is None):
        parser.error("give a SEED, or --seeds N")
    return replayed(asked.seed) if asked.seed is not None else many(asked.first, asked.seeds)


if __name__ == "__main__":
    sys.exit(main())
