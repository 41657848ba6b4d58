"""The steps of one transaction: decode, plan, embed, apply, each able to be taken again. `pipeline.py` orders them.

A step that finds the world changed (another writer, a text the model fails on, a value the database refuses) leaves
what it learned in `Work`; planning again with that knowledge is the one way of recovery.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from consumer.embedding import Embedded
from consumer.errors import Abandoned, Retry, patiently
from consumer.events import Record, SchemaRef, Schemas
from consumer.planning import (
    Advance,
    Batch,
    DocumentKey,
    DocumentWrite,
    Draft,
    Failure,
    Intake,
    Moves,
    Outcome,
    Partition,
    Plan,
    Planned,
    Planner,
    RejectedEvent,
    StoredDetail,
    StoredDocument,
    Table,
    awaited,
    schema_refs,
    take_in,
)
from consumer.store import Applied, Conflict, DataFault, Fenced, Generation, TooSlow

T = TypeVar("T")
Vectors = Mapping[bytes, NDArray[np.float32]]  # by chunk hash
Heads = Mapping[DocumentKey, StoredDocument]  # what is stored
Place = tuple[str, int, int]  # topic, partition, offset
Told = Callable[[Sequence[Advance]], None]  # positions that the database has from now on
_UNASKED = 5.0  # seconds of model work without a look at whether the process is to end
PIECE = 250  # records: enough to keep the database at work, few enough to begin soon
ENOUGH = 1.5  # a part that takes barely longer than allowed is not worth a second transaction


class Registry(Protocol):
    """The writers' schemas of Avro records."""

    def schemas(self, refs: Collection[SchemaRef]) -> Schemas: ...


class Embedder(Protocol):
    """Token ids to vectors."""

    @property
    def tokens_per_second(self) -> float: ...
    @property
    def token_budget(self) -> int: ...
    def embed(self, token_ids: Sequence[Sequence[int]]) -> Embedded: ...


class Store(Protocol):
    """Stored state, and the one transaction."""

    def lookup(self, keys: Collection[DocumentKey]) -> Heads: ...
    def lookup_pieces(self, pieces: Iterable[Collection[DocumentKey]]) -> Heads: ...
    def details(self, generation: Generation, document_ids: Sequence[int]) -> dict[int, StoredDetail]: ...
    def vectors(self, generation: Generation, chunks: Sequence[tuple[int, bytes]]) -> Vectors: ...
    def moves(self, generation: Generation, ids: Collection[bytes]) -> Moves: ...
    def apply(self, plan: Plan, vectors: Vectors) -> Applied | Fenced | Conflict: ...
    def rehearse(self, plan: Plan, vectors: Vectors) -> None: ...


@dataclass(slots=True)
class Work:
    """One part of a batch on its way. What is known of it stays known when it must be planned again: vectors by chunk
    hash, and documents that proved impossible. Times are microseconds since 1970."""

    batch: Batch
    vectors: dict[bytes, NDArray[np.float32]] = field(default_factory=dict)
    failures: dict[DocumentKey, Failure] = field(default_factory=dict)
    embedded: int = 0
    outcomes: Sequence[Outcome] = ()
    rejects: Sequence[RejectedEvent] = ()
    heartbeats: Mapping[str, int] = field(default_factory=dict)
    taken_us: int = 0
    decoded_us: int = 0
    planned_us: int = 0
    embedded_us: int = 0
    committed_us: int = 0


@dataclass(slots=True)
class Settled:
    """What became of a batch: the spans that another owner has taken, what is neither theirs nor stored yet, and
    whether any of its events did more than prove unchanged."""

    fenced: list[Advance] = field(default_factory=list)
    left: Sequence[Batch] = ()
    changed: bool = False


