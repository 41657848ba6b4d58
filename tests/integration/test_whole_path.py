"""From a source row to a searchable vector and back to nothing, through the real command on the real stack."""

from __future__ import annotations

import re

import pytest
from psycopg import sql

from tests.integration.test_doctor import doctor
from tests.world import World


@pytest.mark.semantics(
    "operations",
    "insert (`c`), update (`u`), delete (`d`) of a row",
    "its chunks are embedded, replaced, and deleted; each step is one transaction with its offset",
)
def test_insert_edit_and_delete_reach_the_view(world: World) -> None:
    world.migrate()
    insert = sql.SQL("INSERT INTO {} (id, title, body, category, price) VALUES (1, 'Lamp', 'Old brass', 'home', 9.50)")
    world.source(insert.format(world.table()))
    with world.consumer():
        row = world.until(lambda: world.store("SELECT * FROM chunks WHERE source = %s", [world.topic()]))[0]
        assert row["source_key"] == {"id": 1}
        assert (row["chunk_no"], row["content"]) == (0, "Lamp\n\nOld brass")
        assert row["metadata"] == {"category": "home", "price": "9.50"}
        assert row["kafka_topic"] == world.topic()

        world.source(sql.SQL("UPDATE {} SET body = 'New copper'").format(world.table()))
        world.until(lambda: world.store("SELECT 1 FROM chunks WHERE content LIKE '%%copper'", []))
        assert len(world.store("SELECT 1 FROM chunks")) == 1

        world.source(sql.SQL("DELETE FROM {}").format(world.table()))
        world.until(lambda: not world.store("SELECT 1 FROM chunks"))
        states = world.store("SELECT state FROM documents")
        assert [state["state"] for state in states] == ["deleted"]


KEY, PRICE = 'Kéy "1" .a', "the 'Price'; DROP TABLE x"


@pytest.mark.semantics(
    "operations",
    "table and columns whose names SQL must quote: quotes, capitals, blanks, dots, other alphabets",
    "as any other; the topic has the name that the connector makes of it, `source` the name itself",
)
def test_names_that_sql_must_quote(world: World) -> None:
    name = f'{world.name} Odd "Täble" .x'
    source = f"{world.prefix}.public.{name}"
    topic = re.sub(r"[^A-Za-z0-9._-]", "_", source)
    named = {"table": name, "key": KEY, "title": "Tïtle", "price": PRICE}
    quoted = {each: sql.Identifier(name) for each, name in named.items()}

    def execute(statement: str) -> None:
        world.source(sql.SQL(statement).format(**quoted))

    execute("CREATE TABLE {table} ({key} int PRIMARY KEY, {title} text, {price} int)")
    entry = {"topic": topic, "source": source, "text": "{{ Tïtle }}", "when": "{{ Tïtle }}", "metadata": [PRICE]}
    world.tables = [entry]
    world.migrate()
    execute("INSERT INTO {table} VALUES (1, 'yes', 5), (2, 'yes', 6)")

    def rows() -> dict[int, int]:
        chunks = world.store("SELECT source_key, metadata FROM chunks WHERE source = %s", [source])
        return {chunk["source_key"][KEY]: chunk["metadata"][PRICE] for chunk in chunks}

    with world.consumer():
        world.until(lambda: rows() == {1: 5, 2: 6})
        execute("UPDATE {table} SET {price} = 7 WHERE {key} = 1")
        execute("UPDATE {table} SET {key} = 3 WHERE {key} = 2")
        world.until(lambda: rows() == {1: 7, 3: 6})
        about = {check: finding["verdict"] for check, finding in doctor(world).items() if source in check}
        assert about
        assert "fail" not in about.values(), about
        execute("DELETE FROM {table} WHERE {key} = 1")
        world.until(lambda: rows() == {3: 6})
        execute("TRUNCATE {table}")
        world.until(lambda: rows() == {})
    assert world.store("SELECT 1 FROM failed_documents") == []
