"""Moments that a test can be sure of: a consumer with a batch in flight, its transaction open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from tests.command import CommandProcess
from tests.world import World

# A backend that waits for the offset rows has begun the transaction of a batch: its events are planned and embedded.
_WAITING = """
SELECT client_port FROM pg_stat_activity
WHERE application_name = 'embed-consumer' AND wait_event_type = 'Lock' AND query LIKE '%FROM offsets%FOR UPDATE%'
"""


@contextmanager
def held_in_transaction(
    world: World, process: CommandProcess, timeout: float = 60, ports: Callable[[], set[int]] | None = None
) -> Iterator[None]:
    """Inside, `process` is in the midst of a batch's transaction, waiting for rows of the fence that this holds.

    No batch of any consumer can commit until the end. Events must be flowing, and the partitions be acquired. `ports`
    are those that the database hears the process from: its own, unless something is in between.
    """
    ports = ports or process.connections
    with (
        psycopg.connect(world.endpoints.migrator_dsn) as holder,
        psycopg.connect(world.endpoints.admin_dsn, autocommit=True) as observer,
    ):
        locked = holder.execute(sql.SQL("SELECT FROM {}.offsets FOR UPDATE").format(sql.Identifier(world.name)))
        assert locked.rowcount > 0
        world.until(lambda: ports() & {port for (port,) in observer.execute(_WAITING)}, timeout)
        yield


def kill_in_transaction(
    world: World, process: CommandProcess, timeout: float = 60, ports: Callable[[], set[int]] | None = None
) -> None:
    """SIGKILL while `process` has a batch in flight, its transaction begun and not committed."""
    with held_in_transaction(world, process, timeout, ports):
        process.kill()
