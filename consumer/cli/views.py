"""What the jobs' results look like: rows of tables and JSON objects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.text import Text

from consumer.cli.output import remark, stdout, table
from consumer.operations.failed import key_of
from consumer.search import score

if TYPE_CHECKING:
    from consumer.operations.offsets import Position, Reset
    from consumer.operations.replay import ReplayPlan, Summary
    from consumer.store import FailedDocument, Generation, Reason, SearchHit

SNIPPET = 240  # characters of a chunk that a hit shows
APPLIED = ("embedded", "deleted")
_CONTROLS = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), *range(127, 160)) if chr(code) != "\n"}
EARLY_END = (
    "It ends before the group's position. Documents that are not stored, or stored under other table settings, are "
    "left alone: their last state may lie beyond its end. Without --to-offset they are written too."
)


def show_replay_plan(plan: ReplayPlan) -> None:
    """Per partition what will be read, and under which name its progress is kept."""
    columns = ("partition", "from", "to", "next", "events about", "group at")
    rows = [(f"{p.topic}[{p.partition}]", p.start, p.end, p.position, p.events, p.group_offset) for p in plan.parts]
    stdout().print(table(columns, rows))
    state = "resumes where an earlier run ended" if plan.resumes else "begins anew"
    stdout().print(Text(f"progress  {plan.name} ({state})\nforce     {'yes' if plan.force else 'no'}"))
    if any(part.cut_short and part.events for part in plan.parts):
        remark(EARLY_END)


def show_replay_result(plan: ReplayPlan, summary: Summary | None) -> None:
    """What it did, or how to make it act."""
    if summary is None:
        nothing = "Nothing to do: the range holds no event that the group has applied."
        remark("Nothing was changed. Add --execute to run it." if plan.events else nothing)
        return
    counts = replay_counts(summary)
    stdout().print(Text(", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items())))
    remark(
        "Replay done. The same command runs it anew."
        if summary.finished
        else "Interrupted. Everything applied is kept; the same command goes on from there."
    )


def replay_counts(summary: Summary) -> dict[str, int]:
    """Events by what became of them."""
    return {
        "applied": sum(summary.outcomes[outcome] for outcome in APPLIED),
        "unchanged": summary.outcomes["unchanged"],
        "stale": summary.outcomes["stale"],
        "failed": summary.outcomes["rejected"],
        "ignored": summary.outcomes["ignored"],
        "left_alone": summary.left_alone,
    }


def replay_json(plan: ReplayPlan, summary: Summary | None) -> dict[str, Any]:
    """Plan and result; the result is null where nothing was executed."""
    parts = [
        {
            "topic": part.topic,
            "partition": part.partition,
            "from": part.start,
            "to": part.end,
            "next": part.position,
            "events": part.events,
            "group_offset": part.group_offset,
        }
        for part in plan.parts
    ]
    planned = {"name": plan.name, "force": plan.force, "resumes": plan.resumes, "events": plan.events, "parts": parts}
    result = {"finished": summary.finished, **replay_counts(summary)} if summary else None
    return {"plan": planned, "result": result}


def position_json(at: Position) -> dict[str, Any]:
    """One partition."""
    return {
        "topic": at.topic,
        "partition": at.partition,
        "topic_id": at.topic_id,
        "stored": at.stored,
        "committed": at.committed,
        "first": at.first,
        "end": at.end,
        "lag": at.lag,
        "recreated": at.recreated,
    }


def positions_table(found: Sequence[Position]) -> RenderableType:
    """Stored, committed and end offsets of every partition, and what is odd about it."""
    odd = "made anew: see offsets reset"
    rows = [(_place(at), at.stored, at.committed, at.end, at.lag, odd if at.recreated else "") for at in found]
    return table(("partition", "stored", "committed", "end", "lag", ""), rows)


def moves_table(moves: Sequence[Reset]) -> RenderableType:
    """From where to where, and what that means."""
    columns = ("partition", "from", "to", "what it means")
    return table(columns, [(_place(m.position), m.position.stored, m.to, m.consequence) for m in moves])


def move_json(move: Reset) -> dict[str, Any]:
    """One move."""
    return {**position_json(move.position), "to": move.to, "consequence": move.consequence}


def reasons_table(grouped: Sequence[Reason]) -> RenderableType:
    """How many documents share a reason."""
    return table(("source", "stage", "error type", "state", "documents"), grouped)


def show_failed(row: FailedDocument) -> None:
    """One failed document: key, coordinates, attempts, why. Never its content."""
    key = json.dumps(key_of(row), ensure_ascii=False) if row.source_key else "key unknown"
    due = f"next at {_moment(row.next_attempt_at)}" if row.next_attempt_at else "dead"
    lines = (
        f"{row.failure_id}  {row.source} {key}  from {row.topic}[{row.partition}]@{row.offset}",
        f"   {row.stage}/{row.error_type}: {row.error}",
        f"   attempts {row.attempts}, first failed {_moment(row.first_failed_at)}, {due}",
    )
    stdout().print(_harmless("\n".join(lines)), soft_wrap=True)


def _harmless(text: str) -> Text:
    """Without the control characters that a row may hold: a terminal would obey them."""
    return Text(text.translate(_CONTROLS))


def _place(at: Position) -> str:
    return f"{at.topic}[{at.partition}]"


def failed_json(row: FailedDocument) -> dict[str, Any]:
    """One failed document."""
    return {
        "id": row.failure_id,
        "source": row.source,
        "source_key": key_of(row),
        "topic": row.topic,
        "partition": row.partition,
        "offset": row.offset,
        "stage": row.stage,
        "error_type": row.error_type,
        "error": row.error,
        "attempts": row.attempts,
        "first_failed_at": row.first_failed_at,
        "next_attempt_at": row.next_attempt_at,
        "state": row.state,
    }


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"


def show_hit(rank: int, hit: SearchHit, generation: Generation) -> None:
    """One hit: where it is, the beginning of its text, and where it came from."""
    content = " ".join(hit.content.split())
    committed = _moment(hit.source_committed_at) if hit.source_committed_at else "unknown"
    key = json.dumps(hit.source_key, ensure_ascii=False)
    lines = [
        f"{rank}  score {score(generation, hit.distance):.4f}  {hit.source} {key}  chunk {hit.chunk_no}",
        f"   {content[:SNIPPET]}{'…' if len(content) > SNIPPET else ''}",
        f"   {json.dumps(hit.metadata, ensure_ascii=False)}" if hit.metadata else "",
        f"   from {hit.kafka_topic}[{hit.kafka_partition}]@{hit.kafka_offset}, committed {committed}, embedded "
        f"{_moment(hit.embedded_at)} by {generation.model}",
    ]
    stdout().print(_harmless("\n".join(line for line in lines if line)), soft_wrap=True)


def hit_json(rank: int, hit: SearchHit, generation: Generation) -> dict[str, Any]:
    """One hit with its whole chunk."""
    return {
        "rank": rank,
        "score": score(generation, hit.distance),
        "distance": hit.distance,
        "source": hit.source,
        "source_key": hit.source_key,
        "chunk_no": hit.chunk_no,
        "content": hit.content,
        "metadata": hit.metadata,
        "content_hash": hit.content_hash.hex(),
        "kafka_topic": hit.kafka_topic,
        "kafka_partition": hit.kafka_partition,
        "kafka_offset": hit.kafka_offset,
        "source_committed_at": hit.source_committed_at,
        "embedded_at": hit.embedded_at,
        "model": generation.model,
    }
