"""The consumer under what docker-compose.yml gives it: a read-only root, one folder to write in, no capabilities."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.envelopes import change, row
from tests.world import World

# In a mount namespace of its own: nothing of it is seen outside.
_CONFINED = """
mount --make-rprivate / && mount -t tmpfs tmpfs "$TMPDIR" && mount -o remount,bind,ro / || exit 99
exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
"""
MAY_NOT = 99


def confined(folder: Path, log: Path, *command: str) -> subprocess.Popen[bytes]:
    """A process that may write to an empty folder in memory and nowhere else."""
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    environment = os.environ | {"TMPDIR": str(scratch), "HOME": str(scratch)}
    with log.open("wb") as out:
        return subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", _CONFINED, "sh", *command],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=folder, env=environment,
        )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """For the processes; skips where a test may not make a namespace."""
    if os.geteuid() != 0 or not (shutil.which("unshare") and shutil.which("setpriv")):
        pytest.skip("needs root, unshare and setpriv to make what a container has; test_compose.py has the settings")
    touch = ["sh", "-c", f'touch "$TMPDIR/mine" && ! touch "{tmp_path}/not-mine"']
    if (code := confined(tmp_path, tmp_path / "probe.log", *touch).wait(60)) == MAY_NOT:
        pytest.skip("may not mount here; test_compose.py has the settings")
    assert code == 0, (tmp_path / "probe.log").read_text()
    return tmp_path


def test_the_consumer_writes_nowhere_but_into_its_scratch_folder(world: World, folder: Path) -> None:
    world.tables = world.tables[:1]
    world.create_topic()
    world.migrate()
    world.produce(*(change(row(number), "c") for number in range(5)))
    log = folder / "confined.log"
    consumer = confined(
        world.folder, log, sys.executable, "-c", "from consumer.cli import main; main()", "--group", world.name
    )
    try:

        def done() -> bool:
            assert consumer.poll() is None, log.read_text()[-3000:]
            return len(world.store("SELECT 1 FROM chunks")) == 5

        world.until(done, timeout=120)
        consumer.send_signal(signal.SIGTERM)
        assert consumer.wait(60) == 0
    finally:
        consumer.kill()
        consumer.wait(60)
    assert "Traceback" not in log.read_text()
