"""Events and stored state to writes: folding, skipping, merging, chunk differences, failures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.content import content_hash
from consumer.errors import Stop
from consumer.events import Record
from consumer.planning import (
    DocumentKey,
    DocumentWrite,
    Failure,
    Move,
    Planned,
    Planner,
    StoredChunk,
    StoredDetail,
    StoredDocument,
    StoredKey,
    Table,
    take_in,
)
from tests.unit.records import HEARTBEATS, TOPIC, WordTokenizer, record, table

TOAST = "__debezium_unavailable_value"


class Memory:
    """What the store would hold, kept by doing what the plans say."""

    def __init__(self, items: Table | None = None) -> None:
        self.table = items or table()
        self.planner = Planner([self.table], 1, WordTokenizer())
        self.heads: dict[DocumentKey, StoredDocument] = {}
        self.details: dict[int, StoredDetail] = {}
        self.texts: dict[tuple[int, bytes, int], str] = {}
        self.moves: dict[bytes, Move] = {}

    def plan(
        self, *records: Record, force: bool = False, failures: dict[DocumentKey, Failure] | None = None
    ) -> Planned:
        intake = take_in(records, {TOPIC: self.table})
        drafted = self.planner.draft(intake, self.heads, force=force)
        planned = self.planner.plan(drafted.drafts, self.details, self.moves, failures)
        self.outcomes = [o.outcome for o in (*drafted.outcomes, *planned.outcomes)]
        self.rejects = drafted.rejects
        return planned

    def apply(self, *records: Record, **rest: Any) -> Sequence[DocumentWrite]:
        planned = self.plan(*records, **rest)
        self.write(*planned.writes)
        return planned.writes

    def write(self, *writes: DocumentWrite) -> None:
        for write in writes:
            self._leave(write)
        for write in writes:
            self._write(write)

    def _leave(self, write: DocumentWrite) -> None:
        """With the vectors of the chunks that still stand, and of the rows that were left earlier."""
        for left in write.leaves:
            hashes = {
                hash_ for earlier in left.earlier if earlier in self.moves for hash_ in self.moves[earlier].vectors
            }
            for number in {write.document_id, *left.documents} - {None}:
                hashes |= {chunk.chunk_hash for chunk in self.details[number or 0].chunks}
            self.moves[left.id] = msgspec.structs.replace(left, vectors=dict.fromkeys(hashes, np.zeros(2)))

    def _write(self, write: DocumentWrite) -> None:
        head = self.heads.get(write.key)
        assert write.expected_version == (head.version if head else 0)
        number = head.document_id if head else len(self.heads) + 1
        assert write.document_id == (number if head else None)
        chunks = {(c.chunk_hash, c.occurrence): c for c in self.details[number].chunks} if head else {}
        for used in write.used:
            del self.moves[used]
        for place in list(chunks) if write.delete_all else write.delete:
            del chunks[place]
        for chunk in write.update:
            assert (chunk.chunk_hash, chunk.occurrence) in chunks
            chunks[chunk.chunk_hash, chunk.occurrence] = chunk
        for new in write.insert:
            assert (new.chunk_hash, new.occurrence) not in chunks
            chunks[new.chunk_hash, new.occurrence] = StoredChunk(new.chunk_hash, new.occurrence, new.chunk_no)
            self.texts[number, new.chunk_hash, new.occurrence] = new.content
        metadata = write.metadata if write.state == "embedded" else (self.details[number].metadata if head else None)
        self.heads[write.key] = StoredDocument(
            number, write.expected_version + 1, write.state, write.order, write.fields_hash, write.fields_complete,
            write.table_hash, write.generation, write.layout,
        )  # fmt: skip
        ordered = tuple(sorted(chunks.values(), key=lambda chunk: chunk.chunk_no))
        self.details[number] = StoredDetail(
            write.expected_version + 1,
            write.fields,
            write.content_hash,
            metadata if chunks else None,
            ordered,
            write.awaits,
            write.layout,
        )

    def text(self) -> list[list[str]]:
        """The chunks' texts of every document, in chunk order."""
        return [
            [self.texts[number, c.chunk_hash, c.occurrence] for c in self.details[number].chunks]
            for number in self.details
        ]


