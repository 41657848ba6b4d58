"""Liveness follows progress, not commits; readiness names what is missing."""

from __future__ import annotations

from consumer.observe import Health, Report

TOPIC = "shop.public.products"


def failing(report: Report) -> dict[str, str]:
    return {check.name: check.reason for check in report.checks if not check.ok}


def test_before_the_first_poll_it_is_alive_and_not_ready() -> None:
    health = Health()
    assert health.live(1000.0).ok
    assert set(failing(health.ready(1000.0))) == {"assigned", "model", "store"}


def test_a_loop_that_stopped_polling_is_dead_and_not_ready() -> None:
    health = Health(tick_timeout=60)
    for name in ("assigned", "model", "store"):
        health.set_ready(name, True, "fine")
    health.tick(100)
    assert health.live(160).ok
    assert health.ready(160).ok
    assert failing(health.live(161)) == {"loop": "not polled for 61 s, 60 s are allowed"}
    assert not health.ready(161).ok
    health.tick(162)
    assert health.live(163).ok


def test_readiness_says_what_is_missing_and_why() -> None:
    health = Health()
    for name in ("assigned", "model", "store"):
        health.set_ready(name, True, "fine")
    health.set_ready("store", False, "does not answer, tried again in 4 s")
    report = health.ready(0)
    assert failing(report) == {"store": "does not answer, tried again in 4 s"}
    assert report.body()["status"] == "failing"
    assert health.live(0).ok, "a store that is down is no reason for a restart"


def test_a_partition_that_stands_still_below_its_end_is_stuck() -> None:
    health = Health(stuck_after=300)
    health.partition_progress(TOPIC, 0, 5, 9, now=0)
    health.partition_progress(TOPIC, 0, 5, 12, now=200)
    assert health.live(300).ok
    assert failing(health.live(301)) == {f"partition {TOPIC}[0]": "stuck at offset 5 for 301 s, 7 behind"}
    health.partition_progress(TOPIC, 0, 6, 12, now=302)
    assert health.live(602).ok


def test_a_long_batch_is_not_death() -> None:
    health = Health(stuck_after=300)
    for now in range(0, 2000, 100):
        health.partition_progress(TOPIC, 0, 5, 9, now=now, in_flight=True)
        assert health.live(now).ok
    health.partition_progress(TOPIC, 0, 5, 9, now=2000)
    assert health.live(2100).ok
    assert not health.live(2301).ok


def test_a_quiet_partition_starts_its_clock_when_something_arrives() -> None:
    health = Health(stuck_after=300)
    health.partition_progress(TOPIC, 0, 5, 5, now=0)
    assert health.live(10_000).ok
    health.partition_progress(TOPIC, 0, 5, 6, now=10_000)
    assert health.live(10_300).ok
    assert not health.live(10_301).ok


def test_a_revoked_partition_is_forgotten() -> None:
    health = Health(stuck_after=300)
    health.partition_progress(TOPIC, 0, 5, 6, now=0)
    health.partition_revoked(TOPIC, 0)
    assert health.live(1000).ok
