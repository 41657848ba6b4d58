"""The store as the pipeline sees it: one object, one connection, every fault typed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

import msgspec
import numpy as np
import psycopg
from psycopg.pq import TransactionStatus

from consumer.errors import Retry, Stop
from consumer.planning import DocumentKey, Move, Plan, StoredDetail, StoredDocument
from consumer.store import assignment, failed, generations, index, lookup, migrations, moves, search, transaction
from consumer.store.faults import Phase, leaves_open, translated
from consumer.store.model import (
    Acquired,
    Applied,
    FailedDocument,
    Generation,
    IndexStatus,
    Outcome,
    Reason,
    SearchHit,
    Selector,
    StaleDocument,
    StalePage,
    StoredOffset,
    TopicPartition,
    Uncertain,
    VectorSpace,
    Wanted,
)
from consumer.store.session import Session, connect, target

ALL = Selector()


class Store(AbstractContextManager["Store"]):
    """Documents, chunks, offsets and failed documents of one schema.

    Owns one connection, opened when first needed and again after a failure. One caller at a time: another thread makes
    its own `Store` (the assignment callback does, with `answer_within=5`). Nothing is retried in here.

    Every method raises `Retry` when the database is not reachable or asks for patience, `TooSlow` (a `Retry`) when a
    statement ran longer than `answer_within` seconds, `Stop` when only a person can help (the message names the fix).
    """

    def __init__(self, dsn: str, schema: str, *, answer_within: float = 60.0) -> None:
        self._target = target(dsn, schema)
        self._answer_within = answer_within
        self._connection: Session | None = None
        self._uncertain: Uncertain | None = None

    @property
    def where(self) -> str:
        """host:port/database, safe to print."""
        return self._target.where

    def close(self) -> None:
        """Close the connection; the next call would open another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- start

    def check(self, group: str) -> None:
        """What can be told without the model: `Stop` unless this group can work here."""
        with self._session() as connection:
            migrations.verify(connection, self._target.schema)
            assignment.refuse_other(connection, group)

    def live_generation(self, space: VectorSpace) -> Generation:
        """Verify server, extension, migrations, privileges; the live generation, which must be `space` (else Stop)."""
        with self._session() as connection:
            migrations.verify(connection, self._target.schema)
            generation = generations.live(connection)
            if generation is None:
                raise Stop("No generation of vectors is there yet.", "", "Run `embed-consumer migrate`.")
            generations.require_same(connection, generation, space)
            return generation

    def generation(self) -> Generation | None:
        """The live generation whatever its configuration, for search, status and doctor. None: not made yet."""
        with self._session() as connection:
            return generations.live(connection)

    def acquire(self, group: str, partitions: Sequence[Wanted]) -> dict[TopicPartition, Acquired]:
        """Take the partitions over: epoch + 1 each, all or none. `Stop`: topic recreated, offset lost, other group."""
        with self._session() as connection:
            return assignment.acquire(connection, self._target.schema, group, partitions)

    # --- the batch

    def lookup(self, keys: Collection[DocumentKey]) -> dict[DocumentKey, StoredDocument]:
        """What is stored of these documents; a key without a row is absent."""
        return self.lookup_pieces([keys])

    def lookup_pieces(self, pieces: Iterable[Collection[DocumentKey]]) -> dict[DocumentKey, StoredDocument]:
        """The same of keys that come piece by piece: the database is at one while the next is made."""
        with self._session() as connection:
            return lookup.lookup(connection, pieces)

    def details(self, generation: Generation, document_ids: Sequence[int]) -> dict[int, StoredDetail]:
        """Fields and chunk rows, read in one snapshot."""
        with self._session() as connection:
            return lookup.details(connection, generation, document_ids)

    def vectors(self, generation: Generation, chunks: Sequence[tuple[int, bytes]]) -> dict[bytes, np.ndarray]:
        """Stored vectors (float32, 1-d) by chunk hash, of (document id, chunk hash); absent where the row is gone."""
        with self._session() as connection:
            return lookup.vectors(connection, generation, chunks)

    def moves(self, generation: Generation, ids: Collection[bytes]) -> dict[bytes, Move]:
        """What these key changes have left, and those that they await in their turn; absent where nothing is left."""
        with self._session() as connection:
            return moves.find(connection, generation, ids)

    def expire_moves(self) -> int:
        """Remove what a key change left more than a week ago; how many."""
        with self._session() as connection:
            return moves.expire(connection)

    def apply(self, plan: Plan, vectors: Mapping[bytes, np.ndarray]) -> Outcome:
        """Commit the plan in ONE transaction, or nothing of it.

        `vectors` maps chunk hash to a float vector (1-d). A plan names a document at most once. `DataFault`: the
        database refused a value; `rehearse` halves of the plan to find the document. `Retry` after a lost COMMIT:
        apply the SAME plan again, it is known then whether it happened.
        """
        settled = self._settle(plan)
        if settled is not None:
            return settled
        try:
            return self._transact(plan, vectors)
        except Retry:
            settled = self._settle(plan)  # None unless it was the COMMIT that was lost
            if settled is None:
                raise
            return settled

    def rehearse(self, plan: Plan, vectors: Mapping[bytes, np.ndarray]) -> None:
        """Do the plan's writes without its offsets and roll back. `DataFault` if the database refuses a value."""
        with self._session(Phase.WRITE) as connection:
            transaction.write(connection, self._target.schema, msgspec.structs.replace(plan, advances=()), vectors)
            connection.execute("ROLLBACK")

    # --- reading

    def heartbeats(self) -> dict[str, int]:
        """Topic prefix -> commit time of its last heartbeat in microseconds."""
        with self._session() as connection:
            return assignment.heartbeats(connection)

    def clocks_behind(self) -> dict[str, int]:
        """Topic prefix -> microseconds that the clock of its source is behind, of those that are."""
        with self._session() as connection:
            return assignment.clocks_behind(connection)

    def note_clock(self, prefix: str, behind_us: int) -> None:
        """Tell everybody how far the clock of this connector's source is behind."""
        with self._session() as connection:
            assignment.note_clock(connection, prefix, behind_us)

    def offsets(self, group: str | None = None) -> list[StoredOffset]:
        """Stored offsets, of one group or all, by topic and partition."""
        with self._session() as connection:
            return assignment.offsets(connection, group)

    def forget_job(self, job: str) -> None:
        """Remove the progress of a job that is done; the same job then begins anew."""
        with self._session() as connection:
            assignment.forget(connection, job)

    def reset_offset(self, group: str, topic: str, topic_id: str, partition: int, next_offset: int) -> None:
        """Move a stored offset and take the epoch: whoever holds the partition is fenced. Makes the row if need be."""
        with self._session() as connection:
            assignment.reset(connection, group, topic, topic_id, partition, next_offset)

    def search(self, generation: Generation, vector: np.ndarray, k: int, source: str | None = None) -> list[SearchHit]:
        """The k nearest chunks, nearest first; through the vector index where there is one, else exact."""
        with self._session() as connection:
            return search.nearest(connection, generation, vector, k, source)

    def index_status(self, generation: Generation) -> IndexStatus:
        """Whether the vector index is there, and how far a build is."""
        with self._session() as connection:
            return index.status(connection, self._target.schema, generation)

    # --- failed and stale documents

    def claim_failed(self, limit: int, sources: Collection[str] | None = None) -> list[FailedDocument]:
        """Due failed documents of these sources, each counted as one attempt and moved on before it is tried."""
        with self._session() as connection:
            return failed.claim(connection, limit, sources)

    def list_failed(self, selector: Selector = ALL, limit: int = 100) -> list[FailedDocument]:
        """Failed documents, oldest first."""
        with self._session() as connection:
            return failed.listed(connection, selector, limit)

    def failed_reasons(self, selector: Selector = ALL) -> list[Reason]:
        """Failed documents grouped by reason, the most frequent first."""
        with self._session() as connection:
            return failed.reasons(connection, selector)

    def retry_failed(self, selector: Selector) -> int:
        """Make them due now, the dead ones for one attempt; how many."""
        with self._session() as connection:
            return failed.make_due(connection, selector)

    def discard_failed(self, selector: Selector) -> int:
        """Forget them: the documents stay `failed` until a newer event comes; how many."""
        with self._session() as connection:
            return failed.discard(connection, selector)

    def failed_counts(self) -> dict[tuple[str, str], int]:
        """(source, retrying|dead) -> rows."""
        with self._session() as connection:
            return failed.counts(connection)

    def document_counts(self) -> dict[tuple[str, str], int]:
        """(source, embedded|failed|deleted) -> rows; scans the table."""
        with self._session() as connection:
            return lookup.counts(connection)

    def stale_documents(
        self, source: str, table_hash: bytes, generation: Generation, limit: int, after: int, last: int
    ) -> list[StaleDocument]:
        """Embedded documents of another table hash or generation, by document id, beyond `after` up to `last`."""
        with self._session() as connection:
            return lookup.stale(connection, source, table_hash, generation, limit, after, last)

    def stale_page(self, hashes: Mapping[str, bytes], generation: Generation, after: int, limit: int) -> StalePage:
        """How many are stale of so many documents beyond `after`; `hashes` are the sources' current ones."""
        with self._session() as connection:
            return lookup.stale_page(connection, hashes, generation, after, limit)

    # --- the connection

    def _transact(self, plan: Plan, vectors: Mapping[bytes, np.ndarray]) -> Outcome:
        with self._session(Phase.WRITE) as connection:
            outcome = transaction.write(connection, self._target.schema, plan, vectors)
            if not isinstance(outcome, Applied):
                connection.execute("ROLLBACK")
                return outcome
            try:
                tag = connection.execute("COMMIT", prepare=False).statusmessage
            except psycopg.Error as error:
                if leaves_open(error) and any(advance.end > advance.start for advance in plan.advances):
                    self._uncertain = Uncertain(plan.group, plan.advances, outcome)
                raise
            if tag != "COMMIT":
                raise Retry("Postgres rolled the transaction back.", "It did not say why.")
            return outcome

    def _settle(self, plan: Plan) -> Applied | None:
        """The outcome of this plan if its lost COMMIT did happen. Waits for the lost transaction; None: apply it."""
        lost = self._uncertain
        if lost is None or (lost.group, lost.advances) != (plan.group, plan.advances):
            return None
        with self._session() as connection:
            held = transaction.held_offsets(connection, lost.group, lost.advances)
        self._uncertain = None
        moved = {TopicPartition(item.topic, item.partition): (item.epoch, item.end) for item in lost.advances}
        return lost.outcome if held == moved else None

    @contextmanager
    def _session(self, phase: Phase = Phase.READ) -> Iterator[Session]:
        with translated(self._target.where, phase):
            if self._connection is None or self._connection.closed:
                self._connection = connect(self._target, self._answer_within)
            self._connection.hurried = True
            try:
                yield self._connection
            except psycopg.errors.ReadOnlySqlTransaction:
                self.close()  # it is no primary any more: its address may lead to another one by now
                raise
            except BaseException:
                self._recover()
                raise

    def _recover(self) -> None:
        """Leave no transaction behind: roll back, or close what cannot be trusted any more."""
        connection, usable = self._connection, {TransactionStatus.INTRANS, TransactionStatus.INERROR}
        if connection is None or connection.info.transaction_status is TransactionStatus.IDLE:
            return
        if connection.info.transaction_status not in usable:
            self.close()
            return
        try:
            connection.execute("ROLLBACK")
        except BaseException:
            self.close()
            raise
