"""The store in memory: what Postgres would hold, and sessions on it that keep the rules of `consumer.store.Store`.

tests/contract/test_store.py holds the two together. A transaction is one call and atomic; one thread at a time.
"""

from tests.store_standin.database import Database, StoredRow
from tests.store_standin.session import StandInStore

__all__ = ["Database", "StandInStore", "StoredRow"]
