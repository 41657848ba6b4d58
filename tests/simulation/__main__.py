"""`python -m tests.simulation SEED` runs one seed and prints what happened; `--seeds N` runs so many."""

from __future__ import annotations

import argparse
import logging
import sys
import time

import structlog

from tests.simulation.scheduler import Simulation


def replayed(seed: int) -> int:
    """Print the trace of one seed, the records there were, and what is wrong."""
    simulation, wrong = Simulation(seed), ""
    try:
        simulation.run()
    except Exception as fault:
        wrong = f"{type(fault).__name__}: {fault}"
    print(*simulation.world.trace, *sorted(simulation.world.log.deliveries.values()), sep="\n")
    print(wrong or "nothing is wrong")
    return 1 if wrong else 0


def many(first: int, seeds: int) -> int:
    """Run seeds, print those that fail and how to replay them."""
    began, failing, commits, moves = time.process_time(), 0, 0, 0
    for seed in range(first, first + seeds):
        simulation = Simulation(seed)
        try:
            simulation.run()
        except Exception as fault:
            failing += 1
            print(f"python -m tests.simulation {seed}  # {type(fault).__name__}: {fault}", flush=True)
        commits, moves = commits + simulation.world.commits, moves + len(simulation.world.trace)
    seconds = time.process_time() - began
    print(
        f"{seeds} seeds, {moves} steps, {commits} commits, {failing} failing, {seconds:.0f} s of CPU", file=sys.stderr
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
