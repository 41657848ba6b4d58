"""The one screen of `status`: the verdict first, then what it rests on; and the same as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from consumer.cli.output import table
from consumer.cli.views import position_json
from consumer.operations.status import spoken

if TYPE_CHECKING:
    from consumer.operations.status import Freshness, Status

COLOURS = {"fresh": "green", "stale": "red", "unknown": "yellow"}
NARROW = 130  # columns of a terminal below which a partition is shown by its lag and reason alone
_PLAIN = "default not bold"


def status_view(
    status: Status, eta_seconds: float | None = None, *, width: int = 200, height: int | None = None
) -> RenderableType:
    """What fits into `width` columns and, where `height` is given, into so many lines: the worst partitions first."""
    head: list[RenderableType] = [_verdict(status, eta_seconds)]
    if status.verdict != "fresh" and (worst := _worst(status)):
        head.append(Text(f"  {worst.topic}[{worst.partition}]: {worst.reason}"))
    head.append(Text(_group(status)))
    warnings = [*status.problems, *_failed(status)]
    head += [Text(f"! {warning}", style="yellow") for warning in warnings]
    foot: list[RenderableType] = [Text(), _sources(status, width), Text(), *map(Text, _search(status))]
    foot += [Text(f"heartbeat {spoken(age)} ago, of {prefix}") for prefix, age in sorted(status.heartbeats.items())]
    shown = len(status.positions)
    if height is not None:
        used = len(head) + len(foot) + len(status.sources) + 5 + sum(len(each) // width for each in warnings)
        shown = max(height - used, 3)
    return Group(*head, *_partitions(status, shown, width), *foot)


def headline(status: Status, eta_seconds: float | None = None) -> Text:
    """All of the verdict in a line: what `--watch` writes where there is no terminal."""
    return _verdict(status, eta_seconds).append(f"; {_group(status)}", style=_PLAIN)


def _verdict(status: Status, eta_seconds: float | None) -> Text:
    """Fresh or not, against the objective, and when it will be."""
    lag = "" if status.lag_seconds is None else f", lag {spoken(status.lag_seconds)}"
    verdict = Text(f"{status.verdict.upper()}", style=f"bold {COLOURS[status.verdict]}")
    verdict.append(f"{lag}, objective {status.threshold_seconds:g} s", style=_PLAIN)
    if eta_seconds is not None:
        verdict.append(f", caught up in about {spoken(eta_seconds)}", style=_PLAIN)
    return verdict


def _group(status: Status) -> str:
    return f"group {status.group}, live members: {'unknown' if status.members is None else status.members}"


def _failed(status: Status) -> list[str]:
    """What no lag tells: documents whose last change could not be applied."""
    failed = sum(source.retrying + source.dead for source in status.sources)
    return [f"{failed} could not be applied: `embed-consumer failed list` has the reasons."] if failed else []


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
        "clocks_behind": status.clocks_behind,
        "index": status.index,
        "model": status.generation.model if status.generation else None,
        "problems": status.problems,
    }


def _worst(status: Status) -> Freshness | None:
    """The partition that the verdict is about, if one is: the oldest where it is stale, else one not to be told of."""
    rank = -1.0 if status.verdict == "stale" else float("inf")
    parts = [part for part in status.freshness if part.seconds != 0]
    return max(parts, key=lambda part: rank if part.seconds is None else part.seconds) if parts else None


def _partitions(status: Status, shown: int, width: int) -> list[RenderableType]:
    columns: tuple[str, ...] = ("topic", "partition", "stored", "committed", "end", "lag", "freshness")
    if not status.positions:  # the broker does not answer: what the store knows
        rows = [(r.topic, r.partition, r.next_offset, None, None, None, None) for r in status.stored]
        return [Text(), table(columns, rows)] if rows else []
    parts = {(part.topic, part.partition): part for part in status.freshness}
    positions = status.positions
    if shown < len(positions):
        unknown = float("inf")
        age = {place: unknown if part.seconds is None else part.seconds for place, part in parts.items()}
        positions = sorted(positions, key=lambda at: (-age.get((at.topic, at.partition), unknown), -at.lag))[:shown]
    reasons = {place: part.reason for place, part in parts.items()}
    cells: list[tuple[object, ...]] = [
        (at.topic, at.partition, at.stored, at.committed, at.end, at.lag, reasons.get((at.topic, at.partition)))
        for at in positions
    ]
    if width < NARROW:
        columns = ("partition", "lag", "freshness")
        cells = [(f"{topic}[{number}]", *rest[3:]) for topic, number, *rest in cells]
    left = len(status.positions) - len(positions)
    rest = [Text(f"and {left} more, none worse", style="dim")] if left else []
    return [Text(), table(columns, cells), *rest]


def _sources(status: Status, width: int) -> RenderableType:
    columns: tuple[str, ...] = ("source", "embedded", "failed", "deleted", "retrying", "dead", "stale")
    rows = [(s.source, s.embedded, s.failed, s.deleted, s.retrying, s.dead, s.stale) for s in status.sources]
    if width < NARROW:  # those that are retried are what has failed and is not dead
        columns = (*columns[:4], *columns[5:])
        return table(columns, [(*row[:4], *row[5:]) for row in rows])
    return table(columns, rows)


def _search(status: Status) -> list[str]:
    if status.index is None or status.generation is None:
        return ["search    unknown"]
    if status.index.state == "ready":
        how = "through the vector index"
        if (segments := status.index.segments) is not None:
            how = f"through the vector indexes of {segments} segments, exact in the newest rows"
    elif status.index.state == "building":
        phase, share = status.index.phase or "", (status.index.done or 0) / (status.index.total or 1)
        how = "exact while the vector index is built"
        how += f": {phase.removeprefix('building index: ')}, {share:.0%}" if phase else ""
    else:
        how = "exact: no vector index yet"
    return [f"search    {how}", f"model     {status.generation.model}"]
