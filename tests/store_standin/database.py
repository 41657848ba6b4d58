"""What is committed: documents with their chunks, offsets, truncate markers, moves, failed documents; and the clock."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from consumer.planning import (
    Advance,
    DocumentKey,
    DocumentWrite,
    Move,
    RejectedEvent,
    StoredChunk,
    StoredDetail,
    StoredDocument,
)
from consumer.store import FailedDocument, Generation, Selector, StoredOffset, TopicPartition
from consumer.store.keys import Keyed
from consumer.store.model import FailedState
from consumer.store.truncates import Marker

Vector = NDArray[np.float32]
DELAYS = [timedelta(minutes=5), timedelta(minutes=30), timedelta(hours=2), timedelta(hours=24)]


@dataclass(slots=True)
class StoredRow:
    """One row of `documents`, as the last write left it, and its chunk rows.

    `chunks` maps (chunk hash, occurrence) to text, chunk number and vector.
    """

    document_id: int
    version: int
    write: DocumentWrite
    chunks: dict[tuple[bytes, int], tuple[str, int, Vector]] = field(default_factory=dict)

    @property
    def texts(self) -> tuple[str, ...]:
        """The chunks' texts in their order."""
        return tuple(text for text, _, _ in sorted(self.chunks.values(), key=lambda chunk: chunk[1]))

    @property
    def head(self) -> StoredDocument:
        """What `lookup` gives."""
        w = self.write
        return StoredDocument(
            self.document_id, self.version, w.state, w.order, w.fields_hash, w.fields_complete, w.table_hash,
            w.generation, w.layout,
        )  # fmt: skip

    @property
    def detail(self) -> StoredDetail:
        """What `details` gives."""
        chunks = sorted((StoredChunk(*place, chunk[1]) for place, chunk in self.chunks.items()), key=lambda c: c[2])
        w = self.write
        return StoredDetail(self.version, w.fields, w.content_hash, w.metadata, tuple(chunks), w.awaits, w.layout)


class FailedDocuments:
    """The table `failed_documents` with its schedule."""

    def __init__(self) -> None:
        self.rows: dict[int, FailedDocument] = {}
        self._last_id = 0

    def of_document(self, key: DocumentKey) -> FailedDocument | None:
        return next((row for row in self.rows.values() if row.key == key), None)

    def selected(self, selector: Selector) -> list[FailedDocument]:
        """Oldest first."""
        wanted = {name: value for name in ("failure_id", "source", "error_type", "state")
                  if (value := getattr(selector, name)) is not None}  # fmt: skip
        rows = (row for row in self.rows.values() if all(getattr(row, n) == value for n, value in wanted.items()))
        return sorted(rows, key=lambda row: (row.first_failed_at, row.failure_id))

    def record(self, write: DocumentWrite, now: datetime) -> None:
        """The same event failing again keeps its place in the schedule; another one begins it anew."""
        standing, failure, order = self.of_document(write.key), write.failure, write.order
        assert failure is not None
        number = standing.failure_id if standing else self._next_id()
        row = FailedDocument(
            number, write.key.source, write.key, write.source_key, order.topic, order.partition, order.offset,
            failure.stage, failure.error_type, failure.error, 1, standing.first_failed_at if standing else now,
            now + DELAYS[0], "retrying",
        )  # fmt: skip
        if standing and _where(standing) == _where(row):
            kept = standing.attempts, standing.next_attempt_at, standing.state
            row = replace(row, attempts=kept[0], next_attempt_at=kept[1], state=kept[2])
        self.rows[number] = row

    def record_event(self, reject: RejectedEvent, now: datetime) -> None:
        """An event without a document is known by its coordinates; of one without any key no reading makes a row."""
        place, failure = (reject.topic, reject.partition, reject.offset), reject.failure
        for row in self.rows.values():
            if row.key is None and _where(row) == place:
                self.rows[row.failure_id] = replace(
                    row, source=reject.source, stage=failure.stage, error_type=failure.error_type, error=failure.error
                )
                return
        again = None if failure.error_type == "key_missing" else now + DELAYS[0]
        number = self._next_id()
        self.rows[number] = FailedDocument(
            number, reject.source, None, None, *place, failure.stage, failure.error_type, failure.error,
            1, now, again, "retrying" if again else "dead",
        )  # fmt: skip

    def claim(self, limit: int, sources: Collection[str] | None, now: datetime) -> list[FailedDocument]:
        """Due rows of these sources, each counted and moved on in the schedule."""
        rows = [row for row in self.rows.values() if sources is None or row.source in sources]
        due = sorted((row.next_attempt_at, row.failure_id) for row in rows if row.next_attempt_at)
        claimed = []
        for _, number in [each for each in due if each[0] <= now][:limit]:
            row = self.rows[number]
            again = now + DELAYS[row.attempts] if row.attempts < len(DELAYS) else None
            state: FailedState = "retrying" if again else "dead"
            self.rows[number] = replace(row, attempts=row.attempts + 1, next_attempt_at=again, state=state)
            claimed.append(self.rows[number])
        return claimed

    def wake(self, keys: Collection[DocumentKey], now: datetime) -> None:
        """Due at once; what was given up on has a last chance."""
        for row in list(self.rows.values()):
            if row.key in keys:
                self.rows[row.failure_id] = replace(row, next_attempt_at=now, state="retrying")

    def forget(self, keys: Collection[DocumentKey]) -> None:
        """These documents are failed no longer."""
        self.rows = {number: row for number, row in self.rows.items() if row.key is None or row.key not in keys}

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id


@dataclass(slots=True)
class Database:
    """Everything that is committed. `now` is its clock; only `generation` is live."""

    generation: Generation
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    documents: dict[DocumentKey, StoredRow] = field(default_factory=dict)
    offsets: dict[tuple[str, TopicPartition], StoredOffset] = field(default_factory=dict)
    markers: dict[str, Marker] = field(default_factory=dict)
    keyed: dict[str, Keyed] = field(default_factory=dict)
    moves: dict[bytes, tuple[Move, datetime]] = field(default_factory=dict)
    failed: FailedDocuments = field(default_factory=FailedDocuments)
    heartbeats: dict[str, int] = field(default_factory=dict)
    behind: dict[str, int] = field(default_factory=dict)
    acquisitions: int = 0

    def rows(self, document_ids: Iterable[int]) -> dict[int, StoredRow]:
        """The documents of these ids, as far as they are there."""
        wanted = set(document_ids)
        return {row.document_id: row for row in self.documents.values() if row.document_id in wanted}

    def position(self, group: str, advance: Advance) -> tuple[int, int] | None:
        """Epoch and next offset of the partition that `advance` is of."""
        row = self.offsets.get((group, TopicPartition(advance.topic, advance.partition)))
        return (row.epoch, row.next_offset) if row else None


def _where(row: FailedDocument) -> tuple[str, int, int]:
    return row.topic, row.partition, row.offset
