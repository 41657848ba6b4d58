"""Events and stored state to a `Plan`. Two questions to the store lie between: `heads` first, then `details`.

    drafted = planner.draft(intake, heads)
    planned = planner.plan(drafted.drafts, details, moves)

The same events may be planned again and again (after a lost race, a fence, a poisoned document): nothing is kept here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from consumer.content import Chunk, ChunkSpec, Tokenizer, chunk_batch
from consumer.errors import Reject
from consumer.planning.batch import Batch
from consumer.planning.document import Prepared, prepare, write
from consumer.planning.fold import Draft, Fold
from consumer.planning.intake import Intake, Outcome, Table
from consumer.planning.model import DocumentKey, DocumentWrite, Failure, Plan, RejectedEvent, StoredDocument
from consumer.planning.moves import Details, Moves, bring_together, lenders
from consumer.planning.skip import unchanged


class StoredKey(NamedTuple):
    """A stored document that is to be rendered again from its stored fields, without a new event."""

    key: DocumentKey
    source_key: bytes
    stored: StoredDocument


class Drafted(NamedTuple):
    """Documents that may have to be written, and the events that need nothing more: applied, or rejected."""

    drafts: Sequence[Draft]
    outcomes: Sequence[Outcome]
    rejects: Sequence[RejectedEvent]


@dataclass(frozen=True, slots=True)
class Planned:
    """The writes, and what they need: `texts` maps each chunk hash without a known vector to its token ids.

    `borrow` names vectors the store has: (document id, chunk hash).
    """

    writes: tuple[DocumentWrite, ...]
    texts: dict[bytes, tuple[int, ...]]
    borrow: tuple[tuple[int, bytes], ...]
    outcomes: tuple[Outcome, ...]

    @property
    def tokens(self) -> int:
        """Content tokens that the model has to read for it."""
        return sum(map(len, self.texts.values()))


def as_plan(group: str, generation: int, batch: Batch, intake: Intake, drafted: Drafted, planned: Planned) -> Plan:
    """What one transaction does for a batch."""
    rejects, truncates, beats = tuple(drafted.rejects), tuple(intake.truncates), tuple(intake.heartbeats.items())
    return Plan(group, generation, batch.advances, planned.writes, rejects, truncates, beats)


class Planner:
    """Plans for the tables of one generation. Pure: the same arguments give the same plan."""

    def __init__(self, tables: Iterable[Table], generation: int, tokenizer: Tokenizer) -> None:
        self._by_source = {table.source: table for table in tables}
        self._generation, self._tokenizer = generation, tokenizer

    def draft(self, intake: Intake, heads: Mapping[DocumentKey, StoredDocument], *, force: bool = False) -> Drafted:
        """One draft per document that may have to be written; what became of the events that need nothing more.

        `heads` are those of the arrivals and of `intake.old_keys`. `force` applies an event again that the document
        already stands at (replay).
        """
        drafts, outcomes, rejects = [], list(intake.outcomes), list(intake.rejects)
        for key, arrivals in intake.arrivals.items():
            table, stored = intake.tables[key], heads.get(key)
            if not force and (event := unchanged(arrivals, stored, table, self._generation)):
                outcomes.append(Outcome(key.source, event.op, "unchanged", event))
                continue
            fold = Fold(key, table, stored, self._generation, force=force)
            draft = fold.fold(arrivals)
            outcomes += fold.outcomes
            rejects += fold.rejects
            if draft is not None:
                drafts.append(draft)
        leavings = [leaving for draft in drafts for leaving in draft.leavings]
        bring_together((arriving for draft in drafts for arriving in draft.arrivings), leavings, heads)
        return Drafted(drafts, outcomes, rejects)

    def redraft(self, documents: Iterable[StoredKey]) -> list[Draft]:
        """Drafts that render stored fields again: a retry, or a table whose settings changed."""
        return [
            Draft(key, source_key, self._by_source[key.source], stored, stored.order, rerender=True)
            for key, source_key, stored in documents
            if key.source in self._by_source
        ]

    def plan(
        self,
        drafts: Sequence[Draft],
        details: Details,
        moves: Moves,
        failures: Mapping[DocumentKey, Failure] | None = None,
    ) -> Planned:
        """The writes of `drafts`. `moves` are those that `awaited` names; `failures` are documents that embedding or
        writing has proved impossible.
        """
        failures = failures or {}
        prepared = [prepare(draft, details, moves, self._generation, failures.get(draft.key)) for draft in drafts]
        chunks = self._cut([p for p in prepared if p.text is not None and p.failure is None])
        written = [(p.draft, write(p, chunks.get(p.draft.key), self._generation)) for p in prepared if not p.unchanged]
        texts, borrow = _vectors_needed(written, details, moves)
        writes = tuple(write for _, write in written)
        outcomes = tuple(outcome for p in prepared for outcome in _outcomes(p))
        return Planned(writes, texts, borrow, outcomes)

    def _cut(self, prepared: Sequence[Prepared]) -> dict[DocumentKey, list[Chunk]]:
        """Chunks of every prepared text, tokenized together; a text that cannot be cut fails alone."""
        by_spec: dict[ChunkSpec, list[Prepared]] = defaultdict(list)
        for item in prepared:
            by_spec[item.draft.table.content.spec.chunk].append(item)
        chunks: dict[DocumentKey, list[Chunk]] = {}
        for spec, items in by_spec.items():
            try:
                cut = chunk_batch([item.text or "" for item in items], spec, self._tokenizer)
                chunks.update(zip((item.draft.key for item in items), cut, strict=True))
            except Reject as reject:
                if len(items) == 1:
                    items[0].failure = Failure(reject.stage, reject.error_type, reject.what)
                else:
                    for item in items:
                        chunks |= self._cut([item])
        return chunks


def _vectors_needed(
    written: Iterable[tuple[Draft, DocumentWrite]], details: Details, moves: Moves
) -> tuple[dict[bytes, tuple[int, ...]], tuple[tuple[int, bytes], ...]]:
    """What the model must read, and what the store has: in the document itself, or in the one it was before."""
    texts: dict[bytes, tuple[int, ...]] = {}
    borrow = {}
    for draft, item in written:
        detail = details.get(item.document_id) if item.document_id is not None else None
        given = [(item.document_id, {chunk.chunk_hash for chunk in detail.chunks})] if detail else []
        given += lenders(draft.arrivings, details)
        left = {chunk_hash for move_id in item.used for chunk_hash in moves[move_id].vectors}
        for chunk in item.insert:
            lender = next((number for number, hashes in given if chunk.chunk_hash in hashes), None)
            if draft.again or (lender is None and chunk.chunk_hash not in left):
                texts[chunk.chunk_hash] = chunk.token_ids
            elif lender is not None:
                borrow[chunk.chunk_hash] = lender
    for chunk_hash in borrow:
        texts.pop(chunk_hash, None)
    return texts, tuple((number, chunk_hash) for chunk_hash, number in borrow.items())


def _outcomes(prepared: Prepared) -> Iterable[Outcome]:
    draft = prepared.draft
    if prepared.unchanged:
        outcome = "unchanged"
    elif draft.deleted:
        outcome = "deleted"
    else:
        outcome = "rejected" if prepared.failure else "embedded"
    return (Outcome(draft.key.source, event.op, outcome, event) for event in draft.applied)
