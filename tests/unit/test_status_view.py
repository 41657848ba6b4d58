"""The screen of `status`: the verdict first, the worst partitions where not all fit, nothing folded out of sight."""

from __future__ import annotations

from rich.console import Console

from consumer.cli.status_view import status_view
from consumer.operations.offsets import Position
from consumer.operations.status import Freshness, Source, Status
from consumer.store import Generation, IndexStatus

NOW_US = 1_700_000_000_000_000
TOPIC = "shop.public.products"


def status(partitions: int, **seconds: float | None) -> Status:
    """Partitions at their end; `seconds` by `p<number>` are those that wait (None: nobody knows)."""
    made = Status("prod", 60.0, NOW_US, members=1, sources=[Source(TOPIC, embedded=5)], heartbeats={"shop": 0.4})
    for number in range(partitions):
        age = seconds.get(f"p{number}", 0.0)
        waits = age != 0.0
        made.positions.append(Position(TOPIC, number, "id", 10, 10, 0, 14 if waits else 10))
        reason = f"4 waiting, the oldest {age:.1f} s old" if age else "age could not be read" if waits else "at its end"
        made.freshness.append(Freshness(TOPIC, number, age, reason))
    return made


def drawn(shown: Status, *, width: int = 100, height: int | None = None, eta: float | None = None) -> list[str]:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(status_view(shown, eta, width=width, height=height))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_the_verdict_comes_first_and_then_the_partition_that_it_is_about() -> None:
    lines = drawn(status(3, p1=61.0, p2=75.0), eta=12.4)
    assert lines[0] == "STALE, lag 75.0 s, objective 60 s, caught up in about 12.4 s"
    assert lines[2] == "group prod, live members: 1"
    assert lines[1].strip() == f"{TOPIC}[2]: 4 waiting, the oldest 75.0 s old"
    assert drawn(status(3))[0].startswith("FRESH, lag 0.0 s, objective 60 s")
    assert TOPIC not in drawn(status(3))[1]


def test_what_nobody_can_tell_of_is_named_unless_something_is_surely_stale() -> None:
    unknown = drawn(status(3, p0=None, p1=30.0))
    assert unknown[0].startswith("UNKNOWN")
    assert f"{TOPIC}[0]" in unknown[1]
    assert f"{TOPIC}[1]" in drawn(status(3, p0=None, p1=61.0))[1]


def test_a_topic_that_is_not_there_blames_no_partition_and_leaves_no_lag_of_nothing() -> None:
    shown = status(3)
    shown.absent, shown.problems = ["shop.public.new"], ["Kafka has no topic shop.public.new."]
    lines = drawn(shown)
    assert lines[:2] == ["UNKNOWN, objective 60 s", "group prod, live members: 1"]
    assert lines[2] == "! Kafka has no topic shop.public.new."
    late = status(3, p1=75.0)
    late.absent = shown.absent
    assert drawn(late)[0] == "STALE, lag 75.0 s, objective 60 s"


def test_on_a_small_terminal_the_worst_partitions_are_shown_and_the_others_counted() -> None:
    lines = drawn(status(40, p7=20.0, p31=50.0), height=24)
    assert len(lines) <= 24
    rows = [line for line in lines if line.startswith(f"{TOPIC}[")]
    assert rows[0].startswith(f"{TOPIC}[31]")
    assert rows[1].startswith(f"{TOPIC}[7]")
    assert f"and {40 - len(rows)} more, none worse" in lines
    assert lines[-1] == "heartbeat 0.4 s ago, of shop"


def test_without_a_height_every_partition_is_shown() -> None:
    lines = drawn(status(40, p7=20.0), width=200)
    assert sum(line.startswith(TOPIC) and "at its end" in line for line in lines) == 39
    assert not any("more, none worse" in line for line in lines)


def test_nothing_is_broken_in_eighty_columns_and_failures_are_told_at_the_top() -> None:
    shown = status(3, p1=93_600.0)
    shown.sources = [Source("shop.public.reviews_of_products", 1_203_450, failed=2, deleted=12, retrying=1, dead=1)]
    shown.generation = Generation(1, "live", b"", "m", 32, "vector", "cosine", 16, 64, "chunks_1")
    shown.index = IndexStatus("building", "building index: loading tuples", 120_345, 1_203_450)
    lines = drawn(shown, width=80, eta=5000.0)
    assert lines[0] == "STALE, lag 26.0 h, objective 60 s, caught up in about 83.3 min"
    assert lines[3].startswith("! 2 could not be applied: `embed-consumer failed list`")
    (row,) = [line for line in lines if line.startswith("shop.public.reviews")]
    assert row.split() == ["shop.public.reviews_of_products", "1203450", "2", "12", "1", "0"]
    assert [line for line in lines if line.startswith(("search ", "model ", "heartbeat "))] == lines[-3:]


def test_where_no_partition_is_known_there_is_no_table_of_them() -> None:
    blind = Status("prod", 60.0, NOW_US, problems=["Kafka does not answer."], broker_answers=False)
    lines = drawn(blind, width=80)
    assert lines[:3] == ["UNKNOWN, objective 60 s", "group prod, live members: unknown", "! Kafka does not answer."]
    assert not any("partition" in line for line in lines)
