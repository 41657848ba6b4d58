"""`python -m benchmarks.peers.table FILE… > …`: the Markdown table of measured runs, medians over the rounds."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

OURS = "ours"
Run = dict[str, Any]
# Figure, how it is called, and its unit.
SPEED = (
    ("load_s", "first load, s"),
    ("load_embedded", "texts embedded for it"),
    ("edits_s", "1 % of the texts edited in one transaction: all fresh, s"),
    ("single_edit_s", "one text edited: fresh, s (median of 10)"),
    ("touched_embedded", "another column of 10 % edited: texts embedded again"),
)
LONG = (
    ("long_load_s", "first load, s"),
    ("long_load_embedded", "chunks embedded for it"),
    ("long_edit_s", "one text edited at its beginning: fresh, s"),
    ("long_edit_embedded", "chunks embedded for it"),
)


def markdown(runs: Sequence[Run]) -> str:
    """All tables there are runs for: speed, long texts, right or wrong."""
    parts = []
    for size in sorted({run["rows"] for run in runs if run["kind"] == "short" and "rows" in run}):
        parts += _speed(f"{size:,} rows of about 60 words", _of(runs, "short", size), SPEED)
    for size in sorted({run["rows"] for run in runs if run["kind"] == "long" and "rows" in run}):
        parts += _speed(f"{size:,} texts of 1,200 words", _of(runs, "long", size), LONG)
    if judged := [run for run in runs if run["kind"] == "cases"]:
        parts += _verdicts(judged)
    return "\n".join(parts) + "\n"


def _of(runs: Sequence[Run], kind: str, size: int) -> list[Run]:
    return [run for run in runs if run["kind"] == kind and run.get("rows") == size]


def _speed(title: str, runs: Sequence[Run], figures: Iterable[tuple[str, str]]) -> list[str]:
    names = _names(runs)
    measured = {
        name: [run["figures"] for run in runs if run["contender"] == name and "figures" in run] for name in names
    }
    failed = {name: sum("failed" in run for run in runs if run["contender"] == name) for name in names}
    head = [f"{name} ({len(measured[name])} of {len(measured[name]) + failed[name]} runs)" for name in names]
    lines = [f"### {title}", "", _row(["", *head]), _row(["---"] * (len(names) + 1))]
    loads = [[run["machine"]["load_before"] for run in runs if run["contender"] == name] for name in names]
    lines.append(_row(["load average of the machine before it", *map(_spread, loads)]))
    for figure, called in figures:
        values = [[run[figure] for run in measured[name]] for name in names]
        lines.append(_row([called, *(_spread(found) for found in values)]))
        if figure.endswith("_s"):
            lines.append(_row(["… times ours, by round", *(_ratio(measured, name, figure) for name in names)]))
    return [*lines, ""]


def _verdicts(runs: Sequence[Run]) -> list[str]:
    names = _names(runs)
    last = {run["contender"]: run for run in runs}
    cases = list(dict.fromkeys(case for run in last.values() for case in run.get("verdicts", {})))
    lines = ["### Right or wrong", "", _row(["", *names]), _row(["---"] * (len(names) + 1))]
    verdicts = {name: last[name].get("verdicts", {}) for name in names}
    return [*lines, *(_row([case, *(verdicts[name].get(case, "not judged") for name in names)]) for case in cases), ""]


def _names(runs: Sequence[Run]) -> list[str]:
    found = dict.fromkeys(run["contender"] for run in runs)
    return sorted(found, key=lambda name: name != OURS)


def _ratio(measured: dict[str, list[dict[str, float]]], name: str, figure: str) -> str:
    """The median of the rounds' own ratios: what slows a round down slows both."""
    pairs = list(zip(measured[name], measured.get(OURS, []), strict=False))
    return f"{median(theirs[figure] / ours[figure] for theirs, ours in pairs):.2f}" if pairs else "-"


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    if min(values) == max(values):
        return _number(values[0])
    return f"{_number(median(values))} ({_number(min(values))} to {_number(max(values))})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.2f}" if value < 1 else f"{value:.1f}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    found = [run for path in sys.argv[1:] for run in json.loads(Path(path).read_text(encoding="utf-8"))["runs"]]
    sys.stdout.write(markdown(found))
