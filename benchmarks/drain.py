"""Working off a topic: records into Kafka, consumers on what lies there, and what an event costs them."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import psutil
import psycopg
from confluent_kafka import Producer
from psycopg import sql

from tests.command import CommandProcess
from tests.world import World

MIB = 2**20
Raw = tuple[str | bytes | None, str | bytes | None, int]  # key, value, partition


@dataclass(frozen=True)
class Cost:
    """Of an event: wall, the clients' CPU and the database server's, microseconds each; the clients' memory, MiB.

    Memory is resident, of all clients together, at most.
    """

    wall_us: float
    cpu_us: float
    server_us: float
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
    with ExitStack() as running, _positions(world) as reached:
        before = reached()
        clients = [psutil.Process(running.enter_context(world.consumer()).pid) for _ in range(processes)]
        world.until(lambda: reached() > before, timeout=600)
        return _until_applied(world, clients, before + events)


@contextmanager
def gathered(world: World, suffix: str = "a", processes: int = 1) -> Iterator[Callable[[Iterable[Raw]], Cost]]:
    """Consumers that have their shares of the partitions; call what it yields with records to have them worked off.

    The processes stand still while the records are written, and begin together when all lie there. What lay there
    before is worked off with them.
    """
    with ExitStack() as running:
        members = [running.enter_context(world.consumer()) for _ in range(processes)]
        world.until(lambda: all(member.lines("ready to join") for member in members), timeout=600)
        partitions = len(world.end_offsets(suffix))

        def shared() -> bool:
            held = [member.held() for member in members]
            return sum(held) == partitions and min(held) >= partitions // processes

        world.until(shared, timeout=600)
        yield lambda records: _together(world, members, records, suffix)


@contextmanager
def _positions(world: World, suffix: str = "a") -> Iterator[Callable[[], int]]:
    """Ask it how many events of a table's topic the store has passed."""
    offsets = sql.Identifier(world.name, "offsets")
    ask = sql.SQL("SELECT coalesce(sum(next_offset), 0)::bigint FROM {} WHERE topic = %s").format(offsets)
    with psycopg.connect(world.endpoints.migrator_dsn, autocommit=True) as store:
        yield lambda: int((store.execute(ask, [world.topic(suffix)]).fetchone() or (0,))[0])


def _together(world: World, members: Sequence[CommandProcess], records: Iterable[Raw], suffix: str) -> Cost:
    for member in members:
        member.signal(signal.SIGSTOP)
    try:
        produce(world, records, suffix)
        end = sum(world.end_offsets(suffix).values())
    finally:
        for member in members:
            member.signal(signal.SIGCONT)
    return _until_applied(world, [psutil.Process(member.pid) for member in members], end, suffix)


def _until_applied(world: World, clients: Sequence[psutil.Process], end: int, suffix: str = "a") -> Cost:
    """The cost of each event from now on."""
    rss = [0.0]
    with _positions(world, suffix) as reached, psycopg.connect(world.endpoints.migrator_dsn) as store:
        server = psutil.Process(store.info.backend_pid).parent()
        assert server is not None

        def done() -> bool:
            rss.append(sum(client.memory_info().rss for client in clients) / MIB)
            return reached() >= end

        began, first, before = time.perf_counter(), reached(), (_cpu(clients), _cpu_of_all(server))
        world.until(done, timeout=3600)
        seconds, after = time.perf_counter() - began, (_cpu(clients), _cpu_of_all(server))
    us = 1e6 / max(end - first, 1)
    return Cost(seconds * us, (after[0] - before[0]) * us, (after[1] - before[1]) * us, max(rss))


def _cpu(processes: Sequence[psutil.Process]) -> float:
    """Seconds; a process that has just ended counts as none."""
    spent = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            spent += times.user + times.system
    return spent


def _cpu_of_all(server: psutil.Process) -> float:
    """With its children, those that have ended too."""
    ended = server.cpu_times()
    return _cpu([server, *server.children()]) + ended.children_user + ended.children_system
