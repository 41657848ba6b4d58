"""Primary keys that change, with columns so large that the connector leaves them out."""

from __future__ import annotations

from pathlib import Path

import pytest
from psycopg import sql

from tests.oracle import Oracle
from tests.states import read_rows, read_store
from tests.world import World

# About 6,000 characters that do not compress below the size where PostgreSQL stores a value out of line.
_BODY = "SELECT string_agg(md5(g::text || %s), ' ') FROM generate_series(1, 180) AS g"


def fill(world: World, rows: int) -> None:
    for suffix in ("a", "b"):
        statement = sql.SQL(
            "INSERT INTO {} (id, title, body) SELECT n, 'title ' || n, ({}) FROM generate_series(1, %s) n"
        )
        body = sql.SQL(_BODY.replace("%s", "n"))
        world.source(statement.format(world.table(suffix), body), [rows])


def wrong(world: World, oracle: Oracle) -> list[str]:
    tables = {world.topic(suffix): world.table(suffix) for suffix in ("a", "b")}
    state = read_store(world.endpoints.migrator_dsn, world.name, world.name)
    return oracle.compare(state, read_rows(world.endpoints.source_owner_dsn, tables))


@pytest.mark.semantics(
    "operations",
    "primary-key change",
    "a move: fields and vectors go with the row, nothing is embedded; the old key is a gravestone",
)
def test_rows_move_with_their_large_columns_and_nothing_is_embedded_again(world: World, tiny_model: Path) -> None:
    world.migrate()
    fill(world, 20)
    oracle = Oracle(world.tables, tiny_model)
    with world.consumer() as consumer:
        world.settle()
        before = consumer.embedded()
        assert before > 20
        for table in (world.table("a"), world.table("b")):
            world.source(sql.SQL("UPDATE {} SET id = id + 100").format(table))
            world.source(sql.SQL("UPDATE {} SET id = id + 100, price = 7 WHERE id < 110").format(table))
        world.settle()
        world.until(lambda: not world.store("SELECT 1 FROM failed_documents"))
        assert wrong(world, oracle) == []
        assert consumer.embedded() == before
        assert not world.store("SELECT 1 FROM moves")


@pytest.mark.semantics(
    "operations",
    "primary-key change across two partitions on two consumers, in either order",
    "the half that comes first waits for the other; the row ends right",
)
def test_two_consumers_hand_rows_over_to_each_other(world: World, tiny_model: Path) -> None:
    """The insert may be applied before the delete has left anything: it waits as failed, and is finished then."""
    world.migrate()
    fill(world, 12)
    oracle = Oracle(world.tables, tiny_model)
    with world.consumer() as one, world.consumer() as other:
        world.settle()
        world.until(lambda: (one.applied() and other.applied()) or world.store("SELECT 1 FROM offsets WHERE epoch > 1"))
        for _ in range(3):
            for table in (world.table("a"), world.table("b")):
                world.source(sql.SQL("UPDATE {} SET id = id + 100").format(table))
        world.settle()
        world.until(lambda: not world.store("SELECT 1 FROM failed_documents"), timeout=100)
        assert wrong(world, oracle) == []