def row(title: str = "one two", body: str | None = "three", price: str = "1.00", id: int = 1) -> dict[str, Any]:
    return {"id": id, "title": title, "body": body, "price": price, "unused": "x"}


def only(writes: Sequence[DocumentWrite]) -> DocumentWrite:
    assert len(writes) == 1
    return writes[0]


def test_an_insert_plans_its_chunks_and_what_the_model_must_read() -> None:
    planned = Memory().plan(record(0, "c", row()))
    write = only(planned.writes)
    assert (write.state, write.expected_version, write.document_id) == ("embedded", 0, None)
    assert [chunk.content for chunk in write.insert] == ["one two three"]
    assert planned.texts.keys() == {write.insert[0].chunk_hash}
    assert (planned.tokens, write.content_hash) == (3, content_hash("one two three"))


@pytest.mark.semantics(
    "operations",
    "update of a column that neither text, filter nor metadata uses",
    "skipped: no model call, no write; the offset moves",
)
def test_an_update_that_changes_no_used_column_writes_nothing() -> None:
    memory = Memory()
    memory.apply(record(0, "c", row()))
    assert not memory.apply(record(1, "u", {**row(), "unused": "other"}))
    assert memory.outcomes == ["unchanged"]


@pytest.mark.semantics("operations", "update of a metadata column", "metadata is written, no text is embedded")
def test_an_edit_of_metadata_embeds_nothing() -> None:
    memory = Memory()
    memory.apply(record(0, "c", row()))
    planned = memory.plan(record(1, "u", row(price="2.00")))
    write = only(planned.writes)
    assert (planned.texts, write.insert, write.delete, len(write.update)) == ({}, (), (), 1)
    assert write.metadata == b'{"price":"2.00"}'


@pytest.mark.semantics(
    "operations",
    "update of a part of the text",
    "only the chunks whose text changed are embedded; the others keep vector and row",
)
def test_an_edit_embeds_only_the_chunks_that_changed() -> None:
    memory = Memory(table(max_tokens=2))
    memory.apply(record(0, "c", row("a b c d", "e f")))
    planned = memory.plan(record(1, "u", row("a b x y", "e f")))
    write = only(planned.writes)
    assert [chunk.content for chunk in write.insert] == ["x y"]
    assert (len(write.delete), len(write.update), write.kept) == (1, 0, 2)


def test_equal_chunks_are_told_apart_and_their_vector_is_borrowed() -> None:
    memory = Memory(table(max_tokens=2))
    memory.apply(record(0, "c", row("a b", "c d")))
    planned = memory.plan(record(1, "u", row("a b a b", "c d")))
    write = only(planned.writes)
    assert [(chunk.content, chunk.occurrence) for chunk in write.insert] == [("a b", 1)]
    assert (planned.texts, len(planned.borrow)) == ({}, 1)


@pytest.mark.semantics(
    "operations",
    "several events of a row in one batch",
    "coalesced to the last state, one write, one embedding; each event is counted",
)
def test_events_of_a_key_coalesce_to_the_last_state() -> None:
    memory = Memory()
    write = only(
        memory.apply(record(0, "c", row("first")), record(1, "u", row("second")), record(2, "u", row("third")))
    )
    assert [chunk.content for chunk in write.insert] == ["third three"]
    assert memory.outcomes == ["embedded"] * 3
    assert write.order.offset == 2


@pytest.mark.semantics(
    "operations",
    "update there and back again within one batch",
    "the row is written once more, nothing is embedded",
)
def test_there_and_back_again_within_a_batch_still_writes_the_row() -> None:
    memory = Memory()
    memory.apply(record(0, "c", row("a")))
    planned = memory.plan(record(1, "u", row("b")), record(2, "u", row("a")))
    write = only(planned.writes)
    assert (planned.texts, write.insert, write.update, write.order.offset) == ({}, (), (), 2)


