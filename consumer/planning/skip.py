"""The skip rule: which event would change nothing.

`unchanged` applies it to the event that comes most, an update alone in its batch. `Fold` applies it too, among
everything else; it makes a draft first, which costs several times as much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from consumer.errors import Reject
from consumer.events import ChangeEvent, is_another
from consumer.planning.guard import classify
from consumer.planning.intake import Arrival, Table
from consumer.planning.model import StoredDocument


def outdated(stored: StoredDocument, table: Table, generation: int) -> bool:
    """Whether the stored version would come out differently if it were applied again."""
    if stored.state == "deleted":
        return False
    return (
        stored.state == "failed"
        or not stored.fields_complete
        or stored.table_hash != table.content.table_hash
        or stored.generation != generation
    )


def may_repeat(event: ChangeEvent, stored: StoredDocument) -> bool:
    """Whether the event is one that may be skipped: then its fields decide, and whether the table has changed."""
    return (
        event.op in ("u", "r")
        and event.order.partition == stored.order.partition
        and event.order.topic_id == stored.order.topic_id
    )


def gives_the_stored(fields: Mapping[str, Any], stored: StoredDocument, table: Table) -> bool:
    """Whether the used columns are the stored ones; a gravestone and a failed document have none."""
    return table.content.fields_hash(fields) == stored.fields_hash


def unchanged(
    arrivals: Sequence[Arrival], stored: StoredDocument | None, table: Table, generation: int
) -> ChangeEvent | None:
    """The one event of the document, if it does nothing to it. None may also mean that only `Fold` can tell.

    A column left out has no hash that a whole document's fields ever had, so that an event with one is never skipped.
    """
    event = arrivals[0]
    if stored is None or len(arrivals) > 1 or not isinstance(event, ChangeEvent):
        return None
    try:
        nothing = (
            may_repeat(event, stored)
            and event.after is not None
            and event.other_key is None
            and not outdated(stored, table, generation)
            and classify(event.order, stored.order) == "newer"
            and gives_the_stored(event.after, stored, table)
            and not is_another(event.columns, stored.layout)
        )
    except Reject:
        return None
    return event if nothing else None
