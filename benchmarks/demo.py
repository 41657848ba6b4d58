"""How long `embed-consumer demo` takes, warm, and its parts: as a person runs it, in a folder that is new.

A first run, which is not counted, downloads what is missing; the target of 120 s is for what comes after.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure

TARGET_SECONDS = 120.0


def measure(folder: Path) -> Sequence[Figure]:
    """`demo_seconds` against the target, and `demo_<phase>_seconds`, whose baseline is the whole."""
    _run(folder / "first", "--rows", "200")
    told = _run(folder / "demo")
    total = told["seconds"]
    figures = [Figure("demo_seconds", total, "s", "the target of 120 s", round(total / TARGET_SECONDS, 3))]
    for phase, seconds in told["phases"].items():
        name = f"demo_{phase.replace(' ', '_')}_seconds"
        figures.append(Figure(name, seconds, "s", "the whole demo, same run", round(seconds / total, 3)))
    return figures


def _run(home: Path, *arguments: str) -> dict[str, Any]:
    """What the demo says in JSON. Raises if it fails, having ended everything it started."""
    script = Path(sysconfig.get_path("scripts")) / "embed-consumer"
    command = [sys.executable, str(script), "demo", "--json", "--down", "--home", str(home), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