@pytest.mark.semantics(
    "operations",
    "delete",
    "chunks go, a gravestone without content stays and keeps older events out",
)
def test_a_delete_leaves_a_gravestone_that_a_replay_cannot_lift() -> None:
    memory = Memory()
    memory.apply(record(0, "c", row()))
    gone = only(memory.apply(record(1, "d", key={"id": 1}), record(2, None, key={"id": 1})))
    assert (gone.state, gone.fields, gone.content_hash, gone.delete_all) == ("deleted", None, None, True)
    assert not memory.apply(record(0, "c", row()), force=True)
    assert memory.outcomes == ["stale"]
    again = only(memory.apply(record(3, "c", row("new"))))
    assert (again.state, again.expected_version) == ("embedded", 2)


@pytest.mark.semantics("operations", "delete of a key that was never seen", "a gravestone all the same")
def test_a_delete_of_an_unknown_key_is_remembered() -> None:
    gone = only(Memory().apply(record(5, "d", key={"id": 9})))
    assert (gone.state, gone.expected_version, gone.delete_all) == ("deleted", 0, False)


@pytest.mark.semantics(
    "operations",
    "row that leaves the filter `when`",
    "the document stays, with zero chunks, until the row comes back",
)
def test_when_takes_a_row_out_and_back_without_losing_the_document() -> None:
    memory = Memory(table(when="{{ price != '0' }}"))
    memory.apply(record(0, "c", row()))
    out = only(memory.apply(record(1, "u", row(price="0"))))
    assert (out.state, len(out.delete), out.insert) == ("embedded", 1, ())
    assert [chunk.content for chunk in only(memory.apply(record(2, "u", row()))).insert] == ["one two three"]


@pytest.mark.semantics(
    "TOAST",
    "placeholder in an update",
    "filled per column from an earlier event of the row and partition in the batch, else from the stored fields",
)
def test_a_placeholder_is_filled_from_the_batch_then_from_the_store() -> None:
    memory = Memory()
    memory.apply(record(0, "c", row(body="long")), record(1, "u", row("x", TOAST)))
    assert memory.text() == [["x long"]]
    memory.apply(record(2, "u", row("y", TOAST)))
    assert memory.text() == [["y long"]]


@pytest.mark.semantics(
    "TOAST",
    "placeholder that nothing can fill",
    "never embedded: the document fails as `incomplete`; the next full event or a snapshot heals it",
)
def test_a_placeholder_that_nothing_can_fill_fails_and_a_full_event_heals_it() -> None:
    memory = Memory()
    failed = only(memory.apply(record(1, "u", row("x", TOAST))))
    assert failed.failure is not None
    assert (failed.state, failed.failure.error_type, failed.fields_complete) == ("failed", "incomplete", False)
    healed = only(memory.apply(record(2, "u", row("x", "short"))))
    assert (healed.state, healed.was_failed) == ("embedded", True)


@pytest.mark.semantics(
    "TOAST",
    "placeholder, and stored fields of another partition",
    "not filled from them: they may be older or newer",
)
def test_a_placeholder_is_not_filled_from_another_partition() -> None:
    memory = Memory()
    memory.apply(record(0, "c", row(body="long"), lsn=1, ts_us=1))
    failed = only(memory.apply(record(0, "u", row("x", TOAST), partition=1, lsn=2, ts_us=2)))
    assert failed.state == "failed"


@pytest.mark.semantics(
    "TOAST",
    "placeholder after an event that could not be decoded",
    "not filled: the lost event may have changed the column",
)
def test_an_undecodable_event_between_makes_the_stored_fields_no_source() -> None:
    memory = Memory()
    memory.apply(record(0, "c", row(body="long")))
    broken = msgspec.structs.replace(record(1, "u", row()), value=b"junk")
    failed = only(memory.apply(broken))
    assert (failed.state, failed.fields_complete) == ("failed", False)
    assert only(memory.apply(record(2, "u", row("x", TOAST)))).state == "failed"
    assert memory.text() == [["one two long"]], "the last good vectors stay"


