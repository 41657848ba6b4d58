"""README's "Try it by hand", typed as it stands into a folder of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.local import Stack
from tests.stacks import ROOT, local_only

pytestmark = [pytest.mark.stack, local_only, pytest.mark.timeout(600)]

README = (ROOT / "README.md").read_text(encoding="utf-8")
RUNS = "embed-consumer --group prod"


def blocks(heading: str, language: str = "") -> list[str]:
    """The code blocks of a section."""
    section = README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


def shell(script: str, folder: Path, timeout: float = 300) -> str:
    """What a person's shell prints, with the virtual environment on its path; a command that fails fails the test."""
    done = subprocess.run(
        ["bash", "-e"], input=script, cwd=folder, env=environment(), capture_output=True, text=True, timeout=timeout,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "EMBEDDING_HTTP__LISTEN": "127.0.0.1:0"}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    Stack(tmp_path / ".embed-consumer").down(purge=True)


def test_the_commands_of_the_readme_do_what_it_says(folder: Path) -> None:
    first, second = blocks("Try it by hand")
    prepare = first.partition(RUNS)[0].replace("make setup && . .venv/bin/activate\n", "")
    shell(prepare, folder)
    insert, asks = second.split("\n", 1)
    asks = asks.partition("embed-consumer stack down")[0]
    with subprocess.Popen(RUNS.split(), cwd=folder, env=environment(), stderr=subprocess.DEVNULL) as consumer:
        try:
            shell(insert, folder)
            deadline = time.monotonic() + 300
            (query,) = blocks("Settings", "sql")
            while '{"id": 1}' not in (found := shell(f".embed-consumer/sql vectors <<'SQL'\n{query}SQL", folder)):
                assert time.monotonic() < deadline, found
                time.sleep(0.2)
            told = shell(asks, folder)
        finally:
            consumer.send_signal(signal.SIGTERM)
    assert consumer.returncode == 0
    assert "FRESH" in told
    assert "Old brass, for the hallway" in told
    shell("embed-consumer stack down", folder)
    assert {service.state for service in Stack(folder / ".embed-consumer").status()} == {"stopped"}


def test_the_settings_of_the_readme_are_valid(tmp_path: Path) -> None:
    text = "\n".join(blocks("Settings", "yaml"))
    (tmp_path / "embed-consumer.yaml").write_text(text, encoding="utf-8")
    shell("EMBEDDING_REGISTRY__PASSWORD=word embed-consumer config validate", tmp_path)
