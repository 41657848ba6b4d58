"""Key changes: Debezium sends a delete under the old key and an insert under the new one, each naming the other's.

The headers' names are those of io.debezium.pipeline.EventDispatcher; the key in them is written by `header.converter`,
which by default gives the same JSON object as a JSON key.
"""

from __future__ import annotations

from consumer.errors import Reject
from consumer.events.form import Form
from consumer.events.model import Record

_HEADERS = {"d": "__debezium.newkey", "c": "__debezium.oldkey"}


def other_key(record: Record, op: str, form: Form) -> bytes | None:
    """Canonical JSON of the key that the row had before (op c) or has from now on (op d); None if it kept its key.

    A header that cannot be read is as good as none: the two halves are then a delete and an insert like any other.
    """
    wanted = _HEADERS.get(op)
    for name, value in record.headers:
        if name == wanted and value is not None:
            try:
                return form.json.key(value)
            except Reject:
                return None
    return None
