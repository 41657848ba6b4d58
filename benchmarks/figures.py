"""A figure: one JSON line on stdout, and part of the run's file in `benchmarks/results/`; the newest of each group."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "sentence-transformers", "confluent-kafka", "psycopg", "msgspec", "fastavro")


@dataclass(frozen=True)
class Figure:
    """`ratio` is `value` over the value of `baseline`, both measured in this run; None where there is none."""

    name: str
    value: float
    unit: str
    baseline: str = ""
    ratio: float | None = None


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed."""
    return sorted(values)[min(len(values) - 1, max(0, round(share * len(values) + 0.5) - 1))]


def machine() -> dict[str, object]:
    """The facts without which a figure says nothing."""
    return {
        "cpu": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "gpu": "not measured on a GPU",
    }


def report(figures: Sequence[Figure], facts: dict[str, object], group: str, *, keep: bool = True) -> None:
    """Print each figure as one JSON line, and `keep` the run in a file."""
    for figure in figures:
        print(json.dumps(asdict(figure)), flush=True)
    if not keep:
        return
    RESULTS.mkdir(exist_ok=True)
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ")
    path = RESULTS / f"{group}-{stamp}.json"
    run = {"group": group, "at": stamp, "machine": facts, "figures": [asdict(figure) for figure in figures]}
    path.write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path.relative_to(RESULTS.parent.parent)}", file=sys.stderr)


def newest(folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Group -> its newest run, with the name of its `file`; groups in alphabetical order."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.json")):
        run = json.loads(path.read_text(encoding="utf-8"))
        if "group" in run and run["at"] >= found.get(run["group"], run)["at"]:
            found[run["group"]] = {**run, "file": path.name}
    return dict(sorted(found.items()))


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Least-squares slope of (x, y) points."""
    return statistics.linear_regression([x for x, _ in points], [y for _, y in points]).slope


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