@pytest.mark.semantics(
    "values",
    "column that the settings name and the event lacks; a template that fails or grows without bound",
)
def test_a_missing_column_is_named() -> None:
    failed = only(Memory().apply(record(0, "c", {"id": 1, "title": "a", "price": "1"})))
    assert failed.failure is not None
    assert "body" in failed.failure.error
    assert TOPIC in failed.failure.error


@pytest.mark.parametrize(("column", "old"), [("title", b'"one two"'), ("price", b'"1.00"')])
@pytest.mark.parametrize("depth", [101, 600, 985])
@pytest.mark.semantics("values", "JSON nested more deeply than can be stored", "failed document, alone")
def test_a_value_nested_too_deeply_fails_alone(column: str, old: bytes, depth: int) -> None:
    plain, memory = record(0, "c", row()), Memory()
    deep = (plain.value or b"").replace(old, b"[" * depth + b"1" + b"]" * depth)
    write, neighbour = memory.apply(msgspec.structs.replace(plain, value=deep), record(1, "c", row(id=2)))
    assert write.failure is not None
    assert write.failure.error_type in ("too_deep", "value_undecodable")
    assert (write.state, neighbour.state) == ("failed", "embedded")


@pytest.mark.semantics(
    "order",
    "snapshot row (`r`) before a streamed event",
    "never makes it stale; `source.lsn` alone is no order",
)
def test_a_read_never_makes_a_streaming_event_stale_whatever_sequence_it_carries() -> None:
    """A blocking snapshot carries its own WAL position: a transaction that was open meanwhile is below it."""
    memory = Memory()
    memory.apply(record(0, "r", row("old"), lsn=50, ts_us=9_000_000))
    write = only(memory.apply(record(1, "u", row("new"), lsn=40, ts_us=8_000_000)))
    assert [chunk.content for chunk in write.insert] == ["new three"]


def test_a_rendering_failure_keeps_the_fields_for_the_retry() -> None:
    memory = Memory(table(text="{{ title.missing.deep }} {{ body }}"))
    failed = only(memory.apply(record(0, "c", row())))
    assert failed.failure is not None
    assert (failed.failure.stage, failed.fields_complete, failed.fields_hash) == ("render", True, None)


def test_a_failed_document_is_applied_again_at_the_same_offset() -> None:
    memory = Memory()
    key = only(memory.plan(record(0, "c", row())).writes).key
    memory.apply(record(0, "c", row()), failures={key: Failure("embed", "not_finite", "NaN")})
    assert memory.heads[key].state == "failed"
    assert only(memory.apply(record(0, "c", row()))).state == "embedded"
    assert not memory.apply(record(0, "c", row()))


def test_a_value_the_database_refused_is_not_stored_with_the_failure() -> None:
    memory = Memory()
    key = only(memory.plan(record(0, "c", row())).writes).key
    failed = only(memory.apply(record(0, "c", row()), failures={key: Failure("write", "refused_value", "no")}))
    assert (failed.fields, failed.insert, failed.state) == (None, (), "failed")


def test_other_table_settings_render_stored_fields_again() -> None:
    memory = Memory()
    memory.apply(record(0, "c", row()))
    key, head = next(iter(memory.heads.items()))
    planner = Planner([table(text="{{ body }} {{ title }}")], 1, WordTokenizer())
    planned = planner.plan(planner.redraft([StoredKey(key, b'{"id":1}', head)]), memory.details, {})
    write = only(planned.writes)
    assert [chunk.content for chunk in write.insert] == ["three one two"]
    assert (write.order, len(write.delete)) == (head.order, 1)


