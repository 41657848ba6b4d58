"""What the demo prints: no line wider than the terminal, except to be copied; no control codes in a file."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from consumer.errors import Stop
from consumer.local.demo.figures import Checks, Found, Group, Report, Snapshot, percentile
from consumer.local.demo.screen import Screen
from consumer.store import SearchHit

HIT = SearchHit(
    distance=0.25,
    source="shop.public.docs",
    source_key={"id": 1_000_006},
    chunk_no=3,
    content="textwrap.dedent\n\nRemove any common leading whitespace from every line, " + "and again " * 40,
    metadata={"name": "textwrap.dedent", "module": "textwrap", "kind": "function", "reviewed": False},
    content_hash=b"\0" * 32,
    kafka_topic="shop.public.docs",
    kafka_partition=2,
    kafka_offset=1071,
    source_committed_at=datetime(2031, 5, 6, 7, 8, 9, 120_000, UTC),
    embedded_at=datetime(2031, 5, 6, 7, 8, 9, 158_000, UTC),
)


def report() -> Report:
    made = Report(Checks(Path("consumer.log")), Snapshot(2000, 2412, 25.0), seconds=80.0)
    made.groups += [
        Group("text of a row", 4, new_text=True, done=4, seconds=[0.04, 0.05, 0.03, 0.2], events=4, embedded=4),
        Group("metadata column", 2, new_text=False, done=2, seconds=[0.01, 0.02], events=2, reused=2, saved=2),
    ]
    made.searches.append(Found("is it a leap year?", "a deleted row is gone", "MiniLM", [HIT, HIT], before=HIT))
    made.checks.require("every row is searchable", True, "2,000 of 2,000")
    return made


def console(width: int, *, terminal: bool) -> Console:
    return Console(file=io.StringIO(), width=width, height=24, force_terminal=terminal, highlight=False, no_color=True)


def written(to: Console) -> str:
    assert isinstance(to.file, io.StringIO)
    return to.file.getvalue()


def tell(screen: Screen, made: Report) -> None:
    screen.stage("The stack", "Postgres, Kafka and Debezium as local processes")
    with screen.progress(2000) as shown:
        shown(1000)
    assert made.snapshot is not None
    screen.snapshot(made.snapshot)
    with screen.live(made.groups) as watch:
        watch()
    screen.searches(made.searches)
    screen.checks(made.checks.made)
    screen.summary(made)


@pytest.mark.parametrize("width", [80, 100])
def test_no_line_is_wider_than_the_terminal_and_tables_keep_one_line_a_row(width: int) -> None:
    aside, out = console(width, terminal=False), console(width, terminal=False)
    tell(Screen(aside, out), report())
    lines = [line.rstrip() for line in (written(aside) + written(out)).splitlines()]
    assert max(cell_len(line) for line in lines) <= width
    assert [line.split() for line in lines if line.startswith("text of a row")] == [
        ["text", "of", "a", "row", "4/4", "40", "ms", "200", "ms", "4", "0", "0"]
    ]
    hits = [line for line in lines if "textwrap.dedent" in line]
    assert len(hits) == 3
    assert all(line.rstrip().endswith("…") and '{"id": 1000006}' in line for line in hits)
    assert any("partition 2, offset 1071" in line for line in lines)
    assert any("committed 07:08:09.120, embedded 07:08:09.158 UTC" in line for line in lines)


def test_without_a_terminal_there_are_no_control_codes() -> None:
    aside, out = console(80, terminal=False), console(80, terminal=False)
    tell(Screen(aside, out), report())
    assert "\x1b" not in written(aside) + written(out)


def test_with_json_nothing_goes_to_stdout_but_the_object() -> None:
    aside = console(80, terminal=False)
    screen = Screen(aside, None)
    tell(screen, report())
    screen.next_steps([("Try next", ["a command"])])
    assert "leap year" not in written(aside)
    assert "a command" not in written(aside)


def test_commands_are_never_broken() -> None:
    out = console(40, terminal=True)
    command = "embed-consumer search 'how do I read a csv file' --config " + "/a/very/long/path" * 5
    Screen(console(40, terminal=True), out).next_steps([("Try next", [command])])
    assert command in written(out)


def test_progress_on_a_terminal_shows_rows_rate_and_eta() -> None:
    aside = console(80, terminal=True)
    with Screen(aside, None).progress(2000) as shown:
        shown(1000)
    assert "1000/2000" in written(aside)
    assert "rows/s" in written(aside)
    assert "ETA" in written(aside)


def test_figures_as_json_are_the_measured_ones() -> None:
    values = report().as_json()
    assert (values["rows"], values["chunks"], values["rows_per_second"]) == (2000, 2412, 80.0)
    assert (values["freshness_p50_ms"], values["freshness_p99_ms"], values["freshness_changes"]) == (40.0, 200.0, 4)
    assert (values["events"], values["embeds_saved"], values["chunks_reused"]) == (6, 2, 2)
    assert values["searches"][0]["hits"][0]["kafka_offset"] == 1071
    assert values["checks"] == [{"claim": "every row is searchable", "holds": True, "detail": "2,000 of 2,000"}]


def test_a_claim_that_does_not_hold_stops_with_figures_and_log() -> None:
    checks = Checks(Path("/somewhere/consumer.log"))
    with pytest.raises(Stop, match=r"3 of 5 left.*/somewhere/consumer.log") as stopped:
        checks.require("deleted rows are gone", False, "3 of 5 left")
    assert stopped.value.exit_code == 1
    assert [check.holds for check in checks.made] == [False]


def test_percentiles_are_nearest_rank() -> None:
    values = [float(number) for number in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1.0)) == (50.0, 99.0, 100.0)
    assert percentile([], 0.5) is None
