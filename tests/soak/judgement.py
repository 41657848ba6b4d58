"""What a soak has shown: the store against the source and the topics, and whether enough has happened to say so."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace

from tests.command import CommandProcess
from tests.soak.life import TRUNCATED
from tests.states import StoreState
from tests.topic_log import Event, Place


@dataclass
class Report:
    """The figures of one run. `applied` counts committed events that a process lived on to log; those of failed
    documents that were tried again, by which no position moves, are `retried`."""

    seed: int
    protocol: str
    machine: dict[str, object] = field(default_factory=dict)
    seconds: float = 0.0
    events: int = 0
    applied: int = 0
    retried: int = 0
    lost: int = 0
    duplicated: int = 0
    embedded: int = 0
    partitions: int = 0
    consumers_at_most: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    kills_and_cuts: int = 0
    batches_in_flight_at_a_kill: int = 0
    rebalances: int = 0
    restarts_of_every_part: int = 0
    delivered_again: int = 0
    truncates: int = 0
    key_changes: int = 0
    ddl: int = 0
    snapshots_checked: int = 0
    quiet_checks: int = 0
    slot_confirmed: bool = False
    wrong: list[str] = field(default_factory=list)
    too_little: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """`passed`, `FAILED`, or `INVALID`: too little happened for the run to mean anything."""
        return "FAILED" if self.wrong else "INVALID" if self.too_little else "passed"

    def demand(self, **least: int) -> None:
        """Note what there was too little of."""
        for name, wanted in least.items():
            if (got := getattr(self, name)) < wanted:
                self.too_little.append(f"{name.replace('_', ' ')}: {got} of {wanted}")

    def as_json(self) -> str:
        return json.dumps({"verdict": self.verdict, **asdict(self)}, indent=2, sort_keys=True)


def first_deliveries(events: Iterable[Event]) -> list[Event]:
    """Without what a restarted connector delivered again: the same change of the same row at the same place of the
    source's log, and the tombstone that follows it.

    Of a sequence only the second number is that place: the first is the commit before it that the connector had seen.
    """
    seen: set[tuple[str, str, str, str]] = set()
    repeated: dict[Place, str] = {}
    kept = []
    for event in events:
        place = (event.topic, event.partition)
        if event.op == "tombstone":
            again = repeated.get(place) == event.key
        else:
            mark = (event.topic, event.key, event.op, json.loads(event.sequence or "[null]")[-1])
            again = mark[-1] is not None and mark in seen
            seen.add(mark)
        repeated[place] = event.key if again else ""
        if not again:
            kept.append(event)
    return kept


def counted(processes: Iterable[CommandProcess]) -> tuple[int, int]:
    """Events applied, and events of failed documents tried again: their transactions move no position."""
    batches = [batch for process in processes for batch in process.batches()]
    applied, retried = ([b["events"] for b in batches if bool(b["offsets"]) is moves] for moves in (True, False))
    return sum(applied), sum(retried)


def applied_twice(processes: Iterable[CommandProcess]) -> int:
    """Positions of partitions that two transactions say they have moved to."""
    moved = Counter(place for process in processes for batch in process.batches() for place in batch["offsets"].items())
    return sum(count - 1 for count in moved.values())


def without_truncated(state: StoreState) -> StoreState:
    """The tables whose topics alone tell what the store must hold: a truncate is in no order with other partitions."""
    kept = {name: document for name, document in state.documents.items() if not _is_truncated(name[0])}
    chunks = {name: rows for name, rows in state.chunks.items() if not _is_truncated(name[0])}
    return replace(state, documents=kept, chunks=chunks)


def _is_truncated(source: str) -> bool:
    return source.endswith(f"_{TRUNCATED}")
