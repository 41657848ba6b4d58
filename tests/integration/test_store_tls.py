"""The store over TLS: a server is trusted by its authority and name, and nothing goes on without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from consumer.errors import Retry, Stop
from consumer.store import Store
from tests.tls_front import WISH, TlsFront

CERTIFICATES = Path(__file__).parents[1] / "contract" / "certificates"


def port_of(dsn: str) -> int:
    return int(conninfo_to_dict(dsn)["port"] or 5432)


@pytest.fixture
def front(server: str) -> Iterator[TlsFront]:
    with TlsFront(port_of(server), CERTIFICATES / "server.pem") as front:
        yield front


def verified(port: int, authority: str = "authority.pem", host: str = "localhost") -> str:
    return make_conninfo(
        host=host, hostaddr="127.0.0.1", port=port, user="postgres", dbname="postgres",
        sslmode="verify-full", sslrootcert=str(CERTIFICATES / authority),
    )  # fmt: skip


def refused(dsn: str) -> str:
    with Store(dsn, "embedding") as store, pytest.raises(Retry) as fault:
        store.heartbeats()
    return str(fault.value)


@pytest.mark.semantics("faults", "Postgres over TLS", "`sslmode=verify-full` holds: authority and name, or no word")
def test_verify_full_reaches_a_server_of_the_right_authority_and_name(front: TlsFront) -> None:
    with psycopg.connect(verified(front.port)) as connection:
        assert connection.pgconn.ssl_in_use
    with Store(verified(front.port), "embedding") as store, pytest.raises(Stop, match="not migrated"):
        store.heartbeats()  # it is asked, and has nothing yet


@pytest.mark.semantics("faults", "Postgres over TLS")
def test_another_authority_or_name_is_not_trusted(front: TlsFront) -> None:
    assert "is not trusted" in refused(verified(front.port, authority="stranger.pem"))
    assert "is not trusted" in refused(verified(front.port, host="elsewhere"))
    assert "is not trusted" in refused(verified(front.port, authority="nowhere.pem"))
    assert front.heard.replace(WISH, b"") == b"", "more was said in the clear than the wish for TLS"


@pytest.mark.semantics("faults", "Postgres over TLS")
def test_a_server_without_tls_is_not_spoken_to_in_the_clear(server: str) -> None:
    assert "is not trusted" in refused(verified(port_of(server)))
