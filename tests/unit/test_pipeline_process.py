"""The pipeline over a store that interrupts it in every way a database and other writers can: nothing lost or doubled.

The store here is a stand-in that keeps documents, chunks, versions and fenced offsets as the real one does.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from random import Random
from threading import Event
from typing import Any

import msgspec
import numpy as np
import pytest

from consumer.embedding import Embedded
from consumer.errors import Reject
from consumer.events import AvroSchema, Record, SchemaRef
from consumer.pipeline import Pipeline, Report
from consumer.planning import Advance, Batch, DocumentKey, Moves, Plan, Planner, StoredDetail, StoredDocument
from consumer.source import Holdings
from consumer.store import Applied, Conflict, Fenced, Generation, TooSlow
from consumer.store.model import TopicPartition
from tests.unit.records import HEARTBEATS, TOPIC, Words, WordTokenizer, record, table
from tests.unit.test_planning_planner import TOAST, Memory, row

GENERATION = Generation(1, "live", b"", "model", 2, "vector", "cosine", 16, 64, "chunks_1")
PARTITIONS = (0, 1)


class Shelf:
    """Documents and offsets in memory. `trouble` decides what happens to the next transaction."""

    def __init__(self, trouble: Random | None = None) -> None:
        self.memory = Memory(table(max_tokens=2))
        self.offsets: dict[tuple[str, int], tuple[int, int]] = {}
        self._trouble = trouble

    def acquire(self, partition: int) -> tuple[int, int]:
        epoch, offset = self.offsets.get((TOPIC, partition), (0, 0))
        self.offsets[TOPIC, partition] = epoch + 1, offset
        return self.offsets[TOPIC, partition]

    def lookup(self, keys: Collection[DocumentKey]) -> dict[DocumentKey, StoredDocument]:
        return self.lookup_pieces([keys])

    def lookup_pieces(self, pieces: Iterable[Collection[DocumentKey]]) -> dict[DocumentKey, StoredDocument]:
        return {key: self.memory.heads[key] for keys in pieces for key in keys if key in self.memory.heads}

    def details(self, _: Generation, document_ids: Sequence[int]) -> dict[int, StoredDetail]:
        return {number: self.memory.details[number] for number in document_ids}

    def vectors(self, _: Generation, chunks: Sequence[tuple[int, bytes]]) -> dict[bytes, Any]:
        stands = {(number, c.chunk_hash) for number, detail in self.memory.details.items() for c in detail.chunks}
        return {chunk[1]: np.zeros(2) for chunk in chunks if chunk in stands}

    def moves(self, _: Generation, ids: Collection[bytes]) -> Moves:
        return self.memory.moves

    def rehearse(self, plan: Plan, vectors: Mapping[bytes, Any]) -> None:
        raise AssertionError("no value is refused here")

    def apply(self, plan: Plan, vectors: Mapping[bytes, Any]) -> Applied | Fenced | Conflict:
        luck = self._trouble.random() if self._trouble else 0.5
        if luck < 0.08:
            raise TooSlow("Rolled back.")
        if luck < 0.14 and self._trouble:  # another process takes a partition over
            self.acquire(self._trouble.choice(plan.advances).partition)
        if luck > 0.95 and self._trouble and plan.writes:  # another writer touches a document
            key = self._trouble.choice(plan.writes).key
            if head := self.memory.heads.get(key):
                self.memory.heads[key] = msgspec.structs.replace(head, version=head.version + 1)
        lost = {
            (a.topic, a.partition) for a in plan.advances if self.offsets[a.topic, a.partition] != (a.epoch, a.start)
        }
        if lost:
            return Fenced(frozenset(TopicPartition(*place) for place in lost))
        heads = self.memory.heads
        late = {w.key for w in plan.writes if w.expected_version != (heads[w.key].version if w.key in heads else 0)}
        if late:
            return Conflict(frozenset(late))
        for write in plan.writes:
            assert all(chunk.chunk_hash in vectors for chunk in write.insert)
        self.memory.write(*plan.writes)
        self.offsets |= {(a.topic, a.partition): (a.epoch, a.end) for a in plan.advances}
        if 0.90 < luck < 0.93:
            raise TooSlow("Committed, and the answer got lost.")
        return Applied()


class Zeros:
    """An engine of four tokens a second, so that batches are cut."""

    tokens_per_second = 4.0
    token_budget = 4

    def embed(self, token_ids: Sequence[Sequence[int]]) -> Embedded:
        return Embedded(np.zeros((len(token_ids), 2), np.float32))


class Silent:
    """A report that nobody reads."""

    def waiting(self, *_: object) -> None: ...
    def done(self, *_: object) -> None: ...
    def fenced(self, *_: object) -> None: ...
    def retrying(self, *_: object) -> None: ...


class NoRegistry:
    """JSON asks for no schema."""

    def schemas(self, refs: Collection[SchemaRef]) -> Mapping[SchemaRef, AvroSchema | Reject]:
        raise AssertionError(refs)


class Impatient(Event):
    """Waits for nothing: what the pipeline would wait for here is over at once."""

    def wait(self, timeout: float | None = None) -> bool:
        return self.is_set()


def pipeline(shelf: Shelf, report: Report | None = None, max_events: int = 1000) -> Pipeline:
    planner = Planner([shelf.memory.table], 1, WordTokenizer())
    return Pipeline(
        planner, Zeros(), shelf, NoRegistry(), report or Silent(), Impatient(),
        generation=GENERATION, tables={TOPIC: shelf.memory.table}, group="g", max_events=max_events, max_seconds=1.0,
    )  # fmt: skip


def history(random: Random) -> dict[int, list[Record]]:
    """A log for each partition, with gaps between offsets."""
    logs: dict[int, list[Record]] = {partition: [] for partition in PARTITIONS}
    for moment in range(1, random.randint(2, 40)):
        key = random.randint(1, 4)
        log = logs[key % 2]
        offset = (log[-1].offset if log else -1) + random.choice((1, 1, 1, 2))
        op = random.choice(["c", "u", "u", "d", "toast", "junk"])
        body = TOAST if op == "toast" else f"b{offset % 3}"
        values = row(random.choice(["", "a b", "a b c d", "a b a b"]), body, str(offset % 2), key)
        made = record(
            offset, op if op in "cd" else "u", None if op == "d" else values,
            key={"id": key}, partition=key % 2, lsn=moment, ts_us=moment,
        )  # fmt: skip
        log.append(msgspec.structs.replace(made, value=b"junk") if op == "junk" else made)
    return logs


def outcome(memory: Memory) -> dict[DocumentKey, tuple[str, ...]]:
    """State and chunk texts of every document; of a failed one only that it failed."""
    return {
        key: (head.state,)
        if head.state == "failed"
        else (
            head.state,
            *(
                memory.texts[head.document_id, c.chunk_hash, c.occurrence]
                for c in memory.details[head.document_id].chunks
            ),
        )
        for key, head in memory.heads.items()
    }


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.semantics("order", "however the log is cut into batches, and whatever part is read again")
def test_every_event_is_applied_once_whatever_interrupts_the_batches(seed: int) -> None:
    random = Random(seed)
    logs, shelf = history(random), Shelf(random)
    ends = {p: (log[-1].offset + 1 if log else 0) + random.randint(0, 2) for p, log in logs.items()}
    most = random.randint(1, 12)
    holdings, work = Holdings(most, 1 << 30), pipeline(shelf, max_events=most)

    def take_over(partition: int) -> None:
        epoch, offset = shelf.acquire(partition)
        holdings.acquire((TOPIC, partition), "topic-1", epoch, offset, ends[partition])

    def fetch(partition: int) -> None:
        held = holdings.held[TOPIC, partition]
        for each in logs[partition]:
            if each.offset >= held.fetched:
                if not holdings.room or random.random() < 0.1:
                    return
                holdings.add(msgspec.structs.replace(each, epoch=held.epoch))
        holdings.reached_end((TOPIC, partition), ends[partition])

    for partition in PARTITIONS:
        take_over(partition)

    def more() -> Batch | None:
        for partition in PARTITIONS:
            fetch(partition)
        return holdings.take_idle() if random.random() < 0.7 else None

    left: Sequence[Batch] = ()
    while any(shelf.offsets[TOPIC, p][1] < ends[p] for p in PARTITIONS):
        for partition in PARTITIONS:
            fetch(partition)
        if parts := left or [batch for batch in [holdings.take()] if batch]:
            settled = work.process(parts, holdings.stored, more)
            left = settled.left
            holdings.expect(changes=settled.changed)
            for advance in settled.fenced:
                if holdings.held[TOPIC, advance.partition].epoch == advance.epoch:
                    take_over(advance.partition)
    one_by_one = Memory(table(max_tokens=2))
    for each in (each for log in logs.values() for each in log):
        one_by_one.apply(each)
    assert outcome(shelf.memory) == outcome(one_by_one)


def test_a_heartbeat_of_a_clock_that_runs_ahead_is_stored_as_of_now() -> None:
    """Whoever reads it later would otherwise take its connector for alive until that time has come."""
    told: list[tuple[str, int]] = []

    class Beating(Shelf):
        def apply(self, plan: Plan, vectors: Mapping[bytes, Any]) -> Applied | Fenced | Conflict:
            told.extend(plan.heartbeats)
            return super().apply(plan, vectors)

    shelf, ahead_ms = Beating(), time.time_ns() // 1_000_000 + 3_600_000
    shelf.acquire(0)
    beat = Record(HEARTBEATS, "i", 0, 1, 1, None, json.dumps({"ts_ms": ahead_ms}).encode(), 5)
    assert not pipeline(shelf).process([Batch((beat,), {(TOPIC, 0): Advance(TOPIC, 0, 1, 0, 2)})]).left
    [(prefix, ts_us)] = told
    assert prefix == "shop"
    assert ts_us <= time.time_ns() // 1000


def test_a_vector_that_goes_while_it_is_borrowed_is_computed_instead() -> None:
    """A truncate empties the lender after its chunks were read and before their vectors were asked for."""

    class Truncated(Shelf):
        def vectors(self, generation: Generation, chunks: Sequence[tuple[int, bytes]]) -> dict[bytes, Any]:
            for number, detail in self.memory.details.items():
                self.memory.details[number] = msgspec.structs.replace(detail, chunks=())
            return super().vectors(generation, chunks)

        def apply(self, plan: Plan, vectors: Mapping[bytes, Any]) -> Applied | Fenced | Conflict:
            kept = tuple(write for write in plan.writes if not write.expected_version)  # what is older is dropped
            return super().apply(msgspec.structs.replace(plan, writes=kept), vectors)

    shelf = Truncated()
    shelf.memory.apply(record(0, "c", row("a b", "c d", id=1)))
    shelf.acquire(0)
    shelf.offsets[TOPIC, 0] = 1, 1
    events = (record(1, "u", row("a b a b", "c d", id=1)), record(2, "c", row("a b", "x", id=2)))
    committed: list[Advance] = []
    pipeline(shelf).process([Batch(events, {(TOPIC, 0): Advance(TOPIC, 0, 1, 1, 3)})], committed.extend)
    assert committed[-1].end == 3
    assert ("embedded", "a b", "x") in outcome(shelf.memory).values()


def test_what_is_applied_again_while_the_process_ends_says_that_it_was_not() -> None:
    shelf, stopping = Shelf(), Impatient()
    work = Pipeline(
        Planner([shelf.memory.table], 1, WordTokenizer()), Zeros(), shelf, NoRegistry(), Silent(), stopping,
        generation=GENERATION, tables={TOPIC: shelf.memory.table}, group="g", max_events=1000, max_seconds=1.0,
    )  # fmt: skip
    assert work.reapply([record(0, "c", row())])
    stopping.set()
    assert not work.reapply([record(1, "u", row("other"))])
    assert outcome(shelf.memory) == {next(iter(shelf.memory.heads)): ("embedded", "one two", "three")}


class Counting(WordTokenizer):
    """Counts the texts it is given."""

    def __init__(self) -> None:
        self.texts = 0

    def encode_batch(self, texts: Sequence[str]) -> list[Words]:
        self.texts += len(texts)
        return super().encode_batch(texts)


@pytest.mark.parametrize("free", [0, 60])
def test_a_backlog_of_costly_documents_is_planned_at_most_twice_whatever_stands_before_it(free: int) -> None:
    """Each takes a transaction of its own; events without model work take none of them."""
    shelf, tokenizer, committed = Shelf(), Counting(), list[Advance]()
    work = Pipeline(
        Planner([shelf.memory.table], 1, tokenizer), Zeros(), shelf, NoRegistry(), Silent(), Impatient(),
        generation=GENERATION, tables={TOPIC: shelf.memory.table}, group="g", max_events=1000, max_seconds=1.0,
    )  # fmt: skip
    deletes = [record(offset, "d", key={"id": 1000 + offset}) for offset in range(free)]
    costly = [record(free + n, "c", row(" ".join(f"w{n}x{k}" for k in range(12)), "", id=n)) for n in range(50)]
    shelf.acquire(0)
    work.process([Batch((*deletes, *costly), {(TOPIC, 0): Advance(TOPIC, 0, 1, 0, free + 50)})], committed.extend)
    assert tokenizer.texts <= 2 * 50
    assert [advance.end for advance in committed] == list(range(free + 1, free + 51))


class Ending(Zeros):
    """The process is told to end while the model works."""

    def __init__(self, stopping: Event) -> None:
        self.stopping, self.texts = stopping, 0

    def embed(self, token_ids: Sequence[Sequence[int]]) -> Embedded:
        self.stopping.set()
        self.texts += len(token_ids)
        return super().embed(token_ids)


@pytest.mark.semantics(
    "faults", "end of the process (SIGTERM) within a document of hours", "the document is left undone, and read again"
)
def test_a_document_of_hours_does_not_keep_a_process_that_is_to_end() -> None:
    shelf, stopping = Shelf(), Impatient()
    shelf.acquire(0)
    engine = Ending(stopping)
    work = Pipeline(
        Planner([shelf.memory.table], 1, WordTokenizer()), engine, shelf, NoRegistry(), Silent(), stopping,
        generation=GENERATION, tables={TOPIC: shelf.memory.table}, group="g", max_events=1000, max_seconds=1.0,
    )  # fmt: skip
    long = record(0, "c", row(" ".join(f"word{number}" for number in range(2000)), "end", id=1), key={"id": 1})
    batch = Batch((long,), {(TOPIC, 0): Advance(TOPIC, 0, 1, 0, 1)})
    told = list[Sequence[Advance]]()
    assert work.process([batch], told.append).left
    assert 0 < engine.texts <= 20
    assert (told, shelf.memory.heads, shelf.offsets[TOPIC, 0]) == ([], {}, (1, 0))
