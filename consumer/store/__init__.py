"""Named SQL, state look-up, `apply`, migrations. Nothing else in the product talks to the vector database."""

from consumer.store.checkup import Checkup, Rights, Server
from consumer.store.faults import DataFault, Phase, TooSlow
from consumer.store.index import build_index
from consumer.store.migrations import OLDEST_SERVER, migrate, pending, too_old
from consumer.store.model import (
    Acquired,
    Applied,
    Conflict,
    FailedDocument,
    Fenced,
    Generation,
    IndexStatus,
    KeyChange,
    Outcome,
    Reason,
    SearchHit,
    Selector,
    StaleDocument,
    StalePage,
    Step,
    StoredOffset,
    TopicPartition,
    VectorSpace,
    Wanted,
)
from consumer.store.rekey import key_change, rekey
from consumer.store.store import Store
from consumer.store.tending import Tender

__all__ = [
    "OLDEST_SERVER",
    "Acquired",
    "Applied",
    "Checkup",
    "Conflict",
    "DataFault",
    "FailedDocument",
    "Fenced",
    "Generation",
    "IndexStatus",
    "KeyChange",
    "Outcome",
    "Phase",
    "Reason",
    "Rights",
    "SearchHit",
    "Selector",
    "Server",
    "StaleDocument",
    "StalePage",
    "Step",
    "Store",
    "StoredOffset",
    "Tender",
    "TooSlow",
    "TopicPartition",
    "VectorSpace",
    "Wanted",
    "build_index",
    "key_change",
    "migrate",
    "pending",
    "rekey",
    "too_old",
]
