"""What a named schedule is written in: a world, statements at its source, and a look at what is stored."""

from __future__ import annotations

from tests.simulation.invariants import document_key
from tests.simulation.source import Row, Source
from tests.simulation.world import World
from tests.store_standin import StoredRow

FIRST, SECOND = Row("a b", "c d"), Row("b a", "c d")


def world(*, toast: bool = False) -> World:
    """Key 1 is in partition 1, key 2 in partition 0; every step lets the script decide who goes on."""
    return World(source=Source(toast))


def stored(w: World, key: int) -> StoredRow:
    return w.database.documents[document_key(key)]


def happened(w: World, *statements: tuple[object, ...]) -> None:
    """Each statement in a transaction of its own, delivered at once."""
    for name, *arguments in statements:
        getattr(w.source, str(name))(*arguments)
        w.source.commit()
    w.connector.deliver()
