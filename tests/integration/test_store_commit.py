"""A COMMIT whose reply never comes: done or not done, and never done twice."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Literal

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from consumer.errors import Retry
from consumer.store import Applied, Fenced, Outcome, Store, TopicPartition
from tests.integration.store_bench import GROUP, TOPIC, VECTORS, Bench, advance, chunk, key, plan, write

Fault = Literal["none", "swallow the reply", "cut before", "hang before"]


class Proxy:
    """Forwards TCP to Postgres; armed, it strikes once at the next COMMIT.

    `swallow the reply`: the server commits, the client never hears. `cut before`: the server never sees it. `hang
    before`: it never sees it either, but its side stays open, so that its transaction keeps its locks.
    """

    def __init__(self, dsn: str) -> None:
        parts = conninfo_to_dict(dsn)
        self._server = (str(parts["host"]), int(str(parts["port"])))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.dsn = make_conninfo(dsn, port=self._listener.getsockname()[1], sslmode="disable", gssencmode="disable")
        self.fault: Fault = "none"
        self.refusing = False
        self._open: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.refusing:
                    client.close()
                    continue
                server = socket.create_connection(self._server)
                self._open += [client, server]
                threading.Thread(target=self._upward, args=(client, server), daemon=True).start()
                threading.Thread(target=self._downward, args=(server, client), daemon=True).start()

    def _upward(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if b"COMMIT\x00" in data and self.fault in ("cut before", "hang before"):
                    fault, self.fault = self.fault, "none"
                    self._cut(client, *(() if fault == "hang before" else (server,)))
                    return
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _downward(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if b"COMMIT\x00" in data and self.fault == "swallow the reply":
                    self.fault = "none"
                    self._cut(client, server)
                    return
                client.sendall(data)

    @staticmethod
    def _cut(*ends: socket.socket) -> None:
        for end in ends:
            end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def bench(server: str) -> Iterator[Bench]:
    made = Bench(server)
    made.acquire()
    yield made
    made.store.close()


@pytest.fixture
def proxy(server: str) -> Iterator[Proxy]:
    made = Proxy(server)
    yield made
    made.close()


def state(bench: Bench) -> tuple[int, list[int]]:
    """The stored offset, and the versions of document 1: one entry of 1 if it was applied once."""
    documents = bench.store.lookup([key(1)])
    return bench.store.offsets(GROUP)[0].next_offset, [document.version for document in documents.values()]


PLAN = plan(write(1, insert=(chunk("text"),)), advance=advance(0, 5))


@pytest.mark.semantics("faults", "connection lost at COMMIT", "the offset rows tell whether it happened")
def test_a_commit_whose_reply_is_lost_is_found_to_have_happened(bench: Bench, proxy: Proxy) -> None:
    with Store(proxy.dsn, bench.schema) as store:
        store.heartbeats()
        proxy.fault = "swallow the reply"
        outcome = store.apply(PLAN, VECTORS)
        assert isinstance(outcome, Applied)
        assert (outcome.documents, outcome.chunks_inserted) == (1, 1)
        assert state(bench) == (5, [1])
        assert isinstance(store.apply(plan(advance=advance(5, 6)), VECTORS), Applied)


@pytest.mark.semantics("faults", "connection lost at COMMIT")
def test_a_commit_that_never_arrived_is_a_retry_and_then_done_once(bench: Bench, proxy: Proxy) -> None:
    with Store(proxy.dsn, bench.schema) as store:
        proxy.fault = "cut before"
        with pytest.raises(Retry):
            store.apply(PLAN, VECTORS)
        assert state(bench) == (0, [])
        assert isinstance(store.apply(PLAN, VECTORS), Applied)
    assert state(bench) == (5, [1])


def test_while_the_database_is_away_the_uncertainty_is_remembered(bench: Bench, proxy: Proxy) -> None:
    with Store(proxy.dsn, bench.schema) as store:
        store.heartbeats()
        proxy.fault, proxy.refusing = "swallow the reply", True
        for _ in range(3):
            with pytest.raises(Retry):
                store.apply(PLAN, VECTORS)
        proxy.refusing = False
        assert isinstance(store.apply(PLAN, VECTORS), Applied)
    assert state(bench) == (5, [1])


def test_a_lost_transaction_that_still_holds_its_locks_is_waited_for(bench: Bench, proxy: Proxy) -> None:
    """The server believes the old session alive until it has idled in its transaction for too long."""
    with Store(proxy.dsn, bench.schema, answer_within=1) as store:
        proxy.fault = "hang before"
        outcome: Outcome | None = None
        tries = 0
        while outcome is None:
            tries += 1
            try:
                outcome = store.apply(PLAN, VECTORS)
            except Retry:
                assert tries < 10
        assert isinstance(outcome, Applied)
        assert tries > 1
    assert state(bench) == (5, [1])


def test_another_owner_in_the_meantime_means_fenced(bench: Bench, proxy: Proxy) -> None:
    with Store(proxy.dsn, bench.schema) as store:
        store.heartbeats()
        proxy.fault, proxy.refusing = "swallow the reply", True
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
        proxy.fault = "swallow the reply"
        with pytest.raises(Retry):
            store.apply(plan(write(1)), VECTORS)
        assert not isinstance(store.apply(plan(write(1)), VECTORS), Applied)
    assert state(bench) == (0, [1])


def test_a_plan_that_changed_after_the_lost_commit_is_fenced(bench: Bench, proxy: Proxy) -> None:
    with Store(proxy.dsn, bench.schema) as store:
        store.heartbeats()
        proxy.fault, proxy.refusing = "swallow the reply", True
        with pytest.raises(Retry):
            store.apply(PLAN, VECTORS)
        proxy.refusing = False
        assert isinstance(store.apply(plan(write(1), advance=advance(0, 3)), VECTORS), Fenced)
    assert state(bench) == (5, [1])
