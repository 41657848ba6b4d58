"""The source table's way into Kafka for peers that read Debezium's topics: our own connector file, one a round."""

from __future__ import annotations

import json
from collections.abc import Mapping

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from benchmarks.peers.contender import DATABASE, Site
from consumer.local import connect, resource


def topic(site: Site) -> str:
    """Where the table's changes are."""
    return f"{site.name}.public.{site.name}"


def register(site: Site, settings: Mapping[str, str]) -> None:
    """Publish the table and let Connect follow it; `settings` come after those of the connector file."""
    publish(site)
    login = conninfo_to_dict(site.admin)
    config = json.loads(resource("connectors/postgres-json.json").read_text(encoding="utf-8"))
    changed = {
        "database.dbname": DATABASE,
        "database.user": str(login["user"]),
        "database.password": str(login["password"]),
        "topic.prefix": site.name,
        "slot.name": site.name,
        "publication.name": site.name,
        "value.converter.schemas.enable": "true",
        "key.converter.schemas.enable": "true",
        "topic.creation.default.partitions": "1",
    }
    connect.register(
        site.endpoints.connect_url, site.name, config | changed | settings, site.stack.layout.log("connect")
    )


def unregister(site: Site) -> None:
    """Take away the connector, its slot and its publication."""
    connect.unregister(site.endpoints.connect_url, site.name, site.stack.layout.log("connect"))
    withdraw(site)


def publish(site: Site) -> None:
    """Make the table's publication, by the name that the slot has too."""
    with psycopg.connect(site.admin, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE PUBLICATION {} FOR TABLE {}").format(sql.Identifier(site.name), sql.Identifier(site.name))
        )


def withdraw(site: Site) -> None:
    """Ends who reads the slot, and drops it with the publication."""
    ended = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = %s AND active"
    drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s AND NOT active"
    with psycopg.connect(site.admin, autocommit=True) as connection:
        while connection.execute("SELECT 1 FROM pg_replication_slots WHERE slot_name = %s", [site.name]).fetchone():
            connection.execute(ended, [site.name])
            connection.execute(drop, [site.name])
        connection.execute(sql.SQL("DROP PUBLICATION IF EXISTS {}").format(sql.Identifier(site.name)))
