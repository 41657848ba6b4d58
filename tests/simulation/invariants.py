"""What must hold at every commit and when everything has come to rest, told from the source's rows alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

from consumer.planning import DocumentKey, Plan
from consumer.store import TopicPartition
from tests.simulation.connector import Connector, Delivery, Log
from tests.simulation.model import vector_of
from tests.simulation.source import POISON, Change, Row, Source
from tests.store_standin import Database, StoredRow
from tests.unit.records import TOPIC

GROUP, SOURCE = "g", "items"
NOTHING = Row("", "")
TOMBSTONES = ("tombstone", "bare")


def document_key(key: int) -> DocumentKey:
    """The document of a row, by the documented rule."""
    return DocumentKey(SOURCE, hashlib.sha256(b'{"id":%d}' % key).digest()[:16])


def chunks_of(row: Row) -> tuple[str, ...]:
    """What a row is to become: windows of two words, none at a price of 0."""
    words = f"{row.title} {row.body}".split() if row.price != "0" else []
    return tuple(" ".join(words[at : at + 2]) for at in range(0, len(words), 2))


def poisoned(row: Row) -> bool:
    """Whether the database refuses a vector of the row."""
    return any(POISON in chunk for chunk in chunks_of(row))


class Truth:
    """Says what is wrong with the store."""

    def __init__(self, source: Source, connector: Connector, log: Log, database: Database) -> None:
        self._source, self._connector, self._log, self._database = source, connector, log, database
        self._stood: dict[int, int] = {}  # the change that each document stood at
        self._names = {document_key(key): key for key in range(1, 10)}

    # --- at every commit

    def before_commit(self, plan: Plan, fresh: set[str]) -> Iterator[str]:
        """`fresh` are the texts read by the model since the plan's documents were looked at."""
        for write in plan.writes:
            row = self._database.documents.get(write.key)
            if row is not None and row.version != write.expected_version:
                continue  # older than a truncate: it is not written, and so not compared with what is stored
            held = {chunk_hash for chunk_hash, _ in row.chunks} if row else set()
            held |= {h for used in write.used if used in self._database.moves
                     for h in self._database.moves[used][0].vectors}  # fmt: skip
            for chunk in write.insert:
                if chunk.chunk_hash in held and chunk.content in fresh:
                    yield f"the vector of {chunk.content!r} was computed, and row {self._names[write.key]} has it"

    def after_commit(self) -> Iterator[str]:
        """No document from beyond, none that went back; every chunk with its own vector; nothing lost in between."""
        for key, row in self._documents():
            order = row.write.order
            where = f"row {key} at {order.partition}@{order.offset}"
            next_offset = self.next_offset(order.partition)
            if order.offset >= next_offset:
                yield f"{where} is from beyond the stored {next_offset}"
            for text, _, vector in row.chunks.values():
                if not (vector == vector_of(text)).all():
                    yield f"{where} has another text's vector for {text!r}"
            if self._went_back(key, row):
                yield f"{where} is older than it was"
            for delivery in self._behind(key, row, next_offset):
                if not self._harmless(key, row, delivery):
                    yield f"{where} lost {delivery}"

    def _went_back(self, key: int, row: StoredRow) -> bool:
        """Whether the row stands at an older change than before, though every event says where it belongs."""
        number, before = self._number(key, row), self._stood.get(key, -1)
        self._stood[key] = number
        told = all(d.complete and not d.junk and d.op not in ("bare", "r") for d in self._log.of_key[key])
        return told and number < before

    def _behind(self, key: int, row: StoredRow, next_offset: int) -> list[Delivery]:
        """The events after the document's that the group has passed, where each says where it belongs."""
        order = row.write.order
        behind = self._log.between(key, order.partition, order.offset + 1, next_offset)
        return [] if any(delivery.op == "bare" for delivery in self._log.of_key[key]) else behind

    def _harmless(self, key: int, row: StoredRow, delivery: Delivery) -> bool:
        """Whether an event after the document's is older than it, or says what is stored."""
        number = max(self._number(key, row), self._truncated())
        if delivery.number < number or (delivery.number == number and not delivery.junk):
            return True
        if delivery.junk:
            return False
        truth = self._source.state(key, delivery.number)
        return truth is not None and row.write.state == "embedded" and self._holds(row, truth)

    def _number(self, key: int, row: StoredRow) -> int:
        """The change that the document stands at. A tombstone moves a deleted row on, and not back."""
        order = row.write.order
        at = self._log.deliveries[order.partition, order.offset]
        if at.op not in TOMBSTONES:
            return at.number
        before = self._log.between(key, order.partition, 0, order.offset + 1)
        return max(delivery.number for delivery in before if delivery.op in ("d", *TOMBSTONES))

    def _truncated(self) -> int:
        """The last truncate that the store knows."""
        marker = self._database.markers.get(SOURCE)
        known = (at for at in self._source.truncates if marker and self._source.changes[at].ts_us <= marker.ts_us)
        return max(known, default=-1)

    def next_offset(self, partition: int) -> int:
        """Where the group stands."""
        row = self._database.offsets.get((GROUP, TopicPartition(TOPIC, partition)))
        return row.next_offset if row else 0

    # --- at rest

    def at_rest(self) -> Iterator[str]:
        """Every row is what it is in the source; what failed could not be known, and says so."""
        rows = dict(self._documents())
        for key in self._names.values():
            stored, truth = rows.get(key), self._source.rows.get(key)
            if stored is not None and stored.write.state == "failed":
                if not self._may_fail(key, truth):
                    yield f"row {key} failed, and could be known: {self._failure(key)}"
                elif self._failure(key) is None:
                    yield f"row {key} failed, and nothing says so"
            elif truth is None:
                if stored is not None and stored.write.state != "deleted" and not self._rejected(key):
                    yield f"row {key} was deleted, and is stored as {stored.texts}"
            elif stored is None or stored.write.state == "deleted":
                if not self._rejected(key):
                    yield f"row {key} is missing: {truth}"
            elif not self._holds(stored, truth) and not self._rejected(key):
                yield f"row {key} is {stored.texts} of {stored.write.fields!r}, and should be {truth}"
        for failed in self._database.failed.rows.values():
            if failed.key is not None and rows[self._names[failed.key]].write.state != "failed":
                yield f"row {self._names[failed.key]} is listed as failed, and is not"

    def _holds(self, stored: StoredRow, truth: Row) -> bool:
        expected = chunks_of(truth)
        described = not expected or json.loads(stored.write.metadata or b"{}") == {"price": truth.price}
        return stored.texts == expected and described

    def _failure(self, key: int) -> str | None:
        row = self._database.failed.of_document(document_key(key))
        return row.error_type if row else None

    def _rejected(self, key: int) -> bool:
        """Whether an unreadable event of the row is listed by itself: it may have been any change."""
        listed = {(row.partition, row.offset) for row in self._database.failed.rows.values() if row.key is None}
        return any(d.junk and (d.partition, d.offset) in listed for d in self._log.of_key.get(key, ()))

    def _may_fail(self, key: int, truth: Row | None) -> bool:
        """Whether nobody could know the row: unreadable, refused by the database, or its body left out for ever."""
        if truth is not None and (poisoned(truth) or not self._body_known(key)):
            return True
        deliveries = self._log.of_key.get(key, [])
        healing = [d for d in deliveries if not d.junk and d.op not in TOMBSTONES and d.full]
        return any(
            d.junk and not any(h.partition == d.partition and h.offset > d.offset for h in healing) for d in deliveries
        )

    def _body_known(self, key: int) -> bool:
        """Whether the events before the last one tell what it leaves out, each in the partition of the one before."""
        change = self._source.last_change(key, len(self._source.changes))
        while change.left_out:
            if not self._in_line(change) or poisoned(change.row or NOTHING):
                return False
            if change.other_key is not None:
                left = self._source.changes[change.number - 1]
                if not self._in_line(left) or self._was_junk(change.key):
                    return False  # what a key change brought, nothing brings again
                change = left
            change = self._source.last_change(change.key, change.number)
        return not any(d.junk for d in self._deliveries(change)) and not poisoned(change.row or NOTHING)

    def _in_line(self, change: Change) -> bool:
        """Whether the event could be read, stored, and recognised when it came again, behind those before it."""
        of_row, deliveries = self._log.of_key[change.key], self._deliveries(change)
        return (
            len({delivery.partition for delivery in of_row}) == 1
            and not any(delivery.op == "bare" for delivery in of_row)  # it deletes the row, wherever it comes again
            and not any(delivery.junk for delivery in deliveries)
            and (change.other_key is None or len(deliveries) == 1 or all(d.complete for d in deliveries))
        )

    def _was_junk(self, key: int) -> bool:
        return any(delivery.junk for delivery in self._log.of_key[key])

    def _deliveries(self, change: Change) -> list[Delivery]:
        streamed = ("c", "u", "d")
        return [d for d in self._log.of_key.get(change.key, ()) if d.number == change.number and d.op in streamed]

    def _documents(self) -> Iterator[tuple[int, StoredRow]]:
        for key, row in self._database.documents.items():
            yield self._names[key], row
