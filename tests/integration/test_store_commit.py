"""A COMMIT whose reply never comes: done or not done, and never done twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from consumer.errors import Retry
from consumer.store import Applied, Fenced, Outcome, Store, TopicPartition
from consumer.store.session import connect, target
from tests.fault_proxy import FaultProxy
from tests.integration.store_bench import GROUP, TOPIC, VECTORS, Bench, advance, chunk, key, plan, write

COMMIT = b"COMMIT\0"  # the statement, and its reply
PLAN = plan(write(1, insert=(chunk("text"),)), advance=advance(0, 5))


@pytest.fixture
def bench(server: str) -> Iterator[Bench]:
    made = Bench.on(server)
    made.acquire()
    yield made
    made.store.close()


class Proxy(FaultProxy):
    """Between a store and its Postgres."""

    def __init__(self, dsn: str) -> None:
        parts = conninfo_to_dict(dsn)
        super().__init__(str(parts["host"]), int(str(parts["port"])))
        self.dsn = make_conninfo(dsn, port=self.port, sslmode="disable", gssencmode="disable")

    def lose_the_reply(self) -> None:
        """The server commits, the client never hears."""
        self.strike("cut", "reply", holding=COMMIT)


@pytest.fixture
def proxy(bench: Bench) -> Iterator[Proxy]:
    with Proxy(bench.dsn) as made:
        yield made


def test_waiting_for_a_lock_ends_before_anything_else_does(bench: Bench) -> None:
    """Else a lock that somebody holds passes for a server that is not reachable."""
    seconds = "extract(epoch FROM current_setting('{}_timeout')::interval)"
    names = [seconds.format(name) for name in ("lock", "statement", "transaction")]
    for answer_within in (5.0, 60.0):
        with connect(target(bench.dsn, bench.schema), answer_within) as connection:
            first = connection.execute(f"SELECT {names[0]} < least({names[1]}, {names[2]})".encode()).fetchone()
        assert first == (True,)


def state(bench: Bench) -> tuple[int, list[int]]:
    """The stored offset, and the versions of document 1: one entry of 1 if it was applied once."""
    documents = bench.store.lookup([key(1)])
    return bench.store.offsets(GROUP)[0].next_offset, [document.version for document in documents.values()]


@pytest.mark.semantics("faults", "connection lost at COMMIT", "the offset rows tell whether it happened")
def test_a_commit_whose_reply_is_lost_is_found_to_have_happened(bench: Bench, proxy: Proxy) -> None:
    with Store(proxy.dsn, bench.schema) as store:
        store.heartbeats()
        proxy.lose_the_reply()
        outcome = store.apply(PLAN, VECTORS)
        assert isinstance(outcome, Applied)
        assert (outcome.documents, outcome.chunks_inserted) == (1, 1)
        assert state(bench) == (5, [1])
        assert isinstance(store.apply(plan(advance=advance(5, 6)), VECTORS), Applied)


@pytest.mark.semantics("faults", "connection lost at COMMIT")
def test_a_commit_that_never_arrived_is_a_retry_and_then_done_once(bench: Bench, proxy: Proxy) -> None:
    with Store(proxy.dsn, bench.schema) as store:
        proxy.strike("cut", "request", holding=COMMIT)
        with pytest.raises(Retry):
            store.apply(PLAN, VECTORS)
        assert state(bench) == (0, [])
        assert isinstance(store.apply(PLAN, VECTORS), Applied)
    assert state(bench) == (5, [1])


def test_while_the_database_is_away_the_uncertainty_is_remembered(bench: Bench, proxy: Proxy) -> None:
    with Store(proxy.dsn, bench.schema) as store:
        store.heartbeats()
        proxy.refusing = True
        proxy.lose_the_reply()
        for _ in range(3):
            with pytest.raises(Retry):
                store.apply(PLAN, VECTORS)
        proxy.refusing = False
        assert isinstance(store.apply(PLAN, VECTORS), Applied)
    assert state(bench) == (5, [1])


def tries_until_applied(store: Store) -> int:
    """How often PLAN had to be applied until the store said that it is."""
    outcome: Outcome | None = None
    tries = 0
    while outcome is None:
        tries += 1
        try:
            outcome = store.apply(PLAN, VECTORS)
        except Retry:
            assert tries < 10
    assert isinstance(outcome, Applied)
    return tries


def test_a_lost_transaction_that_still_holds_its_locks_is_waited_for(bench: Bench, proxy: Proxy) -> None:
    """The server believes the old session alive until it has idled in its transaction for too long."""
    with Store(proxy.dsn, bench.schema, answer_within=1) as store:
        proxy.strike("orphan", "request", holding=COMMIT)
        assert tries_until_applied(store) > 1
    assert state(bench) == (5, [1])


def test_another_owner_in_the_meantime_means_fenced(bench: Bench, proxy: Proxy) -> None:
    with Store(proxy.dsn, bench.schema) as store:
        store.heartbeats()
        proxy.refusing = True
        proxy.lose_the_reply()
        with pytest.raises(Retry):
            store.apply(PLAN, VECTORS)
        bench.acquire()
        proxy.refusing = False
        assert store.apply(PLAN, VECTORS) == Fenced(frozenset({TopicPartition(TOPIC, 0)}))
    assert state(bench) == (5, [1])


def test_without_offsets_nothing_proves_it_and_the_versions_keep_it_from_happening_twice(
    bench: Bench, proxy: Proxy
) -> None:
    with Store(proxy.dsn, bench.schema) as store:
        store.heartbeats()
        proxy.lose_the_reply()
        with pytest.raises(Retry):
            store.apply(plan(write(1)), VECTORS)
        assert not isinstance(store.apply(plan(write(1)), VECTORS), Applied)
    assert state(bench) == (0, [1])


def test_a_plan_that_changed_after_the_lost_commit_is_fenced(bench: Bench, proxy: Proxy) -> None:
    with Store(proxy.dsn, bench.schema) as store:
        store.heartbeats()
        proxy.refusing = True
        proxy.lose_the_reply()
        with pytest.raises(Retry):
            store.apply(PLAN, VECTORS)
        proxy.refusing = False
        assert isinstance(store.apply(plan(write(1), advance=advance(0, 3)), VECTORS), Fenced)
    assert state(bench) == (5, [1])


@pytest.mark.semantics(
    "faults", "database that takes bytes and never answers", "given up soon after the time that it has; nothing is lost"
)
@pytest.mark.parametrize("holding", [b"FOR UPDATE", COMMIT])
def test_a_database_that_falls_silent_is_given_up_in_time(bench: Bench, proxy: Proxy, holding: bytes) -> None:
    """As behind a pooler that hangs: the network is well, so that no keepalive ever tells."""
    with Store(proxy.dsn, bench.schema, answer_within=1) as store:
        store.heartbeats()
        proxy.strike("black hole", "reply" if holding == COMMIT else "request", holding=holding)
        tries_until_applied(store)
        assert not proxy.armed
    assert state(bench) == (5, [1])
