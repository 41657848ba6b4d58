"""A soak: a source that lives, consumers that die, and an independent judge. `python -m tests.soak --help`.

Exit code 0: passed. 1: something was lost, doubled or wrong. 2: INVALID, too little happened to say anything.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Event

from consumer.local import Stack
from tests.command import preload
from tests.oracle import Oracle
from tests.soak.chaos import PATIENCE, Chaos
from tests.soak.judgement import Report, first_deliveries, without_truncated
from tests.soak.life import TRUNCATED, Life
from tests.states import StoreState, read_rows, read_store
from tests.tiny_model import make_tiny_model
from tests.topic_log import read_topics
from tests.world import World

SUFFIXES = ("a", "b", TRUNCATED)  # three partitions each
LONGEST_QUEUE = 3000  # changes that are not applied yet; then the source waits


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--events", type=int, default=100_000, help="changes of rows, at least")
    parser.add_argument("--faults", type=int, default=200, help="kills and cuts, at least")
    parser.add_argument(
        "--in-flight", type=int, default=20, help="kills that meet a batch in its transaction, at least"
    )
    parser.add_argument("--rebalances", type=int, default=20, help="at least")
    parser.add_argument("--protocol", choices=("classic", "consumer"), default="classic", help="consumer: KIP-848")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--stack", type=Path, help="the folder of a stack that is kept; default: one that is thrown away"
    )
    parser.add_argument("--report", type=Path, help="where the figures go, as JSON")
    return parser.parse_args()


class Soak:
    """One run."""

    def __init__(self, given: argparse.Namespace, stack: Stack, folder: Path) -> None:
        self.given, self.report = given, Report(given.seed, given.protocol)
        self.model = make_tiny_model(folder / "tiny")
        self.world = World.create(stack.endpoints(), folder, model=str(self.model), suffixes=SUFFIXES)
        self.tables = {self.world.topic(suffix): self.world.table(suffix) for suffix in SUFFIXES}
        self.waiting, self.stopping = Event(), Event()
        self.life = Life(self.world, given.seed, self.waiting)
        self.oracle = Oracle(self.world.tables, self.model)
        self.snapshots: list[StoreState] = []
        self._settings()
        self.world.migrate()
        self.life.fill(30)
        self.chaos = Chaos(self.world, stack, given.seed)

    def _settings(self) -> None:
        self.world.short_sessions(batch={"max_events": 200})
        properties = self.world.overrides["kafka"]["properties"]
        if self.given.protocol == "consumer":
            properties.clear()  # the broker decides on sessions
            properties["group.protocol"] = "consumer"
        properties["socket.timeout.ms"] = 5000

    def run(self) -> Report:
        begun = time.monotonic()
        with closing(self.chaos), ThreadPoolExecutor(1) as player:
            self.chaos.scale(1)
            playing = player.submit(self.life.run, 10**9, pause=0.02, stopping=self.stopping)
            try:
                while (done := min(self._progress(), self.chaos.injected / self.given.faults)) < 1:
                    self.chaos.scale(1 if done < 0.2 else 3 if done < 0.7 else 2)
                    self._step()
                    self._say(begun)
                self.chaos.every_part_once()
            finally:
                self.waiting.clear()
                self.stopping.set()
            playing.result()
            self.life.idle = True
            self._quiet_check()
        self._judge_topics()
        self._figures(time.monotonic() - begun)
        return self.report

    def _progress(self) -> float:
        """How much of the events is played; the source waits while the consumers are far behind."""
        stored = self.world.store("SELECT sum(next_offset)::int AS at FROM offsets WHERE topic NOT LIKE '\\_\\_%'")
        if sum(self.world.end_offsets().values()) - (stored[0]["at"] or 0) > LONGEST_QUEUE:
            self.waiting.set()
        else:
            self.waiting.clear()
        return float(self.life.played / self.given.events)

    def _step(self) -> None:
        """A fault; then now and then a look at the store, in the midst of it or at rest."""
        self.chaos.strike()
        if self.chaos.injected % 10 == 0 and len(self.snapshots) < 40:
            self.snapshots.append(read_store(self.world.endpoints.migrator_dsn, self.world.name, self.world.name))
        if self.chaos.injected % 50 == 0 and self.chaos.injected > 50 * self.report.quiet_checks:
            self.waiting.set()
            self._quiet_check()

    def _quiet_check(self) -> None:
        """The source at rest: the store has exactly its rows, as vectors."""
        idle = self.life.played
        self.world.until(lambda: self.life.idle, PATIENCE)
        self.world.settle(timeout=2 * PATIENCE)
        state = read_store(self.world.endpoints.migrator_dsn, self.world.name, self.world.name)
        rows = read_rows(self.world.endpoints.source_owner_dsn, self.tables)
        self.report.wrong += [f"at {idle} events: {what}" for what in self.oracle.compare(state, rows)]
        self.report.quiet_checks += 1
        self.snapshots.append(state)

    def _judge_topics(self) -> None:
        """Every look at the store against the topics up to the offsets that it had then."""
        events = read_topics(self.world.endpoints.bootstrap_servers, self.tables)
        stored = self.snapshots[-1].offsets
        self.report.events, self.report.partitions = len(events), len({(e.topic, e.partition) for e in events})
        beyond = [event for event in events if event.offset >= stored.get((event.topic, event.partition), 0)]
        self.report.wrong += [f"{len(beyond)} events were never applied"] if beyond else []
        told = [event for event in first_deliveries(events) if not event.topic.endswith(f"_{TRUNCATED}")]
        for number, state in enumerate(self.snapshots):
            found = self.oracle.compare_with_topics(without_truncated(state), told)
            self.report.wrong += [f"look {number}: {what}" for what in found]
        failed = self.world.store("SELECT source, error_type FROM failed_documents")
        self.report.wrong += [f"failed: {row}" for row in failed]

    def _figures(self, seconds: float) -> None:
        report, chaos = self.report, self.chaos
        report.seconds, report.snapshots_checked = round(seconds, 1), len(self.snapshots)
        report.applied = sum(process.applied() for process in self.world.processes)
        if report.applied > report.events:
            report.wrong.append(f"{report.applied - report.events} events were applied twice")
        report.faults, report.kills_and_cuts = dict(chaos.done), chaos.injected
        report.batches_in_flight_at_a_kill = chaos.in_flight_at_kill
        report.consumers_at_most = 3
        epochs = self.world.store("SELECT max(epoch) AS epoch FROM offsets")
        report.rebalances = epochs[0]["epoch"]
        report.truncates, report.ddl = self.life.counts["truncate"], self.life.counts["ddl"]
        report.demand(
            events=self.given.events,
            partitions=3 * len(SUFFIXES),
            kills_and_cuts=self.given.faults,
            batches_in_flight_at_a_kill=self.given.in_flight,
            rebalances=self.given.rebalances,
            truncates=1,
            ddl=1,
        )

    def _say(self, begun: float) -> None:
        print(
            f"{time.monotonic() - begun:6.0f} s  {self.life.played} events, {self.chaos.injected} faults, "
            f"{len(self.chaos.consumers)} consumers, {len(self.report.wrong)} wrong",
            file=sys.stderr,
        )


def main() -> int:
    given = options()
    preload()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        stack = Stack(given.stack or Path(folder) / "stack")
        try:
            stack.up()
            stack.register_connector()
            soak = Soak(given, stack, Path(folder))
            try:
                report = soak.run()
            finally:
                soak.stopping.set()
                soak.waiting.clear()
                soak.world.close()
        finally:
            if not given.stack:
                stack.down(purge=True)
    print(report.as_json())
    if given.report:
        given.report.write_text(report.as_json() + "\n", encoding="utf-8")
    return {"passed": 0, "FAILED": 1, "INVALID": 2}[report.verdict]


if __name__ == "__main__":
    sys.exit(main())
