"""Failed documents: the worker part that retries what is due, and what a person may decide about the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from consumer.errors import Exit, Retry, Stop
from consumer.events import Record
from consumer.observe import get_logger
from consumer.operations.offsets import group_offsets
from consumer.pipeline import Pipeline
from consumer.planning import (
    DocumentWrite,
    Failure,
    Partition,
    Plan,
    RejectedEvent,
    StoredDocument,
    StoredKey,
    Table,
)
from consumer.source import Broker, Reader
from consumer.source.messages import Notice
from consumer.store import FailedDocument, Generation, Selector, Store, StoredOffset

AT_ONCE = 20  # a chore is done between two batches: it must not take long
EXPIRED = Failure(
    "read",
    "record_expired",
    "The record is not in the topic any more, so it cannot be read again. The next event of the row heals it, or a "
    "snapshot of the table.",
)

_log = get_logger("failed")


class RetryWorker:
    """Retries failed documents that are due, a few at a time; the schedule is the store's, and claiming counts.

    A document whose stored fields are complete is rendered again from them; any other failure reads its record again.
    """

    def __init__(
        self,
        store: Store,
        broker: Broker,
        pipeline: Pipeline,
        *,
        group: str,
        tables: Mapping[str, Table],
        generation: Generation,
        reader: Callable[[Broker, Notice], Reader] = Reader,
    ) -> None:
        self._store, self._broker, self._pipeline, self._reader = store, broker, pipeline, reader
        self._group, self._tables, self._generation = group, tables, generation

    def retry_due(self) -> None:
        """Retry what is due. Raises Retry when database or broker do not answer: the attempt is lost, not the row."""
        known = {table.source for table in self._tables.values()}
        due = self._store.claim_failed(AT_ONCE, known)  # those of a table that left the settings lose no attempt
        if not due:
            return
        heads = self._store.lookup([row.key for row in due if row.key])
        rerender, reread = [], []
        for row in due:
            head = heads.get(row.key) if row.key else None
            if row.key and row.source_key and head and head.state == "failed" and head.fields_complete:
                rerender.append((row, StoredKey(row.key, row.source_key, head)))
            else:
                reread.append((row, head))
        if rerender:
            self._pipeline.rerender([document for _, document in rerender])
            after = self._store.lookup([document.key for _, document in rerender])
            # What was left as it is lacks a column that the settings now use: only its record has it.
            reread += [(row, d.stored) for row, d in rerender if after.get(d.key) == d.stored]
        if reread:
            self._reread(reread)

    def _reread(self, due: Sequence[tuple[FailedDocument, StoredDocument | None]]) -> None:
        applied = group_offsets(self._store, self._group)
        ids = self._broker.topic_ids(
            [topic for topic in {row.topic for row, _ in due} if self._broker.partitions(topic)]
        )
        with self._reader(self._broker, _notice) as reader:
            for row, head in due:
                there = _still_there(row, head, applied, ids)
                try:
                    record = reader.read_one(row.topic, row.partition, row.offset) if there else None
                    decodable = record is not None and self._pipeline.take_in([record]).decodable
                except Retry as retry:  # this row's attempt is lost; its neighbours must not pay for it
                    _log.warning("a failed document's record could not be read", reason=retry.what)
                    continue
                if record is not None:
                    self._reapply(row, record, decodable)
                else:
                    self._expired(row, head)

    def _reapply(self, row: FailedDocument, record: Record, decodable: bool) -> None:
        """A row without a key has no document that could heal: it goes once its event can be decoded."""
        if row.key is None and not decodable:
            return
        applied = self._pipeline.reapply([record])
        if row.key is None and applied:
            self._store.discard_failed(Selector(failure_id=row.failure_id))

    def _expired(self, row: FailedDocument, head: StoredDocument | None) -> None:
        """Say in the row why no further attempt can help; the schedule goes on until it is dead."""
        writes: tuple[DocumentWrite, ...] = ()
        rejects: tuple[RejectedEvent, ...] = ()
        if row.key is None:
            rejects = (RejectedEvent(row.source, row.topic, row.partition, row.offset, EXPIRED),)
        elif head is not None and head.state == "failed" and row.source_key is not None:
            detail = self._store.details(self._generation, [head.document_id]).get(head.document_id)
            writes = (
                DocumentWrite(
                    key=row.key,
                    source_key=row.source_key,
                    document_id=head.document_id,
                    expected_version=head.version,
                    state="failed",
                    order=head.order,
                    fields=None,
                    fields_complete=False,
                    fields_hash=None,
                    table_hash=head.table_hash,
                    content_hash=detail.content_hash if detail else None,
                    generation=head.generation,
                    failure=EXPIRED,
                ),
            )
        # Whoever changed the document meanwhile has settled it: a conflict needs no second try.
        self._store.apply(Plan(self._group, self._generation.number, (), writes, rejects), {})
        _log.warning("a failed document's record has expired", where=f"{row.topic}[{row.partition}]@{row.offset}")


def key_of(row: FailedDocument) -> dict[str, object] | None:
    """The row's primary key as an object; None where it could not be decoded."""
    return None if row.source_key is None else msgspec.json.decode(row.source_key, type=dict[str, object])


def selector(failure_id: int | None, source: str | None, everything: bool) -> Selector:
    """Exactly one way to say which rows."""
    if sum((failure_id is not None, source is not None, everything)) != 1:
        raise Stop(
            "It is not said which failed documents.",
            "",
            "Give exactly one of --id, --source, --all.",
            exit_code=Exit.USAGE,
        )
    return Selector(failure_id=failure_id, source=source)


def _notice(what: str, **context: object) -> None:
    _log.warning(what, **context)


def _still_there(
    row: FailedDocument,
    head: StoredDocument | None,
    applied: Mapping[Partition, StoredOffset],
    topic_ids: Mapping[str, str],
) -> bool:
    """Whether the coordinates still mean the event: a topic made anew gives the same offsets to other events."""
    position, topic_id = applied.get((row.topic, row.partition)), topic_ids.get(row.topic)
    if position is None or position.topic_id != topic_id or row.offset >= position.next_offset:
        return False
    return head is None or head.order.topic_id == topic_id