@pytest.mark.semantics(
    "operations",
    "logical message (`m`), heartbeat, record without a key",
    "ignored; feeds freshness; failed document `key_missing`",
)
def test_records_without_a_row_are_told_apart() -> None:
    beat = msgspec.structs.replace(record(3, "c", row(), topic=HEARTBEATS), value=b'{"ts_ms":7}')
    no_key = msgspec.structs.replace(record(4, "c", row()), key=None)
    intake = take_in([beat, no_key, record(5, "m"), record(6, "t", ts_us=8)], {TOPIC: table()})
    assert intake.heartbeats == {"shop": 7000}
    assert [(r.offset, r.failure.error_type) for r in intake.rejects] == [(4, "key_missing")]
    assert [t.ts_us for t in intake.truncates] == [8]
    assert [o.outcome for o in intake.outcomes] == ["rejected", "ignored", "deleted"]


@pytest.mark.semantics(
    "operations",
    "truncate (`t`)",
    "by the table's `on_truncate`: delete (default), ignore, or stop with exit code 4",
)
def test_truncate_follows_the_tables_policy() -> None:
    assert take_in([record(6, "t", ts_us=8)], {TOPIC: table(on_truncate="ignore")}).truncates == []
    with pytest.raises(Stop, match="offsets reset"):
        take_in([record(6, "t", ts_us=8)], {TOPIC: table(on_truncate="stop")})


def truncated(table_name: str, *, wrapped: bool, schema: str | None = "public") -> Record:
    source = {"name": "shop", "db": "inventory", "schema": schema, "table": table_name, "ts_us": 8}
    envelope: dict[str, Any] = {"op": "t", "source": source}
    value = json.dumps({"schema": {"type": "struct"}, "payload": envelope} if wrapped else envelope).encode()
    return msgspec.structs.replace(record(6, "t"), key=None, value=value)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.semantics(
    "operations",
    "truncate (`t`) in a topic that a router chose",
    "the process stops (exit 4), unless `source` has the table's name: rows of other tables are never deleted",
)
def test_a_truncate_empties_no_source_but_its_tables_own(wrapped: bool) -> None:
    own, routed = table(), replace(table(), topic=TOPIC, source="everything")
    assert len(take_in([truncated("items", wrapped=wrapped)], {TOPIC: own}).truncates) == 1
    mine = replace(routed, source="shop.public.orders")
    assert len(take_in([truncated("orders", wrapped=wrapped)], {TOPIC: mine}).truncates) == 1
    with pytest.raises(Stop, match=r"table shop\.public\.orders was truncated") as stop:
        take_in([truncated("orders", wrapped=wrapped)], {TOPIC: routed})
    assert stop.value.exit_code == 4
    ignored = take_in([truncated("orders", wrapped=wrapped)], {TOPIC: replace(routed, on_truncate="ignore")})
    assert (ignored.truncates, [o.outcome for o in ignored.outcomes]) == ([], ["ignored"])


def test_a_truncated_table_is_known_by_its_topic_whatever_that_cannot_spell() -> None:
    odd = replace(table(), topic="shop.inventory.my_odd_table", source="x")
    event = msgspec.structs.replace(truncated("my odd-table", wrapped=False, schema=None), topic=odd.topic)
    assert len(take_in([event], {odd.topic: odd}).truncates) == 1


steps = st.lists(
    st.tuples(
        st.sampled_from(["c", "u", "d", "toast", "junk"]),
        st.integers(1, 3),
        st.sampled_from(["", "a b", "a b c d", "a b a b", "x"]),
        st.sampled_from(["1", "2"]),
    ),
    min_size=1,
    max_size=25,
)


def _records(history: list[tuple[str, int, str, str]]) -> list[Record]:
    made = []
    for offset, (op, key, title, price) in enumerate(history):
        values = row(title, TOAST if op == "toast" else f"body{offset % 3}", price, key)
        made.append(
            record(offset, "u" if op in ("toast", "junk") else op, None if op == "d" else values, key={"id": key})
        )
        if op == "junk":
            made[-1] = msgspec.structs.replace(made[-1], value=b"junk")
    return made


