"""What the store's tests build plans from: one schema each, a space of four dimensions, small documents."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import msgspec
import numpy as np
import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from consumer.events import Order
from consumer.planning import Advance, DocumentKey, DocumentWrite, NewChunk, Plan, StoredChunk, StoredDocument
from consumer.store import Applied, Generation, Outcome, Store, VectorSpace, Wanted, migrate

GROUP, TOPIC, SOURCE = "prod", "shop.public.products", "shop.public.products"
SPACE = VectorSpace(b"\x01" * 32, {"model": "tiny", "revision": "r1", "prompts": {"query": ""}}, "tiny", 4)
EPOCH_US = 1_700_000_000_000_000
_schemas = itertools.count(1)


def key(number: int, source: str = SOURCE) -> DocumentKey:
    return DocumentKey(source, hashlib.sha256(b'{"id":%d}' % number).digest()[:16])


def order(offset: int, *, partition: int = 0, seconds: float | None = None, sequence: int | None = None) -> Order:
    """An event at `offset`; by default each offset is a second and an LSN later than the one before."""
    ts_us = EPOCH_US + int(1e6 * (offset if seconds is None else seconds))
    lsn = offset if sequence is None else sequence
    return Order(TOPIC, "topic-1", partition, offset, (lsn, lsn), ts_us)


def chunk(text: str, number: int = 0, occurrence: int = 0) -> NewChunk:
    return NewChunk(chunk_hash(text), occurrence, number, text, tuple(range(len(text.split()))))


def chunk_hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]


def write(number: int, offset: int = 0, stored: StoredDocument | None = None, **changes: Any) -> DocumentWrite:
    """An embedded document without chunks, new or on top of `stored`; `changes` replace single fields."""
    made = DocumentWrite(
        key=key(number),
        source_key=b'{"id":%d}' % number,
        document_id=stored.document_id if stored else None,
        expected_version=stored.version if stored else 0,
        state="embedded",
        order=order(offset),
        fields=b'{"title":"t%d"}' % number,
        fields_complete=True,
        fields_hash=b"f" * 16,
        table_hash=b"t" * 16,
        content_hash=b"c" * 16,
        generation=1,
        metadata=b'{"price":1}',
    )
    return msgspec.structs.replace(made, **changes)


def delete(number: int, offset: int, stored: StoredDocument | None = None) -> DocumentWrite:
    return write(
        number, offset, stored, state="deleted", fields=None, fields_complete=False, fields_hash=None,
        table_hash=None, content_hash=None, generation=None, metadata=None, delete_all=stored is not None,
    )  # fmt: skip


def plan(*writes: DocumentWrite, advance: Advance | None = None, **changes: Any) -> Plan:
    made = Plan(GROUP, 1, (advance,) if advance else (), tuple(writes))
    return msgspec.structs.replace(made, **changes)


def advance(start: int, end: int, *, epoch: int = 1, partition: int = 0) -> Advance:
    return Advance(TOPIC, partition, epoch, start, end)


def kept(text: str, number: int, occurrence: int = 0) -> StoredChunk:
    return StoredChunk(chunk_hash(text), occurrence, number)


class Vectors(Mapping[bytes, np.ndarray]):
    """A vector for any chunk hash, always the same for the same hash."""

    def __getitem__(self, chunk_hash: bytes) -> np.ndarray:
        return np.frombuffer(hashlib.sha256(chunk_hash).digest(), dtype=np.uint16)[:4].astype(np.float32) / 65536

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0


VECTORS = Vectors()


class Bench:
    """A migrated schema of its own, a store on it, and plain SQL to look behind the store."""

    def __init__(self, dsn: str, migrator: str, admin: str, space: VectorSpace = SPACE) -> None:
        """DSNs: the writer's, which the product works with, the migrator's and the superuser's."""
        self.dsn, self.schema, self._admin = dsn, f"s{next(_schemas)}", admin
        migrate(migrator, self.schema, space)
        self.store = Store(dsn, self.schema)
        self.generation: Generation = self.store.live_generation(space)

    @classmethod
    def on(cls, server: str, space: VectorSpace = SPACE) -> Self:
        """With the roles of ops/postgres, on a server of `throwaway_postgres`."""
        writer, migrator = (make_conninfo(server, user=role) for role in ("embedder", "embedding_migrator"))
        return cls(writer, migrator, server, space)

    def acquire(self, *partitions: int) -> None:
        """Hold the partitions under a new epoch."""
        self.store.acquire(GROUP, [Wanted(TOPIC, "topic-1", partition, 0) for partition in partitions or (0,)])

    def apply(self, *writes: DocumentWrite, **changes: Any) -> Outcome:
        return self.store.apply(plan(*writes, **changes), VECTORS)

    def applied(self, *writes: DocumentWrite, **changes: Any) -> Applied:
        outcome = self.apply(*writes, **changes)
        assert isinstance(outcome, Applied), outcome
        return outcome

    def stored(self, number: int, source: str = SOURCE) -> StoredDocument:
        return self.store.lookup([key(number, source)])[key(number, source)]

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Rows of plain SQL, as the superuser, with the schema on the search path."""
        with psycopg.connect(self._admin, autocommit=True, row_factory=dict_row) as connection:
            connection.execute(f'SET search_path TO "{self.schema}", public')
            cursor = connection.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def until(self, statement: str, rows: int = 1) -> list[dict[str, Any]]:
        """The answer of `statement` as soon as it has so many rows."""
        deadline = time.monotonic() + 20
        while len(found := self.rows(statement)) < rows:
            assert time.monotonic() < deadline, f"still {len(found)} rows: {statement}"
        return found

    def chunks(self, number: int) -> list[dict[str, Any]]:
        return self.rows(
            "SELECT * FROM chunks_1 WHERE document_id = %s ORDER BY chunk_no", [self.stored(number).document_id]
        )


def other_space(**changes: Any) -> VectorSpace:
    return replace(SPACE, **changes)
