"""One plan against what is committed: first everything that can refuse it, then all of it at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from consumer.errors import Stop
from consumer.planning import Advance, DocumentKey, DocumentWrite, Plan
from consumer.store import Applied, Conflict, DataFault, Fenced, Outcome, TopicPartition, keys
from consumer.store.truncates import UNREAD, Marker, effective, ended, is_older, standing
from tests.store_standin.database import Database, StoredRow, Vector

EMPTY = {
    "fields": None,
    "fields_complete": False,
    "fields_hash": None,
    "table_hash": None,
    "content_hash": None,
    "metadata": None,
}


class Transaction:
    """`outcome` is what it would come to; raises DataFault or Stop for a plan that the database refuses."""

    def __init__(self, database: Database, plan: Plan, vectors: Mapping[bytes, Vector]) -> None:
        self._database, self._plan, self._vectors = database, plan, vectors
        learned = {name: keys.Keyed(columns) for name, columns in keys.unknown(plan.writes, database.keyed).items()}
        self._keyed = database.keyed | learned
        sorted_ = keys.standing(plan.writes, self._keyed)
        self._moved = effective(plan.truncates, database.markers)
        failing = sorted_.failing
        self._kept, dropped = standing([*sorted_.kept, *failing], {**database.markers, **self._moved})
        self._kept += [ended(write) for write in sorted_.late if write.document_id is not None]
        self._refused = {w.key: w.failure for w in failing if w.failure is not None and w.key not in dropped}
        self.outcome = self._outcome((*dropped, *(write.key for write in sorted_.late)))

    def _outcome(self, dropped: tuple[DocumentKey, ...]) -> Outcome:
        group = self._plan.group
        fenced = [a for a in self._plan.advances if self._database.position(group, a) != (a.epoch, a.start)]
        if fenced:
            return Fenced(frozenset(map(_place, fenced)))
        if self._plan.generation != self._database.generation.number:
            raise Stop(f"Generation {self._plan.generation} is not live any more.", "", "")
        if missed := frozenset(write.key for write in self._kept if not self._stands(write)):
            return Conflict(missed)
        inserted = [chunk for write in self._kept for chunk in write.insert]
        if not all(np.isfinite(self._vectors[chunk.chunk_hash]).all() for chunk in inserted):
            raise DataFault("22000")
        truncated = tuple(sorted(self._moved))
        return Applied(len(self._kept), len(inserted), dropped=dropped, refused=self._refused, truncated=truncated)

    def _stands(self, write: DocumentWrite) -> bool:
        """Compare-and-set: the document is as it was when the plan was made."""
        row = self._database.documents.get(write.key)
        if row is None or write.document_id is None:
            return row is None and write.document_id is None
        return (row.document_id, row.version) == (write.document_id, write.expected_version)

    def commit(self) -> Applied:
        """Do it."""
        assert isinstance(self.outcome, Applied)
        database, counted = self._database, self.outcome
        database.keyed = self._keyed
        for advance in self._plan.advances:
            key = self._plan.group, _place(advance)
            database.offsets[key] = replace(database.offsets[key], next_offset=advance.end, updated_at=database.now)
        for write in self._kept:
            self._leave(write)
        for write in self._kept:
            updated, deleted = self._write(write)
            counted = replace(
                counted,
                chunks_updated=counted.chunks_updated + updated,
                deleted=counted.deleted + Counter({write.key.source: deleted}),
            )
        for reject in self._plan.rejects:
            database.failed.record_event(reject, database.now)
        for prefix, ts_us in self._plan.heartbeats:
            database.heartbeats[prefix] = max(ts_us, database.heartbeats.get(prefix, ts_us))
        self._settle_moves()
        for source, marker in self._moved.items():
            gone, chunks = self._empty(source, marker)
            counted = replace(
                counted, documents=counted.documents + gone, deleted=counted.deleted + Counter({source: chunks})
            )
        return counted

    def _write(self, write: DocumentWrite) -> tuple[int, int]:
        """Document row, chunk rows, failure; how many chunk rows were updated and deleted."""
        database, row = self._database, self._database.documents.get(write.key)
        if row is None:
            row = database.documents[write.key] = StoredRow(len(database.documents) + 1, 0, write)
        before, all_go = len(row.chunks), write.delete_all or write.state == "deleted"
        for place in list(row.chunks) if all_go else write.delete:
            row.chunks.pop(place, None)
        deleted, updated = before - len(row.chunks), 0
        for kept in write.update:
            place = kept.chunk_hash, kept.occurrence
            if standing := row.chunks.get(place):
                row.chunks[place] = (standing[0], kept.chunk_no, standing[2])
                updated += 1
        for new in write.insert:
            assert (new.chunk_hash, new.occurrence) not in row.chunks
            vector = np.asarray(self._vectors[new.chunk_hash], np.float32)
            row.chunks[new.chunk_hash, new.occurrence] = (new.content, new.chunk_no, vector)
        row.version += 1
        row.write = _stored(write)
        if write.failure is not None:
            database.failed.record(write, database.now)
        elif write.was_failed:
            database.failed.forget([write.key])
        return updated, deleted

    def _leave(self, write: DocumentWrite) -> None:
        """What a key change leaves behind, with the vectors of the chunks that are about to go."""
        moves = self._database.moves
        for move in write.leaves:
            own = () if write.document_id is None else (write.document_id,)
            lent: dict[bytes, Any] = {}
            for row in self._database.rows([*own, *move.documents]).values():
                lent |= {place[0]: chunk[2] for place, chunk in row.chunks.items() if place[1] == 0}
            for earlier in move.earlier:
                lent |= moves[earlier][0].vectors if earlier in moves else {}
            lent = dict(moves[move.id][0].vectors) if move.id in moves else lent
            moves[move.id] = msgspec.structs.replace(move, vectors=lent), self._database.now

    def _settle_moves(self) -> None:
        """Remove what was used; whoever awaits one that is there is due at once."""
        database = self._database
        for write in self._kept:
            for move_id in write.used:
                database.moves.pop(move_id, None)
        left = {move.id for write in self._kept for move in write.leaves} | {write.awaits for write in self._kept}
        there = {move_id for move_id in left if move_id in database.moves}
        waiting = [key for key, row in database.documents.items() if row.write.awaits in there] if there else []
        database.failed.wake(waiting, database.now)

    def _empty(self, source: str, marker: Marker) -> tuple[int, int]:
        """Older documents become gravestones that keep their place in the order; how many, and how many chunks.

        One whose last event could not be read loses what is older, and stays failed.
        """
        self._database.markers[source] = marker
        documents = chunks = 0
        gone = []
        for key, row in self._database.documents.items():
            readable = msgspec.structs.replace(row.write, failure=None)
            if row.write.state != "deleted" and is_older(readable, {source: marker}):
                failed = self._database.failed.of_document(key)
                unreadable = failed is not None and failed.stage in UNREAD
                gone += [] if unreadable else [key]
                state = "failed" if unreadable else "deleted"
                row.write = msgspec.structs.replace(row.write, state=state, awaits=None, **EMPTY)
                row.version += 1
                documents, chunks = documents + 1, chunks + len(row.chunks)
                row.chunks.clear()
        self._database.failed.forget(gone)
        return documents, chunks


def _stored(write: DocumentWrite) -> DocumentWrite:
    """A gravestone holds no content, whatever the plan says; a failed document has no valid hash of its fields."""
    if write.state == "deleted":
        return msgspec.structs.replace(write, **EMPTY)
    return write if write.state == "embedded" else msgspec.structs.replace(write, fields_hash=None)


def _place(advance: Advance) -> TopicPartition:
    return TopicPartition(advance.topic, advance.partition)
