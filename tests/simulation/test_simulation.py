"""Seeds by the thousand: whatever happens in whatever order, the store ends as the source is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.scheduler import Simulation

SEEDS = 2_000


@pytest.mark.semantics("order", "however the log is cut into batches, and whatever part is read again")
@pytest.mark.semantics("order", "events that a restarted connector delivers again")
def test_nothing_is_lost_doubled_or_mixed_up_whatever_happens() -> None:
    failing = []
    for seed in range(SEEDS):
        try:
            Simulation(seed).run()
        except Exception as fault:
            failing.append(f"python -m tests.simulation {seed}  # {type(fault).__name__}: {fault}")
    assert not failing, "\n".join(failing)


def test_the_same_seed_gives_the_same_run_in_any_process() -> None:
    """Also where Python orders its sets otherwise."""
    for seed in range(30):
        assert Simulation(seed).run().trace == Simulation(seed).run().trace
    command = [sys.executable, "-m", "tests.simulation", "7"]
    here = Path(__file__).parents[2]
    printed = {
        subprocess.run(
            command, cwd=here, env=os.environ | {"PYTHONHASHSEED": number}, check=True, capture_output=True
        ).stdout
        for number in ("1", "2")
    }
    assert len(printed) == 1
    assert len(printed.pop().splitlines()) > 30
