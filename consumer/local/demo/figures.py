"""What the demo measured and what it verified: plain data, and nothing about how it is shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from consumer.errors import Exit, Stop
from consumer.store import SearchHit


@dataclass
class Group:
    """Changes of one kind; `new_text` are those that need the model. `saved` are chunks that kept their vectors.

    `seconds` has one value per change: from just before its COMMIT to the first look at the store that saw its effect.
    """

    title: str
    total: int
    new_text: bool
    done: int = 0
    seconds: list[float] = field(default_factory=list)
    events: int = 0
    embedded: int = 0
    reused: int = 0
    skipped: int = 0
    saved: int = 0


@dataclass(frozen=True)
class Snapshot:
    """The first load: `seconds` from the consumer's first assignment to the last row being searchable."""

    rows: int
    chunks: int
    seconds: float

    @property
    def rows_per_second(self) -> float:
        """Rows a second over the whole snapshot."""
        return self.rows / max(self.seconds, 1e-3)


@dataclass(frozen=True)
class Found:
    """One search of the story: what it shows, and the hits. `before` is the best hit of the same question earlier."""

    question: str
    shows: str
    model: str
    hits: Sequence[SearchHit]
    before: SearchHit | None = None


@dataclass(frozen=True)
class Check:
    """One claim, and the figures it was held against."""

    claim: str
    holds: bool
    detail: str


class Checks:
    """Every claim is checked when it is made; the first that does not hold ends the demo."""

    def __init__(self, log: Path) -> None:
        self.made: list[Check] = []
        self._log = log

    def require(self, claim: str, holds: bool, detail: str) -> None:
        """Note the claim. Raises Stop, with the figures and the log to read, if it does not hold."""
        self.made.append(Check(claim, holds, detail))
        if not holds:
            raise Stop(
                f"This does not hold: {claim}.",
                f"Found: {detail}.",
                f"The consumer's log may say why: {self._log}.",
                exit_code=Exit.FAILED,
            )


@dataclass
class Report:
    """The whole demo in figures. Parts are None or empty as long as the story has not come to them.

    `phases` are the seconds of its parts, in order; `seconds` is their sum.
    """

    checks: Checks
    snapshot: Snapshot | None = None
    groups: list[Group] = field(default_factory=list)
    searches: list[Found] = field(default_factory=list)
    phases: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def freshness_seconds(self) -> list[float]:
        """Commit to searchable of the changes that needed the model: what waits longest."""
        return [value for group in self.groups if group.new_text for value in group.seconds]

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values; null where the demo did not come to it."""
        taken, seconds = self.snapshot, self.freshness_seconds
        return {
            "rows": taken.rows if taken else None,
            "chunks": taken.chunks if taken else None,
            "snapshot_seconds": round(taken.seconds, 2) if taken else None,
            "rows_per_second": round(taken.rows_per_second, 1) if taken else None,
            "freshness_p50_ms": _ms(seconds, 0.5),
            "freshness_p99_ms": _ms(seconds, 0.99),
            "freshness_changes": len(seconds),
            "freshness_of": "edits of text, from just before COMMIT on the source to the first look that shows it",
            "events": sum(group.events for group in self.groups),
            "embeds_saved": sum(group.saved for group in self.groups),
            "chunks_reused": sum(group.reused for group in self.groups),
            "changes": [_group_json(group) for group in self.groups],
            "searches": [_found_json(found) for found in self.searches],
            "checks": [asdict(check) for check in self.checks.made],
            "phases": {name: round(seconds, 1) for name, seconds in self.phases.items()},
            "seconds": round(self.seconds, 1),
        }


def _group_json(group: Group) -> dict[str, Any]:
    names = ("done", "events", "embedded", "reused", "skipped", "saved")
    counts = {name: getattr(group, name) for name in names}
    return {"change": group.title, **counts, "p50_ms": _ms(group.seconds, 0.5), "p99_ms": _ms(group.seconds, 0.99)}


def _found_json(found: Found) -> dict[str, Any]:
    hits = [
        {
            "source_key": hit.source_key,
            "distance": round(hit.distance, 4),
            "kafka_topic": hit.kafka_topic,
            "kafka_partition": hit.kafka_partition,
            "kafka_offset": hit.kafka_offset,
            "source_committed_at": hit.source_committed_at.isoformat() if hit.source_committed_at else None,
            "embedded_at": hit.embedded_at.isoformat(),
            "model": found.model,
        }
        for hit in found.hits
    ]
    before = found.before.source_key if found.before else None
    return {"question": found.question, "shows": found.shows, "first_before": before, "hits": hits}


def percentile(values: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile; None of nothing."""
    if not values:
        return None
    return sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]


def _ms(seconds: Sequence[float], share: float) -> float | None:
    value = percentile(seconds, share)
    return None if value is None else round(value * 1000, 1)
