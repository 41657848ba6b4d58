"""Seeds by the thousand: whatever happens in whatever order, the store ends as the source is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.scheduler import Simulation, lived

SEEDS = 2_000


@pytest.mark.semantics("order", "however the log is cut into batches, and whatever part is read again")
@pytest.mark.semantics("order", "events that a restarted connector delivers again")
def test_nothing_is_lost_doubled_or_mixed_up_whatever_happens() -> None:
    failing = [failure for seed in range(SEEDS) if (failure := lived(seed)[1])]
    assert not failing, "\n".join(failing)


class Forgetful(Simulation):
    """A store that forgets what it has when time passes."""

    def _pass_time(self) -> None:
        self.world.database.documents.clear()


def test_a_failing_seed_prints_one_line_that_replays_it() -> None:
    failing = {seed: failure for seed in range(50) if (failure := lived(seed, Forgetful)[1])}
    assert len(failing) > 10
    for seed, failure in failing.items():
        assert failure.splitlines() == [failure]
        assert failure.startswith(f"python -m tests.simulation {seed}  # Violation: ")
        assert lived(seed, Forgetful)[1] == failure


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