class Steps:
    """Decodes, plans, embeds and applies for one generation. `wait` and `notice` are those of `errors.patiently`."""

    def __init__(
        self,
        planner: Planner,
        embedder: Embedder,
        store: Store,
        registry: Registry,
        generation: Generation,
        wait: Callable[[float], bool],
        notice: Callable[[Retry, float], None],
    ) -> None:
        self._planner, self._embedder, self._store, self._generation = planner, embedder, store, generation
        self._registry, self._wait, self._notice = registry, wait, notice

    def read(self, work: Work, tables: Mapping[str, Table]) -> tuple[Intake, Heads]:
        """Decode the records, and ask the store for what it has of them: of one piece while the next is decoded.

        Waits for the registry if it must give schemas of records in Avro; it is not asked for others.
        """
        records, intake = work.batch.records, Intake()
        schemas = self._ask(lambda: self._schemas(records, tables))
        pieces = (records[start : start + PIECE] for start in range(0, len(records), PIECE))

        def keys() -> Iterator[Collection[DocumentKey]]:
            """Asked for again, after a failure, they begin with all that are known by then."""
            known = 0
            for piece in chain([()], pieces):
                take_in(piece, tables, schemas, intake)
                yield list(islice(intake.arrivals, known, None))
                known = len(intake.arrivals)
            work.decoded_us = now_us()
            yield intake.old_keys - intake.arrivals.keys()

        heads = self._ask(lambda: self._store.lookup_pieces(keys()))
        # Of a clock that runs ahead: stored as it is, it would tell of a living connector until that time has come.
        intake.heartbeats = {prefix: min(ts_us, work.decoded_us) for prefix, ts_us in intake.heartbeats.items()}
        work.heartbeats = intake.heartbeats
        return intake, heads

    def take_in_now(self, records: Sequence[Record], tables: Mapping[str, Table]) -> Intake:
        """Decode only, without patience: raises Retry where the registry does not answer or may yet learn an id."""
        return take_in(records, tables, self._schemas(records, tables))

    def _schemas(self, records: Sequence[Record], tables: Mapping[str, Table]) -> Schemas:
        refs = schema_refs(records, tables)
        return self._registry.schemas(refs) if refs else {}

    def heads(self, keys: Collection[DocumentKey]) -> Heads:
        """What is stored of these documents, as far as planning needs it for every event."""
        return self._ask(lambda: self._store.lookup(keys))

    def plan(self, drafts: Sequence[Draft], work: Work) -> Planned:
        """The writes; reads fields and chunks of the documents that will be written, and no others."""
        ids = sorted({document_id for draft in drafts for document_id in draft.reads})
        while True:
            details = self._ask(lambda: self._store.details(self._generation, ids)) if ids else {}
            planned = self._planner.plan(drafts, details, self._moves(drafts, details, work), work.failures)
            if self._borrowed(planned, work):  # else a chunk went between the two questions: ask both again
                work.planned_us = now_us()
                return planned

    def _moves(self, drafts: Sequence[Draft], details: Mapping[int, StoredDetail], work: Work) -> Moves:
        """What deletes by a key change have left for these documents, with their vectors; nearly always nothing."""
        wanted = awaited((arriving for draft in drafts for arriving in draft.arrivings), details)
        found = self._ask(lambda: self._store.moves(self._generation, wanted)) if wanted else {}
        for move in found.values():
            work.vectors.update(move.vectors)
        return found

    def _borrowed(self, planned: Planned, work: Work) -> bool:
        """Fetch the vectors that the store has; False if one of them is not there any more."""
        if planned.borrow:
            work.vectors.update(self._ask(lambda: self._store.vectors(self._generation, planned.borrow)))
        return all(chunk in work.vectors for _, chunk in planned.borrow)

    def parts(self, planned: Planned, work: Work, max_seconds: float) -> tuple[Batch, ...]:
        """The batch in parts none of which has more model work than allowed, at the measured rate; none if it may stay
        whole. A record without model work costs nothing; partitions with little of it come before those with much.

        Most of a full pass is allowed whatever the rate: less would waste the model, and tell nothing of its rate.
        """
        costs, seen = Counter[Place](), set(work.vectors)
        for write in planned.writes:
            place = (write.order.topic, write.order.partition, write.order.offset)
            for chunk in write.insert:
                if chunk.chunk_hash in planned.texts and chunk.chunk_hash not in seen:
                    seen.add(chunk.chunk_hash)
                    costs[place] += len(chunk.token_ids)
        budget = max(max_seconds * self._embedder.tokens_per_second, 0.75 * self._embedder.token_budget)
        if costs.total() <= ENOUGH * budget:
            return ()
        of_partition = Counter[Partition]()
        for (topic, partition, _), cost in costs.items():
            of_partition[topic, partition] += cost
        batch = work.batch.sorted_by(of_partition)
        counts, count, spent = [], 0, 0
        for record in batch.records:
            cost = costs[record.topic, record.partition, record.offset]
            if spent and spent + cost > budget:
                counts.append(count)
                count = spent = 0
            count, spent = count + 1, spent + cost
        return batch.parts(counts) if counts else ()

    def embed(self, planned: Planned, work: Work) -> bool:
        """Compute the vectors not known yet; True if documents failed here, so that the plan must be made again.

        A document may be hours of work. Raises Abandoned if the process is to end meanwhile: it is read again then.
        """
        bad: dict[bytes, Failure] = {}
        for number, missing in enumerate(self._slices(planned, work)):
            if number and self._wait(0.0):
                raise Abandoned
            embedded = self._embedder.embed([planned.texts[chunk] for chunk in missing])
            for place, chunk in enumerate(missing):
                if reject := embedded.failures.get(place):
                    bad[chunk] = Failure(reject.stage, reject.error_type, reject.what)
                else:
                    work.vectors[chunk] = embedded.vectors[place]
            work.embedded += len(missing) - len(embedded.failures)
        work.embedded_us = now_us()
        for write in planned.writes if bad else ():
            for new in write.insert:
                if new.chunk_hash in bad:
                    work.failures[write.key] = bad[new.chunk_hash]
        return bool(bad)

    def _slices(self, planned: Planned, work: Work) -> Iterator[list[bytes]]:
        """The chunks without a vector, by as many as are embedded before anybody asks whether to end."""
        budget, tokens = max(_UNASKED * self._embedder.tokens_per_second, self._embedder.token_budget), 0
        slice_: list[bytes] = []
        for chunk in [chunk for chunk in planned.texts if chunk not in work.vectors]:
            if slice_ and tokens + len(planned.texts[chunk]) > budget:
                yield slice_
                slice_, tokens = [], 0
            slice_.append(chunk)
            tokens += len(planned.texts[chunk])
        if slice_:
            yield slice_

    def commit(self, plan: Plan, work: Work) -> Applied | Fenced | Conflict | None:
        """Apply; None if a document that the database refuses was found, which is then planned as failed."""
        try:
            outcome = self._ask(lambda: self._store.apply(plan, work.vectors))
        except DataFault as fault:
            if self._found(plan, fault, work):
                return None
            outcome = self._ask(lambda: self._store.apply(plan, work.vectors))  # another writer has changed what it met
        work.committed_us = now_us()
        return outcome

    def _found(self, plan: Plan, fault: DataFault, work: Work) -> bool:
        """Halve the plan until the one document is left whose values the database refuses; False if none is refused."""
        writes: Sequence[DocumentWrite] = plan.writes
        while len(writes) > 1:
            half = writes[: len(writes) // 2]
            writes = half if self._refused(plan, half, work) else writes[len(half) :]
        if not writes or writes[0].key in work.failures or not self._refused(plan, writes, work):
            return False
        work.failures[writes[0].key] = Failure("write", "refused_value", fault.what)
        return True

    def _refused(self, plan: Plan, writes: Sequence[DocumentWrite], work: Work) -> bool:
        try:
            rehearsal = Plan(plan.group, plan.generation, (), tuple(writes))
            self._ask(lambda: self._store.rehearse(rehearsal, work.vectors))
        except DataFault:
            return True
        return False

    def _ask(self, call: Callable[[], T]) -> T:
        """Ask store or registry until it answers, or the process is to end; a query too slow is not asked again."""
        return patiently(call, self._wait, self._notice, give_up=TooSlow)


def now_us() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000
