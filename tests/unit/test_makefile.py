"""The Makefile, as a shell reads it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_setup_installs_into_its_own_folder_whatever_that_is_called(tmp_path: Path) -> None:
    folder = tmp_path / "a stranger's (new) folder"
    for made in (folder / ".venv", folder / "stub"):
        made.mkdir(parents=True)
    for name in ("Makefile", "requirements.lock", "requirements-bootstrap.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    for name in ("python", "uv"):
        program = folder / "stub" / name
        program.write_text("#!/bin/sh\necho $(basename $0) installs into ${VIRTUAL_ENV:-itself}\n")
        program.chmod(0o755)
    make = ["make", "--silent", "setup", "PYTHON=true", "BIN=stub"]
    clean = {"PATH": os.environ["PATH"]}
    done = subprocess.run(make, cwd=folder, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["python installs into itself", *[f"uv installs into {folder}/.venv"] * 2]
