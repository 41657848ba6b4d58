"""Working off a topic: records into Kafka, consumers on what lies there, and what an event costs them."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import psutil
from confluent_kafka import Producer

from tests.command import CommandProcess
from tests.world import World

MIB = 2**20
Raw = tuple[str | bytes | None, str | bytes | None, int]  # key, value, partition


@dataclass(frozen=True)
class Cost:
    """Of an event: wall and the clients' CPU, microseconds each; all clients' resident memory at most, MiB."""

    wall_us: float
    cpu_us: float
    rss_mib: float

    @property
    def per_s(self) -> float:
        """Events a second."""
        return 1e6 / self.wall_us


def produce(world: World, records: Iterable[Raw], suffix: str = "a", *, compression: str = "lz4") -> int:
    """Write them into a table's topic; how many they were."""
    servers = world.endpoints.bootstrap_servers
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 20, "compression.type": compression})
    count = 0
    for count, (key, value, partition) in enumerate(records, 1):  # noqa: B007
        while True:
            try:
                producer.produce(world.topic(suffix), value=value, key=key, partition=partition)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    if left := producer.flush(300):
        raise RuntimeError(f"{left} events were not taken by the broker")
    return count


def work_off(world: World, events: int, processes: int = 1) -> Cost:
    """Start consumers on so many events of the first table; from the first progress in the store to the last."""
    before = applied(world)
    with ExitStack() as running:
        clients = [psutil.Process(running.enter_context(world.consumer()).pid) for _ in range(processes)]
        world.until(lambda: applied(world) > before, timeout=600)
        return _until_applied(world, clients, before + events)


@contextmanager
def gathered(world: World, suffix: str = "a", processes: int = 1) -> Iterator[Callable[[Iterable[Raw]], Cost]]:
    """Consumers that have their shares of the partitions; call what it yields with records to have them worked off.

    The processes stand still while the records are written, and begin together when all lie there.
    """
    with ExitStack() as running:
        members = [running.enter_context(world.consumer()) for _ in range(processes)]
        world.until(lambda: all(member.lines("ready to join") for member in members), timeout=600)
        partitions = len(world.end_offsets(suffix))

        def shared() -> bool:
            held = [sum(name == "freshness_lag_seconds" for name, _ in member.metrics()) for member in members]
            return sum(held) == partitions and min(held) >= partitions // processes

        world.until(shared, timeout=600)
        yield lambda records: _together(world, members, records, suffix)


def applied(world: World, suffix: str = "a") -> int:
    """Events of a table's topic that the store has passed."""
    rows = world.store("SELECT sum(next_offset)::bigint AS n FROM offsets WHERE topic = %s", [world.topic(suffix)])
    return int(rows[0]["n"] or 0)


def _together(world: World, members: Sequence[CommandProcess], records: Iterable[Raw], suffix: str) -> Cost:
    before = applied(world, suffix)
    for member in members:
        member.signal(signal.SIGSTOP)
    try:
        events = produce(world, records, suffix)
    finally:
        for member in members:
            member.signal(signal.SIGCONT)
    return _until_applied(world, [psutil.Process(member.pid) for member in members], before + events, suffix)


def _until_applied(world: World, clients: Sequence[psutil.Process], end: int, suffix: str = "a") -> Cost:
    """The cost of each event from now on."""
    began, first, spent, rss = time.perf_counter(), applied(world, suffix), _cpu(clients), [0.0]

    def done() -> bool:
        rss.append(sum(client.memory_info().rss for client in clients) / MIB)
        return applied(world, suffix) >= end

    world.until(done, timeout=3600)
    seconds, cpu = time.perf_counter() - began, _cpu(clients) - spent
    left = max(end - first, 1)
    return Cost(seconds / left * 1e6, cpu / left * 1e6, max(rss))


def _cpu(clients: Sequence[psutil.Process]) -> float:
    return sum(client.cpu_times().user + client.cpu_times().system for client in clients)
