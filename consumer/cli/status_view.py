"""The one screen of `status`: the verdict first, then what it rests on; and the same as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from consumer.cli.output import table
from consumer.cli.views import position_json

if TYPE_CHECKING:
    from consumer.operations.status import Freshness, Status

COLOURS = {"fresh": "green", "stale": "red", "unknown": "yellow"}
NARROW = 130  # columns of a terminal below which a partition is shown by its lag and reason alone
_PLAIN = "default not bold"


def status_view(
    status: Status, eta_seconds: float | None = None, *, width: int = 200, height: int | None = None
) -> RenderableType:
    """What fits into `width` columns and, where `height` is given, into so many lines: the worst partitions first."""
    head: list[RenderableType] = [headline(status, eta_seconds)]
    if status.verdict != "fresh" and (worst := _worst(status)):
        head.append(Text(f"  {worst.topic}[{worst.partition}]: {worst.reason}"))
    head += [Text(f"! {problem}", style="yellow") for problem in status.problems]
    foot: list[RenderableType] = [Text(), _sources(status), Text(), Text(_search(status))]
    foot += [Text(f"heartbeat of {prefix}: {age:.1f} s ago") for prefix, age in sorted(status.heartbeats.items())]
    shown = len(status.positions)
    if height is not None:
        used = len(head) + len(foot) + len(status.sources) + 5 + sum(len(p) // width for p in status.problems)
        shown = max(height - used, 3)
    return Group(*head, Text(), _partitions(status, shown, width), *foot)


def headline(status: Status, eta_seconds: float | None = None) -> Text:
    """Fresh or not, against the objective, and when it will be."""
    lag = "" if status.lag_seconds is None else f", lag {status.lag_seconds:.1f} s"
    verdict = Text(f"{status.verdict.upper()}", style=f"bold {COLOURS[status.verdict]}")
    verdict.append(f"{lag}, objective {status.threshold_seconds:g} s", style=_PLAIN)
    if eta_seconds is not None:
        verdict.append(f", caught up in about {eta_seconds:.0f} s", style=_PLAIN)
    members = "unknown" if status.members is None else str(status.members)
    return verdict.append(f"; group {status.group}, live members: {members}", style=_PLAIN)


def status_json(status: Status, eta_seconds: float | None = None) -> dict[str, Any]:
    """All of it."""
    fresh = {(part.topic, part.partition): part for part in status.freshness}
    partitions: list[dict[str, Any]] = []
    for at in status.positions:
        part = fresh.get((at.topic, at.partition))
        age = {"lag_seconds": part.seconds if part else None, "reason": part.reason if part else None}
        partitions.append({**position_json(at), **age})
    return {
        "taken_us": status.taken_us,
        "verdict": status.verdict,
        "lag_seconds": status.lag_seconds,
        "threshold_seconds": status.threshold_seconds,
        "eta_seconds": eta_seconds,
        "group": status.group,
        "members": status.members,
        "partitions": partitions,
        "stored": [{"topic": r.topic, "partition": r.partition, "stored": r.next_offset} for r in status.stored],
        "sources": status.sources,
        "heartbeats": status.heartbeats,
        "index": status.index,
        "model": status.generation.model if status.generation else None,
        "problems": status.problems,
    }


def _worst(status: Status) -> Freshness | None:
    """The partition that the verdict is about: the oldest where it is stale, else one that nobody can tell of."""
    rank = -1.0 if status.verdict == "stale" else float("inf")
    parts = status.freshness
    return max(parts, key=lambda part: rank if part.seconds is None else part.seconds) if parts else None


def _partitions(status: Status, shown: int, width: int) -> RenderableType:
    columns: tuple[str, ...] = ("topic", "partition", "stored", "committed", "end", "lag", "freshness")
    if not status.positions:  # the broker does not answer: what the store knows
        return table(columns, [(r.topic, r.partition, r.next_offset, None, None, None, None) for r in status.stored])
    parts = {(part.topic, part.partition): part for part in status.freshness}
    positions = status.positions
    if shown < len(positions):
        unknown = float("inf")
        age = {place: unknown if part.seconds is None else part.seconds for place, part in parts.items()}
        positions = sorted(positions, key=lambda at: (-age.get((at.topic, at.partition), unknown), -at.lag))[:shown]
    rows: list[tuple[object, ...]]
    reasons = {place: part.reason for place, part in parts.items()}
    if width < NARROW:
        columns = ("partition", "lag", "freshness")
        rows = [(f"{at.topic}[{at.partition}]", at.lag, reasons.get((at.topic, at.partition))) for at in positions]
    else:
        rows = [
            (at.topic, at.partition, at.stored, at.committed, at.end, at.lag, reasons.get((at.topic, at.partition)))
            for at in positions
        ]
    left = len(status.positions) - len(positions)
    rest = [Text(f"and {left} more, none worse", style="dim")] if left else []
    return Group(table(columns, rows), *rest)


def _sources(status: Status) -> RenderableType:
    columns = ("source", "embedded", "failed", "deleted", "retrying", "dead", "stale")
    rows = [(s.source, s.embedded, s.failed, s.deleted, s.retrying, s.dead, s.stale) for s in status.sources]
    return table(columns, rows)


def _search(status: Status) -> str:
    if status.index is None or status.generation is None:
        return "search    unknown"
    if status.index.state == "ready":
        how = "through the vector index"
    elif status.index.state == "building":
        done = f" ({status.index.phase}: {status.index.done} of {status.index.total})" if status.index.phase else ""
        how = f"exact while the vector index is built{done}"
    else:
        how = "exact: no vector index yet"
    return f"search    {how}; model {status.generation.model}"
