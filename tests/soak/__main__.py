"""A soak: a source that lives, consumers that die, and an independent judge. `python -m tests.soak --help`.

Exit code 0: passed. 1: something was lost, doubled or wrong. 2: INVALID, too little happened to say anything.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

from benchmarks.figures import RESULTS, machine
from consumer.local import Stack
from consumer.local.versions import KAFKA_SETTINGS
from tests.command import preload
from tests.oracle import Oracle
from tests.soak.chaos import PARTS, PATIENCE, Chaos
from tests.soak.judgement import Report, applied_twice, counted, first_deliveries, without_truncated
from tests.soak.life import TRUNCATED, Life
from tests.states import StoreState, read_rows, read_store
from tests.tiny_model import make_tiny_model
from tests.topic_log import read_topics
from tests.world import World

SUFFIXES = ("a", "b", TRUNCATED)  # three partitions each
LONGEST_QUEUE = 3000  # changes that are not applied yet; then the source waits
PAUSE = 0.03  # seconds between two transactions of the source: up to two hundred events a second
AHEAD = 0.03  # of the whole: as far as events may be ahead of the faults
LOOKS = 16  # into the store in the midst of it
# Of a group with KIP-848 the broker decides when a member is dead: here as soon as of the other groups.
SHORT_SESSIONS = {
    "group.consumer.min.session.timeout.ms": "6000",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.min.heartbeat.interval.ms": "1000",
    "group.consumer.heartbeat.interval.ms": "1000",
}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--events", type=int, default=100_000, help="records in the topics, at least")
    parser.add_argument("--faults", type=int, default=200, help="kills, cuts and restarts, at least")
    parser.add_argument(
        "--in-flight", type=int, default=20, help="kills that meet a batch in its transaction, at least"
    )
    parser.add_argument("--rebalances", type=int, default=20, help="at least")
    parser.add_argument("--minutes", type=float, default=240, help="then it ends, whatever has not happened yet")
    parser.add_argument("--protocol", choices=("classic", "consumer"), default="classic", help="consumer: KIP-848")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="write the figures into benchmarks/results")
    return parser.parse_args()


class Soak:
    """One run."""

    def __init__(self, given: argparse.Namespace, stack: Stack, folder: Path) -> None:
        self.given, self.report = given, Report(given.seed, given.protocol, machine())
        self.model = make_tiny_model(folder / "tiny")
        self.world = World.create(stack.endpoints(), folder, model=str(self.model), suffixes=SUFFIXES)
        self.tables = {self.world.topic(suffix): self.world.table(suffix) for suffix in SUFFIXES}
        self.stopping = Event()
        self.life = Life(self.world, given.seed)
        self.oracle = Oracle(self.world.tables, self.model)
        self.snapshots: list[StoreState] = []
        self.ends: dict[tuple[str, int], int] = {}
        self._settings()
        self.world.migrate()
        self.life.fill(30)
        self.chaos = Chaos(self.world, stack, given.seed)
        self.begun = time.monotonic()

    def _settings(self) -> None:
        self.world.short_sessions(batch={"max_events": 200})
        properties = self.world.overrides["kafka"]["properties"]
        if self.given.protocol == "consumer":
            properties.clear()
            properties["group.protocol"] = "consumer"
        properties["socket.timeout.ms"] = 5000

    def run(self) -> Report:
        """All of it. Whatever breaks it off is part of the report."""
        try:
            with closing(self.chaos):
                self._live()
            self._judge_topics()
        except Exception as broken:
            traceback.print_exc()
            self.report.wrong.append(f"broken off by {type(broken).__name__}: {str(broken)[:2000]}")
        self._figures()
        return self.report

    def _live(self) -> None:
        self.chaos.scale(1)
        with ThreadPoolExecutor(1) as player:
            playing = player.submit(self.life.play, self.stopping, PAUSE)
            try:
                while (done := min(self._events(), self._faults())) < 1 and not self._over():
                    self.chaos.scale(1 if done < 0.2 else 3 if done < 0.7 else 2)
                    self._step(playing)
                self.chaos.what_has_not_been()
            finally:
                self.stopping.set()
            playing.result()
        self.report.slot_confirmed = self._confirmed()
        self._quiet_check()

    def _confirmed(self) -> bool:
        """Whether the connector tells the source how far it has come, after all that it went through."""
        try:
            self.world.settle(timeout=60)
        except AssertionError:
            return False
        return True

    def _step(self, playing: Future[None]) -> None:
        """A fault, when as many events have passed as belong to it; then now and then a look at the store, in the
        midst of it or at rest."""
        while self._faults() > self._events() and not self._over():
            assert not playing.done(), playing.result()
            self.world.until(lambda: True)  # fails if a consumer has died
            time.sleep(0.5)
        self.life.waiting.clear()  # a fault is to meet work
        self.chaos.strike()
        self._say()
        if self.chaos.injected * LOOKS // self.given.faults > len(self.snapshots) - self.report.quiet_checks:
            self.snapshots.append(self._look())
        if self.chaos.injected > self.given.faults // 4 * (self.report.quiet_checks + 1):
            self._quiet_check()

    def _events(self) -> float:
        """How much of the events is in the topics. The source waits while consumers or faults are far behind."""
        self.ends = self.world.end_offsets()
        stored = self.world.store("SELECT sum(next_offset)::int AS at FROM offsets WHERE topic NOT LIKE '\\_\\_%'")
        events = sum(self.ends.values())
        done = float(events / self.given.events)
        if events - (stored[0]["at"] or 0) > LONGEST_QUEUE or done > self._faults() + AHEAD:
            self.life.waiting.set()
        else:
            self.life.waiting.clear()
        return done

    def _faults(self) -> float:
        return float(self.chaos.injected / self.given.faults)

    def _over(self) -> bool:
        return bool(time.monotonic() > self.begun + 60 * self.given.minutes)

    def _look(self) -> StoreState:
        return read_store(self.world.endpoints.migrator_dsn, self.world.name, self.world.name)

    def _quiet_check(self) -> None:
        """The source at rest: the store comes to have exactly its rows, as vectors, and then nothing is failed."""
        found: list[str] = []
        with self.life.turn:
            rows = read_rows(self.world.endpoints.source_owner_dsn, self.tables)

            def settled() -> bool:
                if not self.world.caught_up():
                    return False
                self.snapshots.append(self._look())
                found[:] = self.oracle.compare(self.snapshots[-1], rows)
                found.extend(
                    f"failed: {row}" for row in self.world.store("SELECT source, error_type FROM failed_documents")
                )
                if found:
                    self.snapshots.pop()
                    time.sleep(1)  # a change may still be on its way through the connector
                return not found

            try:
                self.world.until(settled, PATIENCE)
            except AssertionError as late:
                raise AssertionError(f"at {sum(self.ends.values())} events not settled: {found[:20]}; {late}") from None
        self.report.quiet_checks += 1

    def _judge_topics(self) -> None:
        """Every look at the store against the topics up to the offsets that it had then."""
        events = read_topics(self.world.endpoints.bootstrap_servers, self.tables)
        self.report.events, self.report.partitions = len(events), len({(e.topic, e.partition) for e in events})
        stored = self._look().offsets
        self.report.lost = sum(event.offset >= stored.get((event.topic, event.partition), 0) for event in events)
        self.report.wrong += [f"{self.report.lost} events were never applied"] if self.report.lost else []
        told = [event for event in first_deliveries(events) if not event.topic.endswith(f"_{TRUNCATED}")]
        self.report.rebalances = self.world.store("SELECT max(epoch) AS epoch FROM offsets")[0]["epoch"]
        self.report.delivered_again = len(events) - len(first_deliveries(events))
        for number, state in enumerate(self.snapshots):
            found = self.oracle.compare_with_topics(without_truncated(state), told)
            self.report.wrong += [f"look {number}: {what}" for what in found]

    def _figures(self) -> None:
        report, chaos, processes = self.report, self.chaos, self.world.processes
        report.seconds, report.snapshots_checked = round(time.monotonic() - self.begun, 1), len(self.snapshots)
        report.applied, report.retried = counted(processes)
        report.embedded = sum(process.embedded() for process in processes)
        report.duplicated = max(applied_twice(processes), report.applied - (report.events or report.applied))
        report.wrong += [f"{report.duplicated} events were applied twice"] if report.duplicated > 0 else []
        report.faults, report.kills_and_cuts = dict(chaos.done), chaos.injected
        report.batches_in_flight_at_a_kill = chaos.in_flight_at_kill
        report.consumers_at_most = chaos.consumers_at_most
        report.restarts_of_every_part = min(
            chaos.done[f"{part} killed"] + chaos.done[f"{part} stopped"] for part in PARTS
        )
        report.truncates, report.ddl = self.life.counts["truncate"], self.life.counts["ddl"]
        report.key_changes = self.life.counts["change_key"]
        report.demand(
            events=self.given.events,
            partitions=3 * len(SUFFIXES),
            consumers_at_most=3,
            kills_and_cuts=self.given.faults,
            batches_in_flight_at_a_kill=self.given.in_flight,
            rebalances=self.given.rebalances,
            restarts_of_every_part=1,
            truncates=1,
            ddl=1,
            key_changes=1,
        )

    def _say(self) -> None:
        print(
            f"{time.monotonic() - self.begun:6.0f} s  {sum(self.ends.values())} events, {self.chaos.injected} faults "
            f"({self.chaos.in_flight_at_kill} kills in a transaction), "
            f"{len(self.chaos.consumers)} consumers, {self.report.quiet_checks} quiet checks",
            file=sys.stderr,
            flush=True,
        )


def _all_but_logs(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not name.endswith(".log")]


def main() -> int:
    given, stamp = options(), datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ")
    preload()
    if given.protocol == "consumer":
        KAFKA_SETTINGS.update(SHORT_SESSIONS)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        stack = Stack(Path(folder) / "stack")
        try:
            stack.up()
            stack.register_connector()
            soak = Soak(given, stack, Path(folder))
            try:
                report = soak.run()
                if report.wrong:
                    kept = shutil.copytree(folder, tempfile.mkdtemp(), dirs_exist_ok=True, ignore=_all_but_logs)
                    print(f"the consumers' logs are kept in {kept}", file=sys.stderr)
            finally:
                soak.world.close()
        finally:
            stack.down(purge=True)
    print(report.as_json())
    if given.keep:
        (RESULTS / f"soak-{stamp}.json").write_text(report.as_json() + "\n", encoding="utf-8")
    return {"passed": 0, "FAILED": 1, "INVALID": 2}[report.verdict]


if __name__ == "__main__":
    sys.exit(main())
