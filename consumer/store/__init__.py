"""Named SQL, state look-up, `apply`, migrations. Nothing else in the product talks to the vector database."""

from consumer.store.faults import DataFault, TooSlow
from consumer.store.index import build_index
from consumer.store.migrations import migrate, pending
from consumer.store.model import (
    Acquired,
    Applied,
    Conflict,
    FailedDocument,
    Fenced,
    Generation,
    IndexStatus,
    Outcome,
    SearchHit,
    Selector,
    StaleDocument,
    Step,
    StoredOffset,
    TopicPartition,
    VectorSpace,
    Wanted,
)
from consumer.store.store import Store

__all__ = [
    "Acquired",
    "Applied",
    "Conflict",
    "DataFault",
    "FailedDocument",
    "Fenced",
    "Generation",
    "IndexStatus",
    "Outcome",
    "SearchHit",
    "Selector",
    "StaleDocument",
    "Step",
    "Store",
    "StoredOffset",
    "TooSlow",
    "TopicPartition",
    "VectorSpace",
    "Wanted",
    "build_index",
    "migrate",
    "pending",
]
