"""The three searches of the story: an edit found, a deleted row gone, a moved row under its new key."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from consumer.embedding import Engine
from consumer.errors import Exit, Stop
from consumer.local.demo.changes import MOVED_BY, Cast
from consumer.local.demo.figures import Checks, Found
from consumer.local.demo.shop import Row
from consumer.search import search
from consumer.store import SearchHit, Store

# Rows of which the story can be told, with a question that their text answers; which one is tried before it is told.
_CASES = (
    ("calendar.isleap", "is it a leap year?"),
    ("textwrap.dedent", "strip the indentation that all lines share"),
    ("shutil.which", "where on the PATH is the program behind a command?"),
    ("fnmatch.filter", "keep only the names that match a shell pattern"),
    ("statistics.median", "the middle value of some data"),
    ("html.unescape", "turn named character references back into characters"),
)
_BEST_EDITED = "bisect.insort_right"
NAMES = (_BEST_EDITED, *(name for name, _ in _CASES))
_EDITED = "where does a returned library book belong?"
_HITS = 3


class Asker:
    """What `embed-consumer search` does, with the model kept loaded."""

    def __init__(self, engine: Engine, store: Store) -> None:
        self._engine, self._store = engine, store
        generation = store.generation()
        if generation is None:
            raise Stop("There are no vectors.", "The schema is not migrated.", "", exit_code=Exit.FAILED)
        self._generation = generation

    @property
    def model(self) -> str:
        """The model that made the vectors."""
        return self._generation.model

    def ask(self, question: str, k: int = _HITS) -> list[SearchHit]:
        """The nearest chunks."""
        return search(self._engine, self._store, self._generation, question, k=k)


@dataclass(frozen=True)
class Story:
    """The cast, and the question and best hit of the rows that will go and move."""

    cast: Cast
    going: tuple[str, SearchHit]
    moving: tuple[str, SearchHit]


def choose(rows: Sequence[Row], asker: Asker) -> Story:
    """Rows that their question finds first now, so that it means something when it no longer does, or still does."""
    told: list[tuple[Row, str, SearchHit]] = []
    by_name, short = {row.name: row for row in rows}, [row for row in rows if row.kind == "function"]
    questions = [*_CASES, *((row.name, row.text[:200]) for row in short)]
    for name, question in questions:
        if len(told) == 2:
            break
        if (row := by_name.get(name)) and row not in (known for known, _, _ in told):
            hit = next(iter(asker.ask(question, 1)), None)
            if hit is not None and hit.source_key == {"id": row.id}:
                told.append((row, question, hit))
    free = [row for row in short if row not in (known for known, _, _ in told)]
    edited = max(free, key=lambda row: row.name == _BEST_EDITED, default=None)
    if len(told) < 2 or edited is None:
        raise Stop("No row is found by its own text.", "", "Run the demo with more rows.", exit_code=Exit.FAILED)
    (going, *_), (moving, *_) = told
    return Story(Cast(edited, going, moving), told[0][1:], told[1][1:])


def tell(story: Story, asker: Asker, checks: Checks) -> list[Found]:
    """Asks the three questions after the changes, and holds the answers against what was changed."""
    cast = story.cast
    edit = Found(_EDITED, "the live edit is found", asker.model, asker.ask(_EDITED))
    best = edit.hits[0].source_key if edit.hits else None
    checks.require("search finds the live edit first", best == {"id": cast.edited.id}, f"first hit {json.dumps(best)}")

    question, before = story.going
    gone = Found(question, "the deleted row is gone", asker.model, asker.ask(question), before)
    everything = [hit.source_key for hit in asker.ask(question, 1000)]
    rank = everything.index(before.source_key) + 1 if before.source_key in everything else None
    checks.require(
        "search does not find the deleted row any more",
        bool(gone.hits) and rank is None,
        f"was first, now {'not' if rank is None else f'number {rank}'} among {len(everything)} hits",
    )

    question, before = story.moving
    moved = Found(question, "the moved row has its new key", asker.model, asker.ask(question), before)
    best = moved.hits[0].source_key if moved.hits else None
    wanted = {"id": cast.moved.id + MOVED_BY}
    checks.require("search finds the moved row under its new key", best == wanted, f"first hit {json.dumps(best)}")
    return [edit, gone, moved]
