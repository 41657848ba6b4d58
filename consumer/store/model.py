"""What the store takes and gives beside a `Plan`: plain data, named after the tables it comes from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple

from consumer.planning import Advance, DocumentKey, Failure

Element = Literal["vector", "halfvec"]
Metric = Literal["cosine", "l2", "ip"]
FailedState = Literal["retrying", "dead"]


@dataclass(frozen=True)
class VectorSpace:
    """What this process would write: a generation is created from it, or compared with it.

    `description` is what `config_hash` was computed from (model, revision, weights, prompts, …), JSON values only: it
    is stored so that a later difference can be named key by key. `segment_rows`, as in `Generation`, makes no vector
    another one.
    """

    config_hash: bytes
    description: Mapping[str, Any]
    model: str
    dimension: int
    element: Element = "vector"
    metric: Metric = "cosine"
    m: int = 16
    ef_construction: int = 64
    segment_rows: int | None = None


@dataclass(frozen=True)
class Generation:
    """One stored vector space and the chunk table that holds it.

    `segment_rows`: the table is in segments, and the hot one is sealed when it has so many rows; None: one plain table.
    `hot_segment` takes the new rows, as of when this was read: only what a transaction has read itself counts.
    """

    number: int
    state: Literal["building", "live", "retired"]
    config_hash: bytes
    model: str
    dimension: int
    element: Element
    metric: Metric
    m: int
    ef_construction: int
    chunk_table: str
    segment_rows: int | None = None
    hot_segment: int | None = None


class TopicPartition(NamedTuple):
    """A partition's coordinates; `acquire`, `Fenced` and `offsets` use it as key."""

    topic: str
    partition: int


class Wanted(NamedTuple):
    """A partition this process was assigned, as the broker describes it.

    `low_watermark` is the first offset the broker still has: where a partition without a stored row begins.
    """

    topic: str
    topic_id: str
    partition: int
    low_watermark: int


class Acquired(NamedTuple):
    """The epoch a partition was acquired under and the first offset that is not applied yet: seek there."""

    epoch: int
    next_offset: int


@dataclass(frozen=True)
class StoredOffset:
    """One row of `offsets`."""

    group: str
    topic: str
    topic_id: str
    partition: int
    epoch: int
    next_offset: int
    updated_at: datetime


class Reason(NamedTuple):
    """How many failed documents share a reason."""

    source: str
    stage: str
    error_type: str
    state: str
    documents: int


@dataclass(frozen=True)
class Applied:
    """The transaction is committed. `dropped` are writes older than a truncate or the key of their source: forget them.
    `refused` are those under another key than their source's, written as failed documents; none of them was dropped.

    `truncated` are sources whose truncate took effect (an older, redelivered one is ignored): forget what is known of
    their documents. `deleted` are chunks by source, those of documents that went whole included.
    """

    documents: int = 0
    chunks_inserted: int = 0
    chunks_updated: int = 0
    deleted: Counter[str] = field(default_factory=Counter)
    dropped: tuple[DocumentKey, ...] = ()
    refused: Mapping[DocumentKey, Failure] = field(default_factory=dict)
    truncated: tuple[str, ...] = ()

    @property
    def chunks_deleted(self) -> int:
        """Of all sources."""
        return self.deleted.total()


@dataclass(frozen=True)
class Fenced:
    """Nothing was written: these partitions belong to another epoch, or stand at another offset."""

    partitions: frozenset[TopicPartition]


@dataclass(frozen=True)
class Conflict:
    """Nothing was written: another writer changed these documents first. Read them again and plan again."""

    keys: frozenset[DocumentKey]


Outcome = Applied | Fenced | Conflict


class KeyChange(NamedTuple):
    """A source's key in words, before and after a change under which its events fail. `documents` would end with it."""

    old: str
    new: str
    documents: int


@dataclass(frozen=True)
class Uncertain:
    """A COMMIT whose reply never came, kept until the offset rows tell whether it happened."""

    group: str
    advances: tuple[Advance, ...]
    outcome: Applied


@dataclass(frozen=True)
class FailedDocument:
    """One row of `failed_documents`. `key` and `source_key` are None where the event's key could not be decoded."""

    failure_id: int
    source: str
    key: DocumentKey | None
    source_key: bytes | None  # JSON object
    topic: str
    partition: int
    offset: int
    stage: str
    error_type: str
    error: str
    attempts: int
    first_failed_at: datetime
    next_attempt_at: datetime | None  # None: dead
    state: FailedState


@dataclass(frozen=True)
class Selector:
    """Which failed documents: every condition given must hold; none given means all."""

    failure_id: int | None = None
    source: str | None = None
    error_type: str | None = None
    state: FailedState | None = None


class StalePage(NamedTuple):
    """The id of the last document that was looked at, None if there was none; source -> stale ones, where there are."""

    last: int | None
    found: Mapping[str, int]


class StaleDocument(NamedTuple):
    """An embedded document whose table hash or generation is not the current one. `lookup` and `details` tell more."""

    document_id: int
    key: DocumentKey
    source_key: bytes  # JSON object


@dataclass(frozen=True)
class SearchHit:
    """One row of the view `chunks` and its distance to the query, by the generation's metric (smaller is nearer)."""

    distance: float
    source: str
    source_key: dict[str, Any]
    chunk_no: int
    content: str
    metadata: dict[str, Any] | None
    content_hash: bytes
    kafka_topic: str
    kafka_partition: int
    kafka_offset: int
    source_committed_at: datetime | None
    embedded_at: datetime


@dataclass(frozen=True)
class IndexStatus:
    """The vector index of a generation. `done` and `total` count the unit of `phase`, None where not visible.

    `segments`: how many have an index; None where the table is not in segments. "ready" then means that no sealed one
    lacks it; the hot one never has any.
    """

    state: Literal["missing", "building", "invalid", "ready"]
    phase: str | None = None
    done: int | None = None
    total: int | None = None
    segments: int | None = None


@dataclass(frozen=True)
class Step:
    """One transaction of a migration, exactly as it will be (or was) executed."""

    name: str
    sql: str = field(repr=False)
