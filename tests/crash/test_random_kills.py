"""Three consumers under load, one of them killed again and again: nothing is lost, nothing is applied twice."""

from __future__ import annotations

import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.chaos import kill_in_transaction
from tests.command import CommandProcess
from tests.oracle import Oracle
from tests.states import StoreState, read_rows, read_store
from tests.topic_log import read_topics
from tests.workload import Workload
from tests.world import World

KILLS = 10
MOMENTS = ("in a transaction", "at any time", "while joining")


@pytest.mark.parametrize("seed", [11])
@pytest.mark.semantics("faults", "kill -9 of a consumer, at any moment", "nothing is lost, nothing is applied twice")
def test_ten_kills_in_a_minute(world: World, tiny_model: Path, seed: int) -> None:
    dice, stopping = random.Random(seed), threading.Event()
    world.short_sessions(batch={"max_events": 100})
    world.migrate()
    load = Workload(world, seed)
    load.fill(20)
    consumers = [world.start(cpu=number) for number in range(3)]
    killed: list[CommandProcess] = []
    moments: Counter[str] = Counter()
    states: list[StoreState] = []
    with ThreadPoolExecutor(1) as player:
        playing = player.submit(load.run, 10**6, pause=0.04, stopping=stopping)
        try:
            while len(killed) < KILLS:
                moment = MOMENTS[len(killed) % 3] if len(killed) < 3 else dice.choice(MOMENTS)
                victim = _kill(world, dice, consumers, moment)
                consumers.remove(victim)
                killed.append(victim)
                moments[moment] += 1
                consumers.append(world.start(cpu=len(killed)))
                states.append(read_store(world.endpoints.migrator_dsn, world.name, world.name))
        finally:
            stopping.set()
        playing.result()
    world.settle()
    states.append(read_store(world.endpoints.migrator_dsn, world.name, world.name))
    assert [consumer.stop() for consumer in consumers] == [0, 0, 0]
    assert {process.wait() for process in killed} == {-9}
    assert set(moments) == set(MOMENTS)
    assert sum(process.applied() > 0 for process in world.processes) >= KILLS // 2, "too few consumers did anything"

    oracle = Oracle(world.tables, tiny_model)
    tables = {world.topic(suffix): world.table(suffix) for suffix in ("a", "b")}
    events = read_topics(world.endpoints.bootstrap_servers, tables)
    assert len(events) > 2000
    assert oracle.compare(states[-1], read_rows(world.endpoints.source_owner_dsn, tables)) == []
    assert [oracle.compare_with_topics(state, events) for state in states] == [[]] * len(states)
    assert world.store("SELECT * FROM failed_documents") == []
    assert 0 < sum(process.embedded() for process in world.processes) <= oracle.embeds_due(events)


def _kill(world: World, dice: random.Random, consumers: list[CommandProcess], moment: str) -> CommandProcess:
    """SIGKILL one of the consumers at such a moment, and say which."""
    if moment == "while joining":
        newest = consumers[-1]
        world.until(lambda: newest.lines("ready to join"))
        newest.kill()
        return newest
    counts = {id(consumer): consumer.applied() for consumer in consumers}
    amount = dice.randint(50, 500)

    def busy() -> list[CommandProcess]:
        return [consumer for consumer in consumers if consumer.applied() - counts[id(consumer)] >= amount]

    victim = dice.choice(world.until(busy))
    if moment == "in a transaction":
        kill_in_transaction(world, victim)
    else:
        victim.kill()
    return victim
