"""What happens to the parts of a soak: kills, cuts, restarts, frozen processes, members that come and go."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from urllib.parse import urlsplit

import psycopg

from consumer.errors import Fault as Trouble
from consumer.local import Stack
from tests.chaos import kill_in_transaction
from tests.command import CommandProcess
from tests.fault_proxy import Fault, FaultProxy, Way
from tests.world import World

CUTS: tuple[Fault, ...] = ("cut", "reset", "half-close", "delay", "orphan")
WAYS: tuple[Way, ...] = ("request", "reply")
PARTS = ("postgres", "kafka", "connect")
_END_SESSIONS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'embed-consumer' AND datname = %s
"""
COMMIT = b"COMMIT\0"
PATIENCE = 300.0
FROZEN = 10.0  # seconds: longer than a session lasts here


class Chaos:
    """Consumers of one group behind two proxies, and everything that can be done to them. `done` counts it."""

    def __init__(self, world: World, stack: Stack, seed: int) -> None:
        self.world, self.stack = world, stack
        self.done: Counter[str] = Counter()
        self.in_flight_at_kill = self.consumers_at_most = 0
        self.consumers: list[CommandProcess] = []
        self._dice = random.Random(seed)
        store = urlsplit(world.endpoints.store_dsn)
        host, port = world.endpoints.bootstrap_servers.split(":")
        self.database = FaultProxy(str(store.hostname), store.port or 5432)
        self.broker = FaultProxy(host, int(port), kafka=True)
        self._environment = {
            "EMBEDDING_STORE__DSN": world.endpoints.store_dsn.replace(f":{store.port}/", f":{self.database.port}/"),
            "EMBEDDING_KAFKA__BOOTSTRAP_SERVERS": f"{host}:{self.broker.port}",
        }

    def close(self) -> None:
        """End the consumers in order, and the proxies."""
        try:
            for consumer in self.consumers:
                assert consumer.stop(PATIENCE) == 0, consumer.output()[-2000:]
        finally:
            self.database.close()
            self.broker.close()

    @property
    def injected(self) -> int:
        """Kills, cuts and restarts so far, of whatever."""
        return sum(count for what, count in self.done.items() if not what.startswith("member"))

    def scale(self, members: int) -> None:
        """Let members come, or leave in order."""
        while len(self.consumers) < members:
            self._start()
            self.done["member added"] += 1
        while len(self.consumers) > members:
            leaver = self.consumers.pop(0)
            self._joined(leaver)
            assert leaver.stop(PATIENCE) == 0, leaver.output()[-2000:]
            self.done["member left"] += 1

    def strike(self) -> None:
        """One thing at random, the cheap ones more often."""
        actions: list[tuple[Callable[[], None], int]] = [
            (self._kill, 25),
            (self._cut_database, 30),
            (self._cut_broker, 25),
            (self._freeze, 2),
            (self._end_sessions, 8),
            (lambda: self._restart("postgres"), 2),
            (lambda: self._restart("kafka"), 2),
            (lambda: self._restart("connect"), 2),
        ]
        chosen, weights = zip(*actions, strict=True)
        self._dice.choices(chosen, weights)[0]()

    def what_has_not_been(self) -> None:
        """What chance has left out."""
        for part in PARTS:
            for how in ("killed", "stopped"):
                if not self.done[f"{part} {how}"]:
                    self._restart(part, how)
        if not self.done["consumer frozen"]:
            self._freeze()

    def _start(self) -> None:
        self.consumers.append(self.world.start(cpu=len(self.world.processes), environment=self._environment))
        self.consumers_at_most = max(self.consumers_at_most, len(self.consumers))

    def _joined(self, consumer: CommandProcess) -> None:
        self.world.until(lambda: consumer.lines("ready to join"), PATIENCE)

    def _kill(self) -> None:
        at_work = [consumer for consumer in self.consumers if consumer.batches()]
        victim = self._dice.choice(at_work or self.consumers)
        if at_work and self._dice.random() < 0.9:
            try:
                kill_in_transaction(self.world, victim, 10, lambda: self.database.behind(victim.connections()))
                self.in_flight_at_kill += 1
            except (
                AssertionError,
                psycopg.OperationalError,
            ):  # it had no events just then, or the two met in a deadlock
                victim.kill()
        else:
            victim.kill()
        self.consumers.remove(victim)
        self.done["consumer killed"] += 1
        self._start()

    def _cut_database(self) -> None:
        fault, way = self._dice.choice(CUTS), self._dice.choice(WAYS)
        at_commit = self._dice.random() < 0.4
        self._fall(self.database, fault, way, COMMIT if at_commit else b"")
        self.done[f"database: {fault}{' at COMMIT' if at_commit else ''}"] += 1

    def _cut_broker(self) -> None:
        fault = self._dice.choice(CUTS)
        self._fall(self.broker, fault, self._dice.choice(WAYS), b"")
        self.done[f"broker: {fault}"] += 1

    def _fall(self, proxy: FaultProxy, fault: Fault, way: Way, holding: bytes) -> None:
        proxy.strike(fault, way, holding=holding)
        self.world.until(lambda: not proxy.armed, PATIENCE)

    def _end_sessions(self) -> None:
        with psycopg.connect(self.world.endpoints.admin_dsn, autocommit=True) as admin:
            database = self.world.endpoints.store_dsn.rpartition("/")[2]
            ended = admin.execute(_END_SESSIONS, [database]).fetchall()
        self.done["database sessions ended"] += len(ended) > 0

    def _freeze(self) -> None:
        """Longer than the session lasts: it wakes up without its partitions."""
        victim = self._dice.choice(self.consumers)
        self._joined(victim)
        victim.signal(signal.SIGSTOP)
        try:
            begun = time.monotonic()
            self.world.until(lambda: time.monotonic() > begun + FROZEN, PATIENCE)
        finally:
            victim.signal(signal.SIGCONT)
        self.done["consumer frozen"] += 1

    def _restart(self, part: str, how: str = "") -> None:
        how = how or self._dice.choice(("killed", "stopped"))
        (self.stack.kill if how == "killed" else self.stack.stop)(part)
        before, deadline = self.world.endpoints, time.monotonic() + PATIENCE
        while True:
            try:
                assert self.stack.up() == before, "the stack came back at other ports"
                self.stack.register_connector()
                break
            except Trouble:  # Connect may need longer than a person would wait
                if time.monotonic() > deadline:
                    raise
        self.done[f"{part} {how}"] += 1
