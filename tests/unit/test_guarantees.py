"""docs/guarantees.md names tests that are there, and figures that the kept reports have."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/guarantees.md").read_text(encoding="utf-8")
RESULTS = ROOT / "benchmarks/results"


def line(report: Path) -> str:
    """What the page says of a soak."""
    said = json.loads(report.read_text(encoding="utf-8"))
    group = "KIP-848" if said["protocol"] == "consumer" else "classic"
    figures = (said["events"], said["kills_and_cuts"], said["batches_in_flight_at_a_kill"], said["rebalances"])
    shown = " | ".join(f"{figure:,}" for figure in figures)
    name = f"[{report.stem}](../benchmarks/results/{report.name})"
    return f"| {name} | {group} | {said['verdict']} | {shown} | {said['lost']} | {said['duplicated']} |"


def test_every_test_that_it_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 40
    functions = {
        path: {node.name for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body
               if isinstance(node, ast.FunctionDef)}
        for path in {path for path, _ in named}
    }  # fmt: skip
    assert [f"{path}::{name}" for path, name in named if name not in functions[path]] == []


def test_it_shows_every_soak_that_is_kept_and_no_other() -> None:
    kept = sorted(RESULTS.glob("soak-*.json"))
    shown = [row for row in PAGE.splitlines() if row.startswith("| [soak-")]
    assert shown == [line(report) for report in kept]


def test_every_file_that_it_links_is_there() -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", PAGE)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
