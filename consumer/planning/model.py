"""Stored state in, `Plan` out: the plain data between planning, the model and the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from consumer.events import Order

State = Literal["embedded", "failed", "deleted"]


class DocumentKey(NamedTuple):
    """A document's identity: its source and the first 16 bytes of the SHA-256 of its canonical key."""

    source: str
    key_hash: bytes


class StoredDocument(msgspec.Struct, frozen=True, gc=False):
    """What planning needs to know of a stored document before it decides; read for every key of a batch."""

    document_id: int
    version: int  # compare-and-set token: grows by one with every write
    state: State
    order: Order
    fields_hash: bytes | None  # None: not valid (failed or deleted)
    fields_complete: bool
    table_hash: bytes | None
    generation: int | None
    layout: bytes | None = None  # of the row that was written last


class StoredChunk(NamedTuple):
    """A chunk row as stored, without content and vector."""

    chunk_hash: bytes
    occurrence: int
    chunk_no: int


class StoredDetail(msgspec.Struct, frozen=True):
    """Read only for documents that will be written: last-known fields, chunk rows of the live generation, hashes."""

    version: int
    fields: bytes | None  # JSON object, last-known values of the used columns, as far as known
    content_hash: bytes | None
    metadata: bytes | None  # canonical JSON of the chunks' metadata, None where the document has no chunks
    chunks: tuple[StoredChunk, ...]
    awaits: bytes | None = None  # the key change that may bring what `fields` lacks
    layout: bytes | None = None  # of the row that `fields` are of


class Move(msgspec.Struct, frozen=True):
    """A row of `moves`: what a document was when its key changed, left by the delete for the insert under the new key.

    `fields` is a JSON object of the columns that were known, of a row of that `layout`; `awaits` names an earlier key
    change that may bring the others. `vectors` maps chunk hashes to stored vectors; a row to be written has none, for
    the store takes them from the chunks that go, and where the row had moved before in the same batch, from those
    `documents` and the rows of `moves` that are named `earlier`.
    """

    id: bytes
    fields: bytes
    awaits: bytes | None = None
    layout: bytes | None = None
    vectors: Mapping[bytes, Any] = {}
    documents: tuple[int, ...] = ()
    earlier: tuple[bytes, ...] = ()


class NewChunk(msgspec.Struct, frozen=True):
    """A chunk row to insert; its vector is found under `chunk_hash` among the batch's vectors."""

    chunk_hash: bytes
    occurrence: int
    chunk_no: int
    content: str
    token_ids: tuple[int, ...]


class Failure(msgspec.Struct, frozen=True):
    """Why a document or event could not be applied. `error` never contains document text."""

    stage: str
    error_type: str
    error: str


class DocumentWrite(msgspec.Struct, frozen=True):
    """One document row to insert (`document_id` None, `expected_version` 0) or to update where the version matches.

    The new version is `expected_version + 1`. Chunks: `delete_all` removes every chunk row; otherwise `insert`,
    `update` (chunk_no and metadata of kept rows, also stamped with the new coordinates) and `delete` are the
    difference; rows in none of them are not touched. A failed document keeps its chunks.
    """

    key: DocumentKey
    source_key: bytes  # canonical JSON object
    document_id: int | None
    expected_version: int
    state: State
    order: Order
    fields: bytes | None
    fields_complete: bool
    fields_hash: bytes | None
    table_hash: bytes | None
    content_hash: bytes | None
    generation: int | None
    metadata: bytes | None = None
    insert: tuple[NewChunk, ...] = ()
    update: tuple[StoredChunk, ...] = ()
    delete: tuple[tuple[bytes, int], ...] = ()
    delete_all: bool = False
    kept: int = 0  # chunk rows that need no new vector, relabelled or untouched
    failure: Failure | None = None
    was_failed: bool = False  # a failed_documents row of this document is to be removed
    layout: bytes | None = None  # of the row that `fields` are of
    awaits: bytes | None = None  # the key change that may bring the fields an incomplete document lacks
    leaves: tuple[Move, ...] = ()
    used: tuple[bytes, ...] = ()  # ids of `moves` rows that are not needed any more


class RejectedEvent(msgspec.Struct, frozen=True):
    """An event whose key could not be decoded: it has no document, only coordinates."""

    source: str
    topic: str
    partition: int
    offset: int
    failure: Failure


class Truncate(msgspec.Struct, frozen=True):
    """Every document of `source` older than this moment goes."""

    source: str
    sequence: tuple[int, int] | None
    ts_us: int


class Advance(msgspec.Struct, frozen=True):
    """The fence: moves one partition's stored offset from `start` to `end`, only under `epoch`."""

    topic: str
    partition: int
    epoch: int
    start: int
    end: int


class Plan(msgspec.Struct, frozen=True):
    """Everything one transaction does. `generation` is the only one it may write to.

    `heartbeats` are (topic prefix, the connector's clock in microseconds).
    """

    group: str
    generation: int
    advances: tuple[Advance, ...]
    writes: tuple[DocumentWrite, ...]
    rejects: tuple[RejectedEvent, ...] = ()
    truncates: tuple[Truncate, ...] = ()
    heartbeats: tuple[tuple[str, int], ...] = ()