@settings(max_examples=200, deadline=None)
@given(steps, st.lists(st.integers(1, 25), max_size=5), st.integers(0, 24), st.integers(0, 24))
@pytest.mark.semantics(
    "order",
    "however the log is cut into batches, and whatever part is read again",
    "the same documents and chunks",
)
def test_batches_and_replays_do_not_change_the_outcome(
    history: list[tuple[str, int, str, str]], cuts: list[int], replay_from: int, replay_to: int
) -> None:
    """However the log is cut into batches, and whatever part of it is read again: the same documents and chunks."""
    records = _records(history)
    one_by_one, batched = Memory(table(max_tokens=2)), Memory(table(max_tokens=2))
    for each in records:
        one_by_one.apply(each)
    borders = sorted({0, *(cut for cut in cuts if cut < len(records)), len(records)})
    for start, end in pairwise(borders):
        batched.apply(*records[start:end])
    batched.apply(*records[replay_from:replay_to], force=True)

    def states(memory: Memory) -> dict[DocumentKey, Any]:
        return {key: head.state for key, head in memory.heads.items()}

    def texts(memory: Memory) -> dict[DocumentKey, list[str]]:
        return {
            key: [memory.texts[h.document_id, c.chunk_hash, c.occurrence] for c in memory.details[h.document_id].chunks]
            for key, h in memory.heads.items()
            if h.state != "failed"
        }

    assert states(batched) == states(one_by_one)
    assert texts(batched) == texts(one_by_one)


def test_force_embeds_every_chunk_anew() -> None:
    memory = Memory(table(max_tokens=2))
    memory.apply(record(0, "c", row("a b c d", "e")))
    planned = memory.plan(record(0, "c", row("a b c d", "e")), force=True)
    write = only(planned.writes)
    assert ([chunk.content for chunk in write.insert], write.delete_all) == (["a b", "c d", "e"], True)
    assert (len(planned.texts), planned.borrow, write.kept) == (3, (), 0)
    memory.write(write)
    assert memory.text() == [["a b", "c d", "e"]]


def test_an_undecodable_event_of_another_partition_fails_by_itself() -> None:
    """After partitions were added: it may be newer than the document or older, and nothing in it says which."""
    memory = Memory()
    memory.apply(record(7, "c", row(), lsn=1))
    junk = msgspec.structs.replace(record(0, "u", row(), partition=3), value=b"junk")
    assert not memory.apply(junk)
    assert [(r.partition, r.offset, r.failure.error_type) for r in memory.rejects] == [(3, 0, "value_undecodable")]
    assert memory.outcomes == ["rejected"]
    older = msgspec.structs.replace(record(3, "u", row()), value=b"junk")
    assert not memory.apply(older)
    assert memory.outcomes == ["stale"]


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("before", [None, 100, 101])
def test_an_undecodable_event_stays_known_when_another_partition_takes_the_document(
    before: int | None, at_once: bool
) -> None:
    """It is newer than the event at `before`, and may be newer than that of the other partition."""
    memory = Memory()
    known = [] if before is None else [record(0, "c", row("x"), partition=1, ts_us=before)]
    junk = msgspec.structs.replace(record(1, "u", row(), partition=1), value=b"junk")
    other = record(0, "c", row(), lsn=1, ts_us=101)
    for batch in [(*known, junk, other)] if at_once else [known, [junk], [other]]:
        memory.apply(*batch)
    assert [(r.partition, r.offset) for r in memory.rejects] == [(1, 1)]
    assert memory.text() == [["one two three"]]


def test_a_failed_event_that_was_read_is_settled_by_a_newer_one_of_another_partition() -> None:
    memory = Memory()
    memory.apply(record(0, "u", row("x", TOAST), partition=1, lsn=1, ts_us=100))
    assert [head.state for head in memory.heads.values()] == ["failed"]
    memory.apply(record(0, "u", row(), lsn=2, ts_us=101))
    assert (memory.rejects, memory.text()) == ([], [["one two three"]])


def test_a_record_without_a_key_fails_by_what_is_wrong_with_its_value() -> None:
    intake = take_in([msgspec.structs.replace(record(0, "t"), key=None, value=b"junk")], {TOPIC: table()})
    assert [reject.failure.error_type for reject in intake.rejects] == ["value_undecodable"]
    assert not intake.decodable
