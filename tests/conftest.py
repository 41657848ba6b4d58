"""Fixtures of the whole suite: one set of services a session, one world (tables, schema, group) a test.

`EMBED_STACK` says where the services come from (tests/stacks.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.local import Endpoints, Stack
from tests.command import preload
from tests.stacks import Services, kind, services
from tests.tiny_model import make_tiny_model
from tests.world import World


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Postgres, Kafka and Connect with the Debezium connector, up for the whole session."""
    preload()  # while the services start
    with services(tmp_path_factory.mktemp("stack")) as running:
        running.register_connector()
        yield running


@pytest.fixture(scope="session")
def avro_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of its own whose connector writes Avro, with the schema registry; up from its first use on."""
    if kind() != "local":
        pytest.skip(f"needs a stack that writes Avro, which only local processes are, and EMBED_STACK is {kind()}")
    kept = os.environ.get("EMBED_TEST_STACK")
    preload()  # while the services start
    running = Stack(Path(f"{kept}-avro") if kept else tmp_path_factory.mktemp("avro-stack"))
    try:
        running.up(wire="avro")
        running.register_connector()
        yield running
    finally:
        if not kept:
            running.down(purge=True)


@pytest.fixture
def mended(stack: Services) -> Iterator[Stack]:
    """The stack for a test that takes services down: whatever happens, they run again afterwards."""
    if not isinstance(stack, Stack):
        pytest.skip(f"takes services down, which it may do to local processes only, and EMBED_STACK is {kind()}")
    try:
        yield stack
    finally:
        stack.up()
        stack.register_connector()


@pytest.fixture(scope="session")
def endpoints(stack: Services) -> Endpoints:
    """Where the session's services answer."""
    return stack.endpoints()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real model of 32 dimensions with seeded random weights, where speed matters and meaning does not."""
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def world(endpoints: Endpoints, tiny_model: Path, tmp_path: Path) -> Iterator[World]:
    """An empty world of its own: two source tables, a store schema, a group, and the tiny model."""
    made = World.create(endpoints, tmp_path, model=str(tiny_model))
    try:
        yield made
    finally:
        made.close()
