"""All events of one document in a batch to one draft: what is newest, what its fields are, what was stale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from consumer.errors import Reject
from consumer.events import ChangeEvent, Columns, Order, are_same, is_another, is_placeholder
from consumer.planning.guard import classify, merge
from consumer.planning.intake import Arrival, Outcome, Table, Undecodable, document_key
from consumer.planning.model import DocumentKey, Failure, RejectedEvent, StoredDocument
from consumer.planning.moves import Arriving, Leaving, Origin, move_id
from consumer.planning.skip import gives_the_stored, may_repeat, outdated

INCOMPLETE = Failure(
    "plan",
    "incomplete",
    "The event leaves out an unchanged large column and nothing earlier holds its value, or columns of the table were "
    "dropped or renamed since. The next full event of the row heals it, or an ad-hoc snapshot of the table.",
)

UNREAD = Failure(
    "decode",
    "undecodable",
    "The event could not be read, and events of another partition of the topic have its document since.",
)

# What comes later walks a value recursively; no converter of Debezium nests anything near it.
MAX_NESTING = 100


@dataclass(slots=True)
class Draft:
    """What the batch makes of one document, as far as it is known without the stored fields and chunks.

    `fields` maps the used columns to values, those in `holes` are still to be filled from `origin`; None for a delete,
    a failure, or (with `rerender`) a document whose stored fields are taken as they are. `columns` are the row's.
    """

    key: DocumentKey
    source_key: bytes
    table: Table
    stored: StoredDocument | None
    order: Order
    deleted: bool = False
    fields: dict[str, Any] | None = None
    holes: frozenset[str] = frozenset()
    columns: Columns = None
    origin: Origin = None
    failure: Failure | None = None
    rerender: bool = False
    again: bool = False  # forced: every chunk is embedded anew
    skippable: bool = False
    applied: list[ChangeEvent] = field(default_factory=list)
    arrivings: list[Arriving] = field(default_factory=list)
    leavings: list[Leaving] = field(default_factory=list)

    @property
    def reads(self) -> Iterator[int]:
        """The documents whose stored fields and chunks planning must read."""
        if self.stored is not None and (self.leavings or not (self.deleted or self.failure)):
            yield self.stored.document_id
        for arriving in self.arrivings:
            if arriving.old is not None and arriving.old.state != "deleted":
                yield arriving.old.document_id


class Fold:
    """Folds the arrivals of one document, one after the other, onto what is stored."""

    def __init__(
        self, key: DocumentKey, table: Table, stored: StoredDocument | None, generation: int, *, force: bool
    ) -> None:
        self._key, self._table, self._stored, self._force = key, table, stored, force
        self._order = stored.order if stored else None
        self._draft: Draft | None = None
        self._again = force or (stored is not None and outdated(stored, table, generation))
        self._unchanged = stored is not None and not self._again
        self.outcomes: list[Outcome] = []
        self.rejects: list[RejectedEvent] = []

    def fold(self, arrivals: Sequence[Arrival]) -> Draft | None:
        """The draft, or None where nothing has to be written; `outcomes` tells what became of events without one."""
        for arrival in arrivals:
            verdict = classify(arrival.order, self._order) if self._order else "newer"
            if verdict == "stale" and isinstance(arrival, Undecodable) and self._elsewhere(arrival.order):
                self._reject(arrival)
                continue
            if verdict == "stale" or (verdict == "same" and not self._again):
                self._tell(arrival, "stale")
                continue
            self._give_way(arrival)
            self._take(arrival)
        draft = self._draft
        if draft is not None and self._unchanged and not draft.holes:
            self.outcomes += [Outcome(self._key.source, event.op, "unchanged", event) for event in draft.applied]
            return None
        if draft is not None:
            draft.again = self._force
            draft.skippable = self._unchanged and len(draft.applied) == 1
        return draft

    def _take(self, arrival: Arrival) -> None:
        before, draft = self._draft, self._new_draft(arrival)
        if before is not None and before.holes:
            self._unchanged = False  # what that event gave is not known here, so it may have changed something
        if isinstance(arrival, Undecodable):
            draft.failure, self._unchanged = arrival.failure, False
            self._tell(arrival, "rejected")
        else:
            self._take_event(arrival, before, draft)
        self._draft, self._order = draft, draft.order

    def _new_draft(self, arrival: Arrival) -> Draft:
        confirms = isinstance(arrival, ChangeEvent) and arrival.after is None and self._deleted
        order = merge(arrival.order, self._order, confirms=confirms)
        draft = Draft(self._key, arrival.key, self._table, self._stored, order)
        if self._draft is not None:
            draft.applied = self._draft.applied
            draft.arrivings, draft.leavings = self._draft.arrivings, self._draft.leavings
        return draft

    @property
    def _deleted(self) -> bool:
        """Whether the document is deleted by now."""
        if self._draft is not None:
            return self._draft.deleted
        return self._stored is not None and self._stored.state == "deleted"

    def _take_event(self, event: ChangeEvent, before: Draft | None, draft: Draft) -> None:
        if event.after is None:
            if event.other_key is not None and self._lives(event):
                draft.leavings.append(self._leaving(event, event.other_key, before))
            draft.deleted, self._unchanged = True, False
            draft.applied.append(event)
            return
        try:
            draft.fields, draft.columns = _used(event.after, self._table), event.columns
            draft.holes = frozenset(name for name, value in draft.fields.items() if is_placeholder(value))
            if event.other_key is not None:
                draft.origin = self._arriving(event, event.other_key)
                draft.arrivings.append(draft.origin)
            elif draft.holes:
                self._fill(draft, before)
            self._unchanged = self._unchanged and self._same(event, draft)
            draft.applied.append(event)
        except Reject as reject:
            draft.failure = Failure(reject.stage, reject.error_type, reject.what)
            draft.fields, draft.holes, self._unchanged = None, frozenset(), False
            self._tell(event, "rejected")

    def _fill(self, draft: Draft, before: Draft | None) -> None:
        """Fill placeholders from the event before it in this batch; holes left are for what that had them from."""
        fields, holes, columns, draft.origin = self._known(before, draft.order)
        if not are_same(draft.holes, draft.columns, columns):  # nor may what that one had to be filled from
            fields, holes, draft.origin = {}, frozenset(), None
        if draft.fields is not None:
            draft.fields |= {name: value for name, value in fields.items() if name in draft.holes - holes}
        draft.holes -= fields.keys() - holes

    def _known(self, before: Draft | None, order: Order) -> tuple[dict[str, Any], frozenset[str], Columns, Origin]:
        """The row's fields before the event at `order`, those still unknown in this batch, the columns it had, and who
        may know what is unknown.

        Only an earlier event of the same partition can tell: those of others may be older or newer than this one.
        """
        giver = before.order if before else (self._stored.order if self._stored else None)
        if giver is None or (giver.topic_id, giver.partition) != (order.topic_id, order.partition):
            return {}, frozenset(), None, None
        if before is not None:
            return before.fields or {}, before.holes, before.columns, before.origin
        return {}, frozenset(self._table.content.columns), None, self._stored

    def _arriving(self, event: ChangeEvent, other_key: bytes) -> Arriving:
        old_key = document_key(self._key.source, other_key)
        stored = self._stored
        knows = stored and (classify(event.order, stored.order) == "same" or _ahead(stored.order, event.order))
        return Arriving(move_id(self._key, old_key, event.order), old_key, stored if knows else None)

    def _lives(self, event: ChangeEvent) -> bool:
        """Whether there is something to leave: a delete that is delivered again, or older than a snapshot, has not."""
        return self._order is not None and not self._deleted and not _ahead(self._order, event.order)

    def _leaving(self, event: ChangeEvent, other_key: bytes, before: Draft | None) -> Leaving:
        new_key = document_key(self._key.source, other_key)
        return Leaving(move_id(new_key, self._key, event.order), *self._known(before, event.order))

    def _same(self, event: ChangeEvent, draft: Draft) -> bool:
        """Whether this event alone would change nothing: the skip rule."""
        stored = self._stored
        if stored is None or draft.fields is None or not may_repeat(event, stored):
            return False
        if is_another(event.columns, stored.layout, large=bool(draft.holes)):
            return False
        # With holes the stored fields decide, once they are read.
        return bool(draft.holes) or gives_the_stored(draft.fields, stored, self._table)

    def _elsewhere(self, order: Order) -> bool:
        return self._order is not None and order.partition != self._order.partition

    def _give_way(self, arrival: Arrival) -> None:
        """The event that a document failed by may not have been read, and may be newer than one of another partition.

        It has no order of its own then, only the time of an event before it: it is listed by itself from now on.
        """
        order = self._order
        if order is None or order.sequence is not None or order.snapshot or not self._elsewhere(arrival.order):
            return
        failure = self._draft.failure if self._draft else None
        if self._draft is None and self._stored is not None and self._stored.state == "failed":
            failure = None if self._stored.fields_complete else UNREAD
        if failure is not None:
            self.rejects.append(RejectedEvent(self._key.source, order.topic, order.partition, order.offset, failure))

    def _reject(self, arrival: Undecodable) -> None:
        """Of another partition, and without a time: it may be newer than the document or older. The event fails."""
        place = arrival.order
        self.rejects.append(
            RejectedEvent(self._key.source, place.topic, place.partition, place.offset, arrival.failure)
        )
        self._tell(arrival, "rejected")

    def _tell(self, arrival: Arrival, outcome: str) -> None:
        event = arrival if isinstance(arrival, ChangeEvent) else None
        self.outcomes.append(Outcome(self._key.source, event.op if event else "unknown", outcome, event))


def _ahead(stored: Order, event: Order) -> bool:
    """Whether a snapshot has read the row later than `event` happened: what it read may be another row's, or newer."""
    return stored.snapshot and None not in (stored.ts_us, event.ts_us) and (event.ts_us or 0) < (stored.ts_us or 0)


def _used(after: dict[str, Any], table: Table) -> dict[str, Any]:
    try:
        used = {name: after[name] for name in table.content.columns}
    except KeyError:
        missing = ", ".join(name for name in table.content.columns if name not in after)
        what = f"The settings of table {table.topic} use a column that the event does not have: {missing}."
        raise Reject(what, stage="plan", error_type="missing_column") from None
    for name, value in used.items():
        if isinstance(value, (dict, list)) and _deeper(value, MAX_NESTING):
            what = f"Column {name} of table {table.topic} is nested deeper than {MAX_NESTING} levels."
            raise Reject(what, stage="plan", error_type="too_deep")
    return used


def _deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    return not levels or any(
        _deeper(item, levels - 1) for item in (value if isinstance(value, list) else value.values())
    )
