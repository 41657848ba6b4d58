"""What happens to the parts of a soak: kills, cuts, restarts, frozen processes, members that come and go."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from urllib.parse import urlsplit

import psycopg

from consumer.local import Stack
from tests.chaos import kill_in_transaction
from tests.command import CommandProcess
from tests.fault_proxy import Fault, FaultProxy, Way
from tests.world import World

CUTS: tuple[Fault, ...] = ("cut", "reset", "half-close", "delay", "orphan")
WAYS: tuple[Way, ...] = ("request", "reply")
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
        self.in_flight_at_kill = 0
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
        for consumer in self.consumers:
            consumer.stop(PATIENCE)
        self.database.close()
        self.broker.close()

    @property
    def injected(self) -> int:
        """Kills and cuts so far, of whatever."""
        return sum(count for what, count in self.done.items() if what != "member added" and what != "member left")

    def scale(self, members: int) -> None:
        """Let members come, or leave in order."""
        while len(self.consumers) < members:
            self._start()
            self.done["member added"] += 1
        while len(self.consumers) > members:
            leaver = self.consumers.pop(0)
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
            (self._restart_postgres, 2),
            (self._restart_kafka, 2),
            (self._restart_connect, 2),
        ]
        chosen, weights = zip(*actions, strict=True)
        self._dice.choices(chosen, weights)[0]()

    def every_part_once(self) -> None:
        """What chance may leave out."""
        self._restart_postgres()
        self._restart_kafka()
        self._restart_connect()
        self._freeze()

    def _start(self) -> None:
        self.consumers.append(self.world.start(cpu=len(self.world.processes), environment=self._environment))

    def _kill(self) -> None:
        victim = self._dice.choice(self.consumers)
        if self._dice.random() < 0.6:
            try:
                kill_in_transaction(self.world, victim, 20)
                self.in_flight_at_kill += 1
            except AssertionError:  # it had no events just then
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
            ended = admin.execute(_END_SESSIONS, [self.world.endpoints.store_dsn.split("/")[-1]]).fetchall()
        self.done["database sessions ended"] += len(ended) > 0

    def _freeze(self) -> None:
        """Longer than the session lasts: it wakes up without its partitions."""
        victim = self._dice.choice(self.consumers)
        if len(self.consumers) < 2 or not victim.lines("ready to join"):
            return
        victim.signal(signal.SIGSTOP)
        try:
            begun = time.monotonic()
            self.world.until(lambda: time.monotonic() > begun + FROZEN, PATIENCE)
        finally:
            victim.signal(signal.SIGCONT)
        self.done["consumer frozen"] += 1

    def _restart_postgres(self) -> None:
        (self.stack.kill if self._dice.random() < 0.5 else self.stack.stop)("postgres")
        self._up("postgres")

    def _restart_kafka(self) -> None:
        (self.stack.kill if self._dice.random() < 0.5 else self.stack.stop)("kafka")
        self._up("kafka")

    def _restart_connect(self) -> None:
        self.stack.kill("connect")
        self._up("connect")

    def _up(self, part: str) -> None:
        self.stack.up()
        self.stack.register_connector()
        self.done[f"{part} restarted"] += 1
