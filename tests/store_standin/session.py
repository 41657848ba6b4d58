"""One connection to the stand-in, with the methods of the real `Store` that a running consumer uses."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import timedelta

import msgspec

from consumer.errors import Stop
from consumer.planning import DocumentKey, Move, Plan, StoredDetail, StoredDocument
from consumer.store import (
    Acquired,
    Applied,
    FailedDocument,
    Generation,
    Outcome,
    Selector,
    StoredOffset,
    TopicPartition,
    Wanted,
)
from consumer.store.model import Uncertain
from tests.store_standin.database import Database, Vector
from tests.store_standin.transaction import Transaction

JOB = "replay:"
ALL = Selector()


class StandInStore:
    """`at(step)` is called where a real connection could break: what it raises is what the caller sees.

    Steps: acquire, lookup, details, vectors, moves, offsets, claim; of a transaction begin, commit (all is done but
    COMMIT: nothing else may happen now, for others wait for the locks), committed (only the answer is missing); settle,
    which asks whether a lost COMMIT happened.
    """

    def __init__(self, database: Database, at: Callable[[str], None] = lambda step: None) -> None:
        self._database, self._at = database, at
        self._uncertain: Uncertain | None = None

    # --- the batch

    def lookup(self, keys: Collection[DocumentKey]) -> dict[DocumentKey, StoredDocument]:
        return self.lookup_pieces([keys])

    def lookup_pieces(self, pieces: Iterable[Collection[DocumentKey]]) -> dict[DocumentKey, StoredDocument]:
        found: dict[DocumentKey, StoredDocument] = {}
        documents = self._database.documents
        for keys in pieces:
            if keys:  # each piece is a query of its own
                self._at("lookup")
            found |= {key: documents[key].head for key in keys if key in documents}
        return found

    def details(self, generation: Generation, document_ids: Sequence[int]) -> dict[int, StoredDetail]:
        self._at("details")
        return {number: row.detail for number, row in self._database.rows(document_ids).items()}

    def vectors(self, generation: Generation, chunks: Sequence[tuple[int, bytes]]) -> dict[bytes, Vector]:
        self._at("vectors")
        rows, wanted = self._database.rows(number for number, _ in chunks), set(chunks)
        return {
            chunk_hash: vector
            for number, row in rows.items()
            for (chunk_hash, _), (_, _, vector) in row.chunks.items()
            if (number, chunk_hash) in wanted
        }

    def moves(self, generation: Generation, ids: Collection[bytes]) -> dict[bytes, Move]:
        self._at("moves")
        found: dict[bytes, Move] = {}
        wanted = list(ids)
        while wanted:
            move_id = wanted.pop()
            if move_id in self._database.moves and move_id not in found:
                found[move_id] = self._database.moves[move_id][0]
                wanted += [found[move_id].awaits or b""]
        return found

    def apply(self, plan: Plan, vectors: Mapping[bytes, Vector]) -> Outcome:
        if (settled := self._settle(plan)) is not None:
            return settled
        self._at("begin")
        transaction = Transaction(self._database, plan, vectors)
        if not isinstance(transaction.outcome, Applied):
            return transaction.outcome
        if any(advance.end > advance.start for advance in plan.advances):
            self._uncertain = Uncertain(plan.group, plan.advances, transaction.outcome)
        self._at("commit")
        applied = transaction.commit()
        self._at("committed")
        self._uncertain = None
        return applied

    def rehearse(self, plan: Plan, vectors: Mapping[bytes, Vector]) -> None:
        self._at("begin")
        Transaction(self._database, msgspec.structs.replace(plan, advances=()), vectors)

    def _settle(self, plan: Plan) -> Applied | None:
        """The outcome of this plan if its lost COMMIT did happen; None: apply it."""
        lost = self._uncertain
        if lost is None or (lost.group, lost.advances) != (plan.group, plan.advances):
            return None
        self._at("settle")
        self._uncertain = None
        happened = all(self._database.position(lost.group, a) == (a.epoch, a.end) for a in lost.advances)
        return lost.outcome if happened else None

    # --- positions

    def acquire(self, group: str, partitions: Sequence[Wanted]) -> dict[TopicPartition, Acquired]:
        self._at("acquire")
        rows, now = self._database.offsets, self._database.now
        others = [owner for owner, _ in rows if owner != group and not owner.startswith(JOB)]
        if others and not group.startswith(JOB):
            raise Stop(f"The schema belongs to the group {others[0]}, this is {group}.", "", "")
        self._database.acquisitions += 1
        never_given, taken = self._database.acquisitions if group.startswith(JOB) else 0, {}
        for topic, topic_id, partition, low in partitions:
            place = TopicPartition(topic, partition)
            row = rows.get((group, place)) or StoredOffset(group, topic, topic_id, partition, never_given, low, now)
            if row.topic_id != topic_id:
                raise Stop(f"The topic of {topic} [{partition}] was deleted and created again.", "", "")
            if row.next_offset < low:
                raise Stop(f"Events of {topic} [{partition}] are gone before they were applied.", "", "")
            taken[place] = StoredOffset(group, topic, topic_id, partition, row.epoch + 1, row.next_offset, now)
        rows |= {(group, place): row for place, row in taken.items()}
        return {place: Acquired(row.epoch, row.next_offset) for place, row in taken.items()}

    def offsets(self, group: str | None = None) -> list[StoredOffset]:
        self._at("offsets")
        rows = [row for (owner, _), row in self._database.offsets.items() if group in (None, owner)]
        return sorted(rows, key=lambda row: (row.group, row.topic, row.partition))

    def forget_job(self, job: str) -> None:
        for key in [key for key in self._database.offsets if key[0] == job and job.startswith(JOB)]:
            del self._database.offsets[key]

    def heartbeats(self) -> dict[str, int]:
        return dict(self._database.heartbeats)

    def clocks_behind(self) -> dict[str, int]:
        return {prefix: behind for prefix, behind in self._database.behind.items() if behind}

    def note_clock(self, prefix: str, behind_us: int) -> None:
        if prefix in self._database.heartbeats:
            self._database.behind[prefix] = behind_us

    # --- failed documents

    def claim_failed(self, limit: int, sources: Collection[str] | None = None) -> list[FailedDocument]:
        self._at("claim")
        return self._database.failed.claim(limit, sources, self._database.now)

    def list_failed(self, selector: Selector = ALL, limit: int = 100) -> list[FailedDocument]:
        return self._database.failed.selected(selector)[:limit]

    def discard_failed(self, selector: Selector) -> int:
        rows = self._database.failed.selected(selector)
        for row in rows:
            del self._database.failed.rows[row.failure_id]
        return len(rows)

    def expire_moves(self) -> int:
        moves, now = self._database.moves, self._database.now
        gone = [move_id for move_id, (_, left_at) in moves.items() if left_at < now - timedelta(days=7)]
        for move_id in gone:
            del moves[move_id]
        return len(gone)
