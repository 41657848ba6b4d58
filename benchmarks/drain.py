"""Working off a topic: records into Kafka, consumers on what lies there, and what an event costs them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import psutil
from confluent_kafka import Producer

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
    before, rss = applied(world), [0.0]
    with ExitStack() as running:
        clients = [psutil.Process(running.enter_context(world.consumer()).pid) for _ in range(processes)]
        world.until(lambda: applied(world) > before, timeout=600)
        began, first, spent = time.perf_counter(), applied(world), _cpu(clients)

        def done() -> bool:
            rss.append(sum(client.memory_info().rss for client in clients) / MIB)
            return applied(world) >= before + events

        world.until(done, timeout=3600)
        seconds, cpu = time.perf_counter() - began, _cpu(clients) - spent
    left = max(before + events - first, 1)
    return Cost(seconds / left * 1e6, cpu / left * 1e6, max(rss))


def applied(world: World) -> int:
    """Events of the first table's topic that the store has passed."""
    rows = world.store("SELECT sum(next_offset)::bigint AS n FROM offsets WHERE topic = %s", [world.topic()])
    return int(rows[0]["n"] or 0)


def _cpu(clients: Sequence[psutil.Process]) -> float:
    return sum(client.cpu_times().user + client.cpu_times().system for client in clients)
