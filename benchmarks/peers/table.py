"""`python -m benchmarks.peers.table FILE… > …`: the Markdown tables of measured runs, medians over the rounds."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
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
# Figure, how it is called, and how many times as long the best peer shall need.
GOALS = (
    ("load_s", "first load", 2),
    ("edits_s", "1 % of the texts edited: all fresh", 4),
    ("single_edit_s", "one text edited: fresh", 4),
)


def markdown(runs: Sequence[Run]) -> str:
    """All tables there are runs for: speed, goals, long texts, right or wrong, and who did not run."""
    parts = []
    for size in sorted({run["rows"] for run in runs if run["kind"] == "short"}):
        found = _of(runs, "short", size)
        parts += _speed(f"{size:,} rows of about 60 words", found, SPEED) + _goals(f"{size:,} rows", found)
    for size in sorted({run["rows"] for run in runs if run["kind"] == "long"}):
        parts += _speed(f"{size:,} texts of 1,200 words", _of(runs, "long", size), LONG)
    if judged := [run for run in runs if run["kind"] == "cases" and "not_run" not in run]:
        parts += _verdicts(judged)
    if absent := {run["contender"]: run["not_run"] for run in runs if "not_run" in run}:
        parts += ["### Not run", "", *(f"- {name}: {why}" for name, why in absent.items()), ""]
    return "\n".join(parts)


def _of(runs: Sequence[Run], kind: str, size: int) -> list[Run]:
    return [run for run in runs if run["kind"] == kind and run["rows"] == size and "not_run" not in run]


def _speed(title: str, runs: Sequence[Run], figures: Iterable[tuple[str, str]]) -> list[str]:
    names = _names(runs)
    measured = {name: _measured(runs, name) for name in names}
    tried = [sum(run["contender"] == name for run in runs) for name in names]
    head = [f"{name} ({len(measured[name])} of {count} runs)" for name, count in zip(names, tried, strict=True)]
    lines = [f"### {title}", "", _row(["", *head]), _row(["---"] * (len(names) + 1))]
    loads = [[run["machine"]["load_before"] for run in runs if run["contender"] == name] for name in names]
    lines.append(_row(["load average of the machine before it", *map(_spread, loads)]))
    for figure, called in figures:
        values = [[run[figure] for run in measured[name].values()] for name in names]
        lines.append(_row([called, *map(_spread, values)]))
        if figure.endswith("_s"):
            ratios = [_ratios(measured, name, figure) for name in names]
            shown = [f"{median(found):.2f}" if found else "-" for found in ratios]
            lines.append(_row(["… times ours, by round", *shown]))
    cosines = [[run["cosine"] for run in runs if run["contender"] == name and "cosine" in run] for name in names]
    if any(cosines):
        shown = [f"{min(found):.4f}" if found else "-" for found in cosines]
        lines.append(_row(["smallest cosine of 20 vectors to sentence-transformers'", *shown]))
    why = [f"{run['contender']}, round {run['round']}: {run['failed']}" for run in runs if "failed" in run]
    return [*lines, "", *(f"Not finished: {reason}." for reason in why), *([""] if why else [])]


def _goals(title: str, runs: Sequence[Run]) -> list[str]:
    """Ours against the best peer, figure by figure; nothing where no peer has a round with ours."""
    measured = {name: _measured(runs, name) for name in _names(runs)}
    lines = []
    for figure, called, wanted in GOALS:
        found = {name: _ratios(measured, name, figure) for name in measured if not name.startswith(OURS)}
        there = {name: median(ratios) for name, ratios in found.items() if ratios}
        if there:
            best = min(there, key=lambda name: there[name])
            verdict = "reached" if there[best] >= wanted else "not reached" if there[best] >= 1 else "it is faster"
            who, rounds, needs = f"{best} (of {len(there)})", str(len(found[best])), f"{there[best]:.2f} times ours"
            cells = [called, who, rounds, needs, f"{wanted} times", verdict]
            lines.append(_row(cells))
    if not lines:
        return []
    needless = max(run["touched_embedded"] for run in measured[OURS].values())
    verdict = "not reached" if needless else "reached"
    cells = ["texts that we embed without need", "", f"{len(measured[OURS])}", _number(needless), "0", verdict]
    head = [f"goal, {title}", "best peer", "rounds with it", "it needs", "wanted", ""]
    return [_row(head), _row(["---"] * 6), *lines, _row(cells), ""]


def _verdicts(runs: Sequence[Run]) -> list[str]:
    names = _names(runs)
    last = {run["contender"]: run for run in runs}
    cases = list(dict.fromkeys(case for run in last.values() for case in run.get("verdicts", {})))
    lines = ["### Right or wrong", "", _row(["", *names]), _row(["---"] * (len(names) + 1))]
    verdicts = {name: last[name].get("verdicts", {}) for name in names}
    lines += [_row([case, *(verdicts[name].get(case, "not judged") for name in names)]) for case in cases]
    why = [f"{name}: {run['failed']}" for name, run in last.items() if "failed" in run]
    return [*lines, "", *(f"Not judged: {reason}." for reason in why), *([""] if why else [])]


def _names(runs: Sequence[Run]) -> list[str]:
    return sorted({run["contender"] for run in runs}, key=lambda name: (not name.startswith(OURS), name))


def _measured(runs: Sequence[Run], name: str) -> dict[int, dict[str, float]]:
    """Its figures by round."""
    return {run["round"]: run["figures"] for run in runs if run["contender"] == name and "figures" in run}


def _ratios(measured: Mapping[str, Mapping[int, Mapping[str, float]]], name: str, figure: str) -> list[float]:
    """Theirs over ours in each round that has both: what slows a round down slows both."""
    ours, theirs = measured.get(OURS, {}), measured[name]
    return [theirs[number][figure] / ours[number][figure] for number in sorted(theirs.keys() & ours.keys())]


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
