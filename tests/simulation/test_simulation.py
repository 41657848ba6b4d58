"""Seeds by the thousand: whatever happens in whatever order, the store ends as the source is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.simulation.scheduler import Simulation, lived

SEEDS = 2_000
# What must be in the traces often enough, or the seeds have proved nothing of it.
HAPPENS = {
    "crash before the transaction": r"crashes before begin",
    "crash after COMMIT, before its reply": r"crashes before committed",
    "crash before the model answers": r"crashes before embed",
    "rebalance that waits for the owner": r"the former owner waits",
    "rebalance that the owner hears of late": r"the former owner late",
    "zombie": r"the former owner never",
    "COMMIT that did not arrive": r"commit fails",
    "COMMIT whose reply is lost": r"committed fails",
    "look-up that is not answered": r"lookup fails",
    "assignment that the store does not answer": r"acquires later",
    "redelivery by the connector": r"delivers again",
    "snapshot row": r"reads row",
    "slow embed": r"is still embedding",
    "retry of failed documents": r"member \d+: retries",
    "replay": r"replay of \d: from",
    "replay by force": r"by force",
    "partition added": r"has [234] partitions",
    "truncate": r"op='t'",
    "key change": r"op='d'.*other_key=\d",
}


@pytest.mark.semantics("order", "however the log is cut into batches, and whatever part is read again")
@pytest.mark.semantics("order", "events that a restarted connector delivers again")
def test_nothing_is_lost_doubled_or_mixed_up_whatever_happens() -> None:
    failing, happened = [], Counter[str]()
    for seed in range(SEEDS):
        simulation, failure = lived(seed)
        failing += [failure] if failure else []
        trace = "\n".join(simulation.world.trace)
        happened.update({what: len(re.findall(pattern, trace)) for what, pattern in HAPPENS.items()})
    assert not failing, "\n".join(failing)
    seldom = {what: happened[what] for what in HAPPENS if happened[what] < SEEDS // 100}
    assert not seldom, "too little has happened for this to mean anything"


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
