"""What an event does to the vectors: only what changed is embedded, and nothing that is not there is made up."""

from __future__ import annotations

import json
from typing import Any

import pytest
from psycopg import sql

from tests.command import CommandProcess
from tests.envelopes import change, row, tombstone
from tests.topic_log import read_topics
from tests.world import World

PLACEHOLDER = "__debezium_unavailable_value"
SENTENCES = [f"Sentence number {number} tells of amber, basins, cedars and deltas." for number in range(40)]


def insert(world: World, number: int, body: str, suffix: str = "a") -> None:
    statement = "INSERT INTO {} (id, title, body, category, price) VALUES (%s, 'Lamp', %s, 'home', 9.50)"
    world.source(sql.SQL(statement).format(world.table(suffix)), [number, body])


def update(world: World, assignment: str, values: list[Any] | None = None) -> None:
    world.source(sql.SQL("UPDATE {} SET " + assignment).format(world.table()), values or [])


def chunks(world: World) -> list[dict[str, Any]]:
    return world.store("SELECT * FROM chunks ORDER BY source_key, chunk_no")


def settled(world: World, events: int) -> None:
    """Wait until the table's topic holds so many records and all of them are applied."""
    world.until(lambda: sum(world.end_offsets("a").values()) == events)
    world.until(lambda: world.caught_up("a"))


def embeds(consumer: CommandProcess) -> float:
    """Vectors computed so far, as /metrics tells."""
    return sum(v for (name, labels), v in consumer.metrics().items() if name == "chunks_total" and "embedded" in labels)


@pytest.mark.semantics("operations", "update of a metadata column")
def test_an_edit_of_no_text_embeds_nothing(world: World) -> None:
    world.migrate()
    insert(world, 1, " ".join(SENTENCES))
    with world.consumer() as consumer:
        settled(world, 1)
        before, computed = chunks(world), embeds(consumer)
        assert computed == len(before) > 5
        update(world, "price = 12.00, category = NULL")
        settled(world, 2)
        after = chunks(world)
        assert {json.dumps(chunk["metadata"]) for chunk in after} == {'{"price": "12.00", "category": null}'}
        kept = ("chunk_no", "content", "embedding", "embedded_at")
        assert [[chunk[name] for name in kept] for chunk in after] == [[c[name] for name in kept] for c in before]
        assert embeds(consumer) == consumer.embedded() == computed
        assert {chunk["kafka_offset"] for chunk in after} == {before[0]["kafka_offset"] + 1}


@pytest.mark.semantics("operations", "update of a part of the text")
def test_an_edit_of_the_last_sentence_embeds_only_the_chunks_it_changes(world: World) -> None:
    world.migrate()
    insert(world, 1, " ".join(SENTENCES))
    with world.consumer() as consumer:
        settled(world, 1)
        before, computed = chunks(world), embeds(consumer)
        update(world, "body = %s", [" ".join([*SENTENCES[:-1], "An ending like no other."])])
        settled(world, 2)
        old, after = {chunk["content"] for chunk in before}, chunks(world)
        new = [chunk["content"] for chunk in after if chunk["content"] not in old]
        assert 1 <= len(new) <= 2
        assert embeds(consumer) - computed == len(new)
        assert [chunk["chunk_no"] for chunk in after] == list(range(len(after)))
        reused = [chunk for chunk in after if chunk["content"] in old]
        vectors = {chunk["content"]: (chunk["embedding"], chunk["embedded_at"]) for chunk in before}
        assert all(vectors[chunk["content"]] == (chunk["embedding"], chunk["embedded_at"]) for chunk in reused)


@pytest.mark.semantics("operations", "row that leaves the filter `when`")
def test_a_row_that_leaves_the_filter_loses_its_chunks_until_it_comes_back(world: World) -> None:
    world.migrate()
    insert(world, 1, "Old brass")
    insert(world, 2, "New steel")
    with world.consumer():
        settled(world, 2)
        update(world, "status = 'draft' WHERE id = 1")
        settled(world, 3)
        assert [chunk["source_key"] for chunk in chunks(world)] == [{"id": 2}]
        states = world.store("SELECT state FROM documents ORDER BY source_key")
        assert [document["state"] for document in states] == ["embedded", "embedded"]
        update(world, "body = 'Older brass' WHERE id = 1")
        settled(world, 4)
        assert [chunk["source_key"] for chunk in chunks(world)] == [{"id": 2}]
        update(world, "status = 'published' WHERE id = 1")
        settled(world, 5)
        assert [chunk["content"] for chunk in chunks(world)] == ["Lamp\n\nOlder brass", "Lamp\n\nNew steel"]


@pytest.mark.parametrize("column", ["title", "body"])
@pytest.mark.semantics("values", "NULL, empty or blank text", "the document exists, with zero chunks")
def test_a_row_without_text_has_no_chunks(world: World, column: str) -> None:
    world.tables[0]["text"] = f"{{{{ {column} }}}}"
    world.migrate()
    insert(world, 1, "Old brass")
    with world.consumer():
        settled(world, 1)
        assert len(chunks(world)) == 1
        update(world, f"{column} = NULL")
        settled(world, 2)
        assert chunks(world) == []
        update(world, f"{column} = ' \n '")
        settled(world, 3)
        assert chunks(world) == []
        assert world.store("SELECT state FROM documents") == [{"state": "embedded"}]


