"""What was gained in speed stays gained: ratios of the quick benchmarks against floors that noise does not reach."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def python(*arguments: str) -> str:
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.timeout(900)
def test_the_engine_is_ahead_of_the_library_it_wraps() -> None:
    lines = python("-m", "benchmarks", "--quick", "--only", "engine").splitlines()
    figures = {figure["name"]: figure for figure in map(json.loads, lines)}
    assert figures["engine_float32_to_text_by_text"]["ratio"] >= 0.7  # beyond any noise: not slower by a mistake
    assert figures["engine_float32_to_arrival_order"]["ratio"] >= 1.3
    assert figures["engine_float32_cosine_min"]["value"] >= 0.999999
    if half := figures.get("engine_bfloat16_cosine_min"):
        assert half["value"] >= 0.999


@pytest.mark.timeout(900)
def test_the_benchmark_for_gpus_runs_and_claims_nothing_without_one(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    python("-m", "benchmarks.gpu", "--device", "cpu", "--seconds", "1", "--out", str(report))
    assert json.loads(report.read_text()) == {"gpu": "not measured on a GPU", "figures": []}
