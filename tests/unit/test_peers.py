"""docs/peers.md shows the tables of the kept runs and no others, and the tables say what the runs say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.peers.table import markdown

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/peers.md").read_text(encoding="utf-8")
FIGURES = {"load_embedded": 10, "edits_s": 1.0, "single_edit_s": 1.0, "touched_embedded": 0}


def speed(contender: str, number: int, load: float) -> dict[str, Any]:
    """One run of ten rows whose first load took so many seconds."""
    run = {"kind": "short", "rows": 10, "round": number, "contender": contender, "machine": {"load_before": 1.0}}
    return run | {"figures": FIGURES | {"load_s": load}}


def test_the_page_shows_the_tables_of_the_kept_runs() -> None:
    (kept,) = (ROOT / "benchmarks/results").glob("peers-*.json")
    tables = markdown(json.loads(kept.read_text(encoding="utf-8"))["runs"])
    assert tables.strip() in PAGE
    assert kept.name in PAGE


def test_a_ratio_is_taken_within_a_round_whatever_order_and_gaps_the_rounds_have() -> None:
    # Round 2 was slow for everybody; the peer has no round 1. Its ratios are 3 and 5, not 30 / 1.
    runs = [speed("ours", 1, 1), speed("peer", 2, 30), speed("ours", 2, 10), speed("ours", 3, 2), speed("peer", 3, 10)]
    assert "| … times ours, by round | 1.00 | 4.00 |" in markdown(runs)
    assert "| first load | peer (of 1) | 2 | 4.00 times ours | 2 times | reached |" in markdown(runs)


def test_a_peer_that_is_faster_is_said_to_be() -> None:
    runs = [speed("ours", 1, 10), speed("slow", 1, 40), speed("fast", 1, 5)]
    assert "| first load | fast (of 2) | 1 | 0.50 times ours | 2 times | it is faster |" in markdown(runs)


def test_our_other_settings_are_shown_and_are_no_peer() -> None:
    text = markdown([speed("ours-bfloat16", 1, 5), speed("peer", 1, 20), speed("ours", 1, 10)])
    assert "| ours (1 of 1 runs) | ours-bfloat16 (1 of 1 runs) | peer (1 of 1 runs) |" in text
    assert "| first load | peer (of 1) | 1 | 2.00 times ours | 2 times | reached |" in text


def test_a_run_that_did_not_end_is_counted_and_its_reason_told() -> None:
    failed = {**speed("peer", 2, 0), "failed": "TooLate: not within 900 s"}
    del failed["figures"]
    text = markdown([speed("ours", 1, 1), speed("peer", 1, 2), failed])
    assert "peer (1 of 2 runs)" in text
    assert "Not finished: peer, round 2: TooLate: not within 900 s." in text


def test_who_could_not_run_is_named_with_the_reason_and_has_no_figures() -> None:
    absent = {"kind": "short", "rows": 10, "round": 1, "contender": "absent", "not_run": "not installed"}
    text = markdown([speed("ours", 1, 1), absent])
    assert "- absent: not installed" in text
    assert "| absent" not in text


def test_a_case_that_is_wrong_is_shown_in_its_row() -> None:
    runs = [
        {"kind": "cases", "rows": 0, "round": 1, "contender": name, "verdicts": {"delete": verdict}}
        for name, verdict in (("ours", "right"), ("peer", "wrong: deleted rows are found"))
    ]
    assert "| delete | right | wrong: deleted rows are found |" in markdown(runs)
