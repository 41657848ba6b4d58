"""The live part: an application edits, deletes and renumbers rows, and every effect is waited for and measured."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

from consumer.local.demo.eyes import Eyes
from consumer.local.demo.figures import Group, Report
from consumer.local.demo.shop import Row, Shop

MOVED_BY = 1_000_000
EDITED_TO = "Puts a returned library book back on its shelf, between its neighbours in alphabetical order."

_EVERY = 0.08  # seconds between two changes: as an application would, not as a benchmark would
_COUNTED_EVERY = 5
_SHARES = {"text": 60, "paragraph": 12, "metadata": 40, "views": 60, "delete": 20}
_FULL = 1000  # rows from which on there are that many changes


@dataclass(frozen=True)
class Cast:
    """The three rows that the searches are about."""

    edited: Row
    deleted: Row
    moved: Row

    def ids(self) -> set[int]:
        """Rows that no other change may touch."""
        return {self.edited.id, self.deleted.id, self.moved.id}


class Changes:
    """Runs the groups of changes in turn. `watch` is called whenever there is something new to show."""

    def __init__(self, shop: Shop, eyes: Eyes, report: Report, cast: Cast, watch: Callable[[], None]) -> None:
        self._shop, self._eyes, self._cast, self._watch = shop, eyes, cast, watch
        self._checks, self._groups = report.checks, report.groups
        self._documents = eyes.documents()
        self._pieces: dict[int, int] = {}
        for chunk in eyes.chunks():
            self._pieces[chunk.id] = self._pieces.get(chunk.id, 0) + 1
        rows = [row for row in shop.rows() if row.id not in cast.ids()]
        random.Random(1).shuffle(rows)  # noqa: S311 (the same rows in every run)
        share = min(len(rows) / _FULL, 1.0)
        self._sizes = {name: max(int(size * share), 3) for name, size in _SHARES.items()}
        self._short = iter([row for row in rows if self._pieces[row.id] == 1])
        self._long = iter(sorted((row for row in rows if self._pieces[row.id] > 1), key=lambda r: -self._pieces[r.id]))

    def run(self) -> None:
        """All of it. Raises Stop as soon as something does not hold."""
        self._edit_texts()
        self._edit_paragraphs()
        self._edit_metadata()
        self._edit_views()
        self._delete()
        self._move()

    def _edit_texts(self) -> None:
        rows = [self._cast.edited, *self._take(self._short, "text")]
        group = self._begin("text of a row", len(rows), new_text=True)
        for number, row in enumerate(rows):
            words = EDITED_TO if number == 0 else f"Edited live, change {number}."
            text = words if number == 0 else f"{words}\n\n{row.text}"
            sent = self._shop.change("UPDATE docs SET text = %(t)s WHERE id = %(i)s", {"t": text, "i": row.id})
            self._await(group, sent, partial(self._eyes.shows, self._number(row), words))
        self._count(group, len(rows))
        self._checks.require(
            "every edited text is embedded again",
            group.embedded >= len(rows) and group.skipped == 0,
            f"{group.embedded} chunks embedded for {len(rows)} edits",
        )

    def _edit_paragraphs(self) -> None:
        rows = self._take(self._long, "paragraph")
        group = self._begin("one paragraph of many", len(rows), new_text=True)
        chunks = sum(self._pieces[row.id] for row in rows)
        for number, row in enumerate(rows):
            words = f"Added live, paragraph {number}."
            statement = "UPDATE docs SET text = text || %(t)s WHERE id = %(i)s"
            sent = self._shop.change(statement, {"t": f"\n\n{words}", "i": row.id})
            self._await(group, sent, partial(self._eyes.shows, self._number(row), words))
        self._count(group, len(rows))
        group.saved = group.reused
        self._checks.require(
            "of a long text, only changed chunks are embedded",
            group.embedded <= 2 * len(rows) and group.reused >= chunks - len(rows),
            f"{group.embedded} chunks embedded, {group.reused} of {chunks} reused for {len(rows)} edits",
        )

    def _edit_metadata(self) -> None:
        rows = self._take(self._short, "metadata")
        group = self._begin("metadata column", len(rows))
        vectors = {row.id: self._eyes.embeddings(self._number(row)) for row in rows}
        for row in rows:
            sent = self._shop.change("UPDATE docs SET reviewed = true WHERE id = %(i)s", {"i": row.id})
            self._await(group, sent, partial(self._eyes.reviewed, self._number(row)))
        self._count(group, len(rows))
        group.saved = sum(self._pieces[row.id] for row in rows)
        same = sum(self._eyes.embeddings(self._number(row)) == vectors[row.id] for row in rows)
        self._checks.require(
            "new metadata is stored without embedding",
            group.embedded == 0 and same == len(rows),
            f"{group.embedded} chunks embedded, {same} of {len(rows)} rows kept their vectors",
        )

    def _edit_views(self) -> None:
        rows = self._take(self._short, "views")
        group = self._begin("column the index ignores", len(rows))
        versions = self._eyes.documents()
        for row in rows:
            self._shop.change("UPDATE docs SET views = views + 1 WHERE id = %(i)s", {"i": row.id})
            self._pause(group)
        self._count(group, len(rows))
        group.saved = sum(self._pieces[row.id] for row in rows)
        after = self._eyes.documents()
        written = sum(after[row.id] != versions[row.id] for row in rows)
        self._checks.require(
            "columns that the index ignores cause no write",
            group.embedded == 0 and group.skipped == len(rows) and written == 0,
            f"{group.skipped} of {len(rows)} skipped, {group.embedded} chunks embedded, {written} documents written",
        )

    def _delete(self) -> None:
        rows = [self._cast.deleted, *self._take(self._short, "delete")]
        group = self._begin("row deleted", len(rows))
        for row in rows:
            sent = self._shop.change("DELETE FROM docs WHERE id = %(i)s", {"i": row.id})
            self._await(group, sent, partial(self._eyes.gone, self._number(row)))
        self._count(group, len(rows))
        left = self._eyes.keys(*(row.id for row in rows))
        self._checks.require(
            "deleted rows are gone from the index", not left and group.embedded == 0, f"{len(left)} of {len(rows)} left"
        )

    def _move(self) -> None:
        old = self._cast.moved.id
        new = old + MOVED_BY
        group = self._begin("primary key changed", 1)
        sent = self._shop.change("UPDATE docs SET id = %(n)s WHERE id = %(i)s", {"n": new, "i": old})
        self._await(group, sent, lambda: self._eyes.keys(old, new) == {new})
        self._count(group, 2)
        states = (self._eyes.state(old), self._eyes.state(new))
        self._checks.require(
            "a moved row is found under its new key only",
            states == ("deleted", "embedded"),
            f"old key {states[0]}, new key {states[1]}",
        )

    def _number(self, row: Row) -> int:
        return self._documents[row.id][0]

    def _take(self, rows: Iterator[Row], name: str) -> Sequence[Row]:
        return list(islice(rows, self._sizes[name]))

    def _begin(self, title: str, total: int, *, new_text: bool = False) -> Group:
        self._before = self._eyes.counts()
        self._groups.append(group := Group(title, total, new_text))
        self._watch()
        return group

    def _await(self, group: Group, sent: float, visible: Callable[[], bool]) -> None:
        group.seconds.append(self._eyes.until(visible, f"{group.title}: its effect is in the store") - sent)
        self._pause(group)

    def _pause(self, group: Group) -> None:
        group.done += 1
        if group.done % _COUNTED_EVERY == 0:
            self._read(group)
        self._watch()
        time.sleep(_EVERY)

    def _count(self, group: Group, events: int) -> None:
        """The consumer counts after its commit: read its counters until they tell of all `events`."""
        self._eyes.until(lambda: self._read(group) >= events, f"{group.title}: {events} events are counted")
        self._watch()

    def _read(self, group: Group) -> int:
        now, before = self._eyes.counts(), self._before
        seen = now.events - before.events
        group.events, group.skipped = seen.total(), seen["unchanged"]
        group.embedded, group.reused = now.embedded - before.embedded, now.reused - before.reused
        return group.events
