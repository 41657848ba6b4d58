"""What was gained in speed stays gained: ratios of the quick benchmarks against floors that noise does not reach."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.figures import RESULTS, newest
from benchmarks.plots import plots
from benchmarks.summary import PAGE, summary

ROOT = Path(__file__).parents[2]


def python(*arguments: str) -> str:
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def quick(group: str) -> dict[str, Any]:
    """Figures by name."""
    lines = python("-m", "benchmarks", "--quick", "--only", group).splitlines()
    return {figure["name"]: figure for figure in map(json.loads, lines)}


@pytest.mark.timeout(900)
def test_the_engine_is_ahead_of_the_library_it_wraps() -> None:
    figures = quick("engine")
    assert figures["engine_ratio_naive"]["ratio"] >= 0.7  # beyond any noise: not slower by a mistake
    assert figures["engine_ratio_arrival32"]["ratio"] >= 1.3
    assert figures["engine_min_cosine"]["value"] >= 0.999999
    if half := figures.get("engine_bf16_min_cosine"):
        assert half["value"] >= 0.999


@pytest.mark.timeout(900)
def test_taking_events_in_is_ahead_of_what_one_would_write_first() -> None:
    figures = quick("decode")
    assert figures["decode_json_per_s"]["ratio"] >= 1.1  # of processor time: 1.45, 4.6 and 1.3 in the kept runs
    assert figures["decode_json_schema_per_s"]["ratio"] >= 3
    assert figures["decode_avro_per_s"]["ratio"] >= 1


@pytest.mark.timeout(900)
def test_the_benchmark_for_gpus_runs_and_claims_nothing_without_one(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    python("-m", "benchmarks.gpu", "--device", "cpu", "--seconds", "1", "--out", str(report))
    assert json.loads(report.read_text()) == {"gpu": "not measured on a GPU", "figures": []}


def test_the_page_of_figures_says_what_the_runs_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == summary(), "run `python -m benchmarks.summary`"


def test_the_plots_beside_it_are_drawn_from_the_same_runs() -> None:
    kept = {path.stem: path.read_bytes() for path in RESULTS.glob("*.svg")}
    drawn = plots(newest())
    assert kept.keys() == drawn.keys(), "run `python -m benchmarks.summary`"
    assert [group for group in drawn if kept[group] != drawn[group]] == [], "run `python -m benchmarks.summary`"
    assert all(f"({group}.svg)" in PAGE.read_text(encoding="utf-8") for group in drawn)
