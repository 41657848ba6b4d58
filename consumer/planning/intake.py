"""A batch of records to events by document: the first step of every plan."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple

from consumer.content import TableContent
from consumer.errors import Reject, Stop
from consumer.events import (
    NO_SCHEMAS,
    ChangeEvent,
    Form,
    Order,
    Record,
    SchemaRef,
    Schemas,
    decode_event,
    decode_heartbeat,
    decode_key,
    follows_its_delete,
    refs_of,
)
from consumer.planning.model import DocumentKey, Failure, RejectedEvent, Truncate

HEARTBEAT_TOPIC = "__debezium-heartbeat."


@dataclass(frozen=True, slots=True)
class Table:
    """One entry of `tables`, ready to plan with. `on_truncate` is delete, ignore or stop; `form` is how to read it."""

    source: str
    topic: str
    content: TableContent
    on_truncate: str = "delete"
    form: Form = field(default_factory=Form)


class Undecodable(NamedTuple):
    """An event of a known key whose value could not be decoded: all that is known is that the row changed."""

    key: bytes
    order: Order
    failure: Failure


Arrival = ChangeEvent | Undecodable


class Outcome(NamedTuple):
    """What became of one event, for the metrics. `event` is None where it could not be decoded."""

    source: str
    op: str
    outcome: str
    event: ChangeEvent | None = None


@dataclass(slots=True)
class Intake:
    """What a batch of records holds. Arrivals of one document keep their order within a partition."""

    arrivals: dict[DocumentKey, list[Arrival]] = field(default_factory=dict)
    tables: dict[DocumentKey, Table] = field(default_factory=dict)
    rejects: list[RejectedEvent] = field(default_factory=list)
    truncates: list[Truncate] = field(default_factory=list)
    heartbeats: dict[str, int] = field(default_factory=dict)
    old_keys: set[DocumentKey] = field(default_factory=set)  # of inserts by a key change
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def keys(self) -> set[DocumentKey]:
        """Of the documents that planning has to know."""
        return self.arrivals.keys() | self.old_keys

    @property
    def decodable(self) -> bool:
        """Whether every record could be decoded."""
        arrivals = (arrival for each in self.arrivals.values() for arrival in each)
        return not self.rejects and not any(isinstance(arrival, Undecodable) for arrival in arrivals)


def schema_refs(records: Iterable[Record], tables: Mapping[str, Table]) -> set[SchemaRef]:
    """The schemas in the registry that `records` name: what `take_in` needs to know of them."""
    beat = _heartbeat_form(tables)
    return {
        ref
        for record in records
        for ref in refs_of(record, tables[record.topic].form if record.topic in tables else beat)
    }


def take_in(
    records: Iterable[Record], tables: Mapping[str, Table], schemas: Schemas = NO_SCHEMAS, into: Intake | None = None
) -> Intake:
    """Decode `records`, whose topics are those of `tables` and heartbeat topics. Nothing is dropped silently.

    `schemas` holds every one of `schema_refs`; an event whose schema is a Reject there becomes a failed document.
    `into` holds the records before these of the same batch.
    """
    intake, beat = Intake() if into is None else into, _heartbeat_form(tables)
    for record in records:
        table = tables.get(record.topic)
        if table is None:
            _heartbeat(record, intake, beat, schemas)
            continue
        try:
            _arrive(record, table, intake, schemas)
        except Reject as reject:
            failure = Failure(reject.stage, reject.error_type, reject.what)
            place = (record.topic, record.partition, record.offset)
            intake.rejects.append(RejectedEvent(table.source, *place, failure))
            intake.outcomes.append(Outcome(table.source, "unknown", "rejected"))
    return intake


def document_key(source: str, key: bytes) -> DocumentKey:
    """The identity of the row with canonical key `key`."""
    return DocumentKey(source, sha256(key).digest()[:16])


def _arrive(record: Record, table: Table, intake: Intake, schemas: Schemas) -> None:
    """One record of a table. Raises Reject only where no document can be named."""
    arrival: Arrival
    if record.delete is not None and follows_its_delete(record, table.form, schemas):
        intake.outcomes.append(Outcome(table.source, "tombstone", "ignored"))
        return
    try:
        arrival = decode_event(record, table.form, schemas)
        if not arrival.key:
            _without_row(arrival, table, intake)
            return
        if arrival.other_key is not None and arrival.op == "c":
            intake.old_keys.add(document_key(table.source, arrival.other_key))
    except Reject as reject:
        if record.key is None:
            raise
        order = Order(record.topic, record.topic_id, record.partition, record.offset)
        failure = Failure(reject.stage, reject.error_type, reject.what)
        arrival = Undecodable(decode_key(record, table.form, schemas), order, failure)
    key = document_key(table.source, arrival.key)
    arrivals = intake.arrivals.get(key)
    if arrivals is not None:
        arrivals.append(arrival)
    else:
        intake.arrivals[key], intake.tables[key] = [arrival], table


def _without_row(event: ChangeEvent, table: Table, intake: Intake) -> None:
    """A truncate by the table's policy; a logical message concerns no row."""
    if event.op == "t" and table.on_truncate == "delete" and not _of(event.table, table):
        raise Stop(
            f"The table {event.table} was truncated (topic {event.order.topic}, partition {event.order.partition}, "
            f"offset {event.order.offset}).",
            f"The rows of source {table.source} may be other tables' too, and all of them would be deleted.",
            f"If they are all of this table, set `source: {event.table}` and load them under that name; else set "
            "on_truncate to ignore.",
        )
    if event.op == "t" and table.on_truncate == "stop":
        raise Stop(
            f"The table behind {event.order.topic} was truncated (partition {event.order.partition}, offset "
            f"{event.order.offset}).",
            "Its setting on_truncate is stop.",
            f"Set it to delete or ignore, or skip the event with `embed-consumer offsets reset --topic "
            f"{event.order.topic} --partition {event.order.partition} --to {event.order.offset + 1}`.",
        )
    outcome = "ignored"
    if event.op == "t" and table.on_truncate == "delete" and event.order.ts_us is not None:
        intake.truncates.append(Truncate(table.source, event.order.sequence, event.order.ts_us))
        outcome = "deleted"
    intake.outcomes.append(Outcome(table.source, event.op, outcome, event))


def _of(name: str | None, table: Table) -> bool:
    """Whether a truncated table is all of the source: topic or source has its name, but for what topics cannot have."""
    plain = re.compile(r"[^A-Za-z0-9]").sub
    return name is None or plain("_", name) in (plain("_", table.topic), plain("_", table.source))


def _heartbeat_form(tables: Mapping[str, Table]) -> Form:
    """Heartbeats are framed as the tables' records are, in whatever format."""
    return Form(framing=next(iter(tables.values())).form.framing) if tables else Form()


def _heartbeat(record: Record, intake: Intake, form: Form, schemas: Schemas) -> None:
    prefix = record.topic.removeprefix(HEARTBEAT_TOPIC)
    ts_us = decode_heartbeat(record, form, schemas)
    if ts_us is not None:
        intake.heartbeats[prefix] = max(ts_us, intake.heartbeats.get(prefix, ts_us))
