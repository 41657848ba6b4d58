"""What the store's tests share: a throw-away Postgres a module, and a bench on it a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.postgres import throwaway_postgres
from tests.integration.store_bench import Bench


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with throwaway_postgres() as dsn:
        yield dsn


@pytest.fixture
def bench(server: str) -> Iterator[Bench]:
    made = Bench.on(server)
    yield made
    made.store.close()
