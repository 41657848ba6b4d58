"""Stored state and events in, a `Plan` out: what to keep, embed, delete, reject. Pure data, no clock, no I/O."""

from consumer.planning.batch import Batch, Partition
from consumer.planning.fold import Draft
from consumer.planning.guard import classify, merge
from consumer.planning.intake import HEARTBEAT_TOPIC, Intake, Outcome, Table, document_key, schema_refs, take_in
from consumer.planning.model import (
    Advance,
    DocumentKey,
    DocumentWrite,
    Failure,
    Move,
    NewChunk,
    Plan,
    RejectedEvent,
    State,
    StoredChunk,
    StoredDetail,
    StoredDocument,
    Truncate,
)
from consumer.planning.moves import Moves, awaited
from consumer.planning.planner import Drafted, Planned, Planner, StoredKey, as_plan
from consumer.planning.turns import Turns

__all__ = [
    "HEARTBEAT_TOPIC",
    "Advance",
    "Batch",
    "DocumentKey",
    "DocumentWrite",
    "Draft",
    "Drafted",
    "Failure",
    "Intake",
    "Move",
    "Moves",
    "NewChunk",
    "Outcome",
    "Partition",
    "Plan",
    "Planned",
    "Planner",
    "RejectedEvent",
    "State",
    "StoredChunk",
    "StoredDetail",
    "StoredDocument",
    "StoredKey",
    "Table",
    "Truncate",
    "Turns",
    "as_plan",
    "awaited",
    "classify",
    "document_key",
    "merge",
    "schema_refs",
    "take_in",
]
