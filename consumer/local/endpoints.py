"""Where the services of a stack answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote

from consumer.local import ports, registry
from consumer.local.state import State
from consumer.local.versions import SOURCE_DATABASE, STORE_DATABASE


@dataclass(frozen=True)
class Endpoints:
    """Where everything answers. The DSNs carry passwords: they belong in no log and no argument.

    `registry_url` is the Confluent-compatible API, empty for a stack without a registry.
    """

    bootstrap_servers: str
    connect_url: str
    source_dsn: str
    source_owner_dsn: str
    store_dsn: str
    migrator_dsn: str
    reader_dsn: str
    admin_dsn: str
    admin_source_dsn: str
    registry_url: str = ""

    @classmethod
    def of(cls, dsn: Callable[[str, str], str], servers: str, connect_url: str, registry_url: str = "") -> Self:
        """Those of a Postgres for which `dsn` gives the URL of a role and a database."""
        return cls(
            bootstrap_servers=servers,
            connect_url=connect_url,
            source_dsn=dsn("debezium", SOURCE_DATABASE),
            source_owner_dsn=dsn("shop_owner", SOURCE_DATABASE),
            store_dsn=dsn("embedder", STORE_DATABASE),
            migrator_dsn=dsn("embedding_migrator", STORE_DATABASE),
            reader_dsn=dsn("embedding_reader", STORE_DATABASE),
            admin_dsn=dsn("postgres", STORE_DATABASE),
            admin_source_dsn=dsn("postgres", SOURCE_DATABASE),
            registry_url=registry_url,
        )


def endpoints(state: State) -> Endpoints:
    """Those of a stack that was brought up."""

    def dsn(role: str, database: str) -> str:
        address = f"{ports.HOST}:{state.ports['postgres']}"
        return f"postgresql://{role}:{quote(state.passwords[role])}@{address}/{database}"

    return Endpoints.of(
        dsn,
        f"{ports.HOST}:{state.ports['kafka']}",
        f"http://{ports.HOST}:{state.ports['connect']}",
        registry.address(state) and registry.address(state) + registry.CONFLUENT_API,
    )
