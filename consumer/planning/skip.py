"""The skip rule for the event that comes most: an update alone in its batch that leaves all used columns as they are.

`Fold` decides the same, and everything else; it makes a draft first, which costs several times as much.
"""

from __future__ import annotations

from collections.abc import Sequence

from consumer.errors import Reject
from consumer.events import ChangeEvent
from consumer.planning.guard import classify
from consumer.planning.intake import Arrival, Table
from consumer.planning.model import StoredDocument


def unchanged(
    arrivals: Sequence[Arrival], stored: StoredDocument | None, table: Table, generation: int
) -> ChangeEvent | None:
    """The one event of the document, if it does nothing to it. None may also mean that only `Fold` can tell.

    A column left out has no hash that a whole document's fields ever had, so that an event with one is never skipped.
    """
    event = arrivals[0]
    if stored is None or len(arrivals) > 1 or not isinstance(event, ChangeEvent):
        return None
    content, order = table.content, event.order
    try:
        nothing = (
            event.op in ("u", "r")
            and event.after is not None
            and event.other_key is None
            and stored.state == "embedded"
            and stored.fields_complete
            and stored.generation == generation
            and stored.table_hash == content.table_hash
            and order.partition == stored.order.partition
            and order.topic_id == stored.order.topic_id
            and classify(order, stored.order) == "newer"
            and content.fields_hash(event.after) == stored.fields_hash
        )
    except Reject:
        return None
    return event if nothing else None
