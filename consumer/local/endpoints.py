"""Where the services of a stack answer."""

from __future__ import annotations

from dataclasses import dataclass
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


def endpoints(state: State) -> Endpoints:
    """Those of a stack that was brought up."""

    def dsn(role: str, database: str) -> str:
        address = f"{ports.HOST}:{state.ports['postgres']}"
        return f"postgresql://{role}:{quote(state.passwords[role])}@{address}/{database}"

    return Endpoints(
        bootstrap_servers=f"{ports.HOST}:{state.ports['kafka']}",
        connect_url=f"http://{ports.HOST}:{state.ports['connect']}",
        source_dsn=dsn("debezium", SOURCE_DATABASE),
        source_owner_dsn=dsn("shop_owner", SOURCE_DATABASE),
        store_dsn=dsn("embedder", STORE_DATABASE),
        migrator_dsn=dsn("embedding_migrator", STORE_DATABASE),
        reader_dsn=dsn("embedding_reader", STORE_DATABASE),
        admin_dsn=dsn("postgres", STORE_DATABASE),
        admin_source_dsn=dsn("postgres", SOURCE_DATABASE),
        registry_url=registry.address(state) and registry.address(state) + registry.CONFLUENT_API,
    )
