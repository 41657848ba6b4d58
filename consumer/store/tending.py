"""What a chunk table in segments needs from time to time: sealing, vector indexes, merging. One process does it.

Every step leaves the table whole, and what is to be done is read anew before each: a process that is killed at any
moment leaves nothing that its successor would not finish or remove.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import Connection, IsolationLevel

from consumer.store import generations, index, merging, segments
from consumer.store.faults import Phase, translated
from consumer.store.model import Generation
from consumer.store.segments import Segment
from consumer.store.session import connect, target

SMALLEST = 1000  # rows: to read fewer is as quick as to ask an index
QUIET_SECONDS = 5.0  # without a new row, and it is worth while to leave few segments
CROWDED = 8  # segments: where rows come so fast that each look finds a full one, those before must become fewer first
REFUSED_SECONDS = 60.0  # a merge whose last step did not get its locks comes again after this


class Tender:
    """Tends the table of one generation. Remembers between calls only whether rows still come."""

    def __init__(self, dsn: str, schema: str, generation: Generation, *, quiet_seconds: float = QUIET_SECONDS) -> None:
        """`dsn` is the migrator's, or the writer's where it may SET ROLE to the owner."""
        self._target, self._schema, self._generation = target(dsn, schema), schema, generation
        self._limit, self._quiet_seconds = generation.segment_rows or 0, quiet_seconds
        self._seen: tuple[int | None, int] = (None, 0)  # the hot segment and its rows
        self._since = time.monotonic()
        self._merge_after = 0.0

    def tend(self, tell: Callable[[str], None] = lambda what: None) -> None:
        """Do what there is to do, and `tell` each thing done; nothing where another process is at it."""
        with translated(self._target.where, Phase.MIGRATE), connect(self._target, 0) as connection:
            connection.isolation_level = IsolationLevel.READ_COMMITTED
            if not index.lock(connection, self._schema, self._generation):
                return
            index.become_owner(connection, self._generation, itself=True)
            connection.execute("SET enable_hashjoin = on")  # here whole segments are compared
            while (done := self._step(connection)) is not None:
                tell(done)

    def _step(self, connection: Connection[Any]) -> str | None:
        """The one thing that comes first; None: nothing is to be done now."""
        generation = generations.from_row(generations.select(connection, self._generation.number).fetchone())
        if generation is None or generation.hot_segment is None:
            return None
        found = segments.read(connection, generation)
        if (half := _half_made(found)) is not None:
            segments.drop(connection, generation, [half.number])
            return f"removed segment {half.number}, which was half made"
        if (waiting := _waiting(found, generation.hot_segment)) is not None:
            return _index(connection, generation, waiting)
        quiet, rows = self._look(connection, generation)
        if len(found) > CROWDED and (merged := self._merge(connection, generation, found, quiet)):
            return merged
        if rows >= self._limit or (quiet and rows >= min(SMALLEST, self._limit)):
            self._seen = segments.seal(connection, generation, found), 0  # as quiet as before
            return f"sealed segment {generation.hot_segment}"
        return self._merge(connection, generation, found, quiet)

    def _look(self, connection: Connection[Any], generation: Generation) -> tuple[bool, int]:
        """Whether the hot segment has had no new row for a while, and its rows, counted no further than needed."""
        rows = segments.count(connection, generation, generation.hot_segment or 0, self._limit)
        if (generation.hot_segment, rows) != self._seen:
            self._seen, self._since = (generation.hot_segment, rows), time.monotonic()
        return time.monotonic() - self._since >= self._quiet_seconds, rows

    def _merge(
        self, connection: Connection[Any], generation: Generation, found: list[Segment], quiet: bool
    ) -> str | None:
        if time.monotonic() < self._merge_after:
            return None
        made = next((segment for segment in found if not segment.attached), None)
        if made is not None:  # by this process a while ago, or by one that was killed before the last step
            number, sources = made.number, made.merges
        else:
            sealed = [segment for segment in found if segment.indexed]
            sources = tuple(segment.number for segment in merging.chosen(sealed, self._limit, quiet=quiet))
            if not sources:
                return None
            number = found[-1].number + 1
            merging.copy(connection, generation, number, sources)
            index.create(connection, generation, segments.table_name(generation, number), concurrently=False)
            segments.note_built(connection, generation, number)
        try:
            merging.replace(connection, self._schema, generation, number, sources)
        except psycopg.errors.LockNotAvailable:
            self._merge_after = time.monotonic() + REFUSED_SECONDS
            return None
        return f"merged segments {', '.join(map(str, sources))} into {number}"


def _half_made(found: list[Segment]) -> Segment | None:
    """A copy whose index was not finished, or of segments that are not all there."""
    attached = {segment.number for segment in found if segment.attached}
    for segment in found:
        if not segment.attached and (segment.rows is None or not attached.issuperset(segment.merges)):
            return segment
    return None


def _waiting(found: list[Segment], hot: int) -> Segment | None:
    """The oldest sealed segment whose vector index is not there, or not noted. One newer than the hot one is spare."""
    return next((s for s in found if s.attached and s.number < hot and (not s.indexed or s.rows is None)), None)


def _index(connection: Connection[Any], generation: Generation, waiting: Segment) -> str:
    if not waiting.indexed:
        index.create(connection, generation, segments.table_name(generation, waiting.number))
    segments.note_built(connection, generation, waiting.number)
    return f"built the vector index of segment {waiting.number}"