@pytest.mark.semantics("TOAST", "placeholder in an update")
def test_a_large_column_that_an_update_leaves_out_keeps_its_text(world: World) -> None:
    """Postgres does not log an unchanged TOASTed value: the event carries a placeholder in its place."""
    world.source(sql.SQL("ALTER TABLE {} ALTER COLUMN body SET STORAGE EXTERNAL").format(world.table()))
    world.migrate()
    insert(world, 1, " ".join(SENTENCES * 4))
    with world.consumer() as consumer:
        settled(world, 1)
        before, computed = chunks(world), embeds(consumer)
        update(world, "price = 12.00")
        settled(world, 2)
        _require_placeholder(world)
        after = chunks(world)
        assert [chunk["content"] for chunk in after] == [chunk["content"] for chunk in before]
        assert {chunk["metadata"]["price"] for chunk in after} == {"12.00"}
        assert embeds(consumer) == computed
        update(world, "title = 'Lantern'")
        settled(world, 3)
        _require_placeholder(world)
        after = chunks(world)
        assert after[0]["content"].startswith("Lantern\n\nSentence number 0")
        assert "".join(chunk["content"] for chunk in after).count("number 39") >= 4
        assert PLACEHOLDER not in "".join(chunk["content"] for chunk in after)
        # In one batch with the event that brought the value, too.
        insert(world, 2, " ".join(SENTENCES * 4))
        update(world, "price = 13.00")
        settled(world, 6)
        assert {chunk["metadata"]["price"] for chunk in chunks(world)} == {"13.00"}
        assert world.store("SELECT * FROM failed_documents") == []


@pytest.mark.semantics("TOAST", "placeholder that nothing can fill")
def test_a_large_column_that_nobody_knows_fails_as_incomplete_until_a_full_event(world: World) -> None:
    world.tables = world.tables[:1]
    world.create_topic()
    world.produce(change(row(1, body=PLACEHOLDER)))
    world.migrate()
    with world.consumer():
        failed = world.until(lambda: world.store("SELECT * FROM failed_documents"))[0]
        assert (failed["stage"], failed["error_type"], failed["source_key"]) == ("plan", "incomplete", {"id": 1})
        assert chunks(world) == []
        world.produce(change(row(1, body=PLACEHOLDER, price="2.00")))  # still incomplete
        world.until(lambda: world.caught_up("a"))
        assert len(world.store("SELECT * FROM failed_documents")) == 1
        world.produce(change(row(1, body=f"mentions {PLACEHOLDER} and is data"), "r"))
        assert world.until(lambda: chunks(world))[0]["content"].endswith("and is data")
        assert world.store("SELECT * FROM failed_documents") == []
        world.produce(change(row(1, body=PLACEHOLDER, price="3.00")))
        world.until(lambda: [chunk["metadata"]["price"] for chunk in chunks(world)] == ["3.00"])


@pytest.mark.semantics(
    "operations",
    "truncate (`t`) among changes of several partitions",
    "deletes what is older in all partitions of the source; what comes after stays",
)
def test_a_truncate_takes_what_was_there_and_leaves_what_comes_after(world: World) -> None:
    world.migrate()
    for number in range(1, 9):
        insert(world, number, "before")
        insert(world, number, "of another table", "b")
    with world.consumer():
        world.settle()
        world.source(sql.SQL("TRUNCATE {}").format(world.table()))
        insert(world, 2, "after")
        insert(world, 20, "after")
        world.settle()
        mine = [chunk for chunk in chunks(world) if chunk["source"] == world.topic("a")]
        assert [(chunk["source_key"]["id"], chunk["content"]) for chunk in mine] == [
            (2, "Lamp\n\nafter"),
            (20, "Lamp\n\nafter"),
        ]
        assert len(chunks(world)) == 8 + 2
        gone = world.store("SELECT 1 FROM documents WHERE state = 'deleted' AND source = %s", [world.topic("a")])
        assert len(gone) == 7


@pytest.mark.semantics("operations", "tombstone without its delete (compaction)", "deletes")
def test_a_tombstone_alone_deletes(world: World) -> None:
    """Compaction may leave a tombstone whose delete is gone."""
    world.tables = world.tables[:1]
    world.create_topic()
    world.produce(change(row(1), "c"), change(row(2), "c"))
    world.migrate()
    with world.consumer():
        world.until(lambda: len(chunks(world)) == 2)
        world.produce(tombstone(1), tombstone(7))
        world.until(lambda: world.caught_up("a"))
        assert [chunk["source_key"] for chunk in chunks(world)] == [{"id": 2}]
        gone = world.store("SELECT source_key FROM documents WHERE state = 'deleted' ORDER BY source_key")
        assert [document["source_key"] for document in gone] == [{"id": 1}, {"id": 7}]
        world.produce(change(row(1, "again"), "c"))
        world.until(lambda: len(chunks(world)) == 2)


def _require_placeholder(world: World) -> None:
    """The test is about nothing unless the connector really left the value out of the last event."""
    events = read_topics(world.endpoints.bootstrap_servers, [world.topic()])
    rows = [(event.ts_us, event.after) for event in events if event.after is not None]
    assert max(rows, key=lambda row: row[0] or 0)[1]["body"] == PLACEHOLDER
