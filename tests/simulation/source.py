"""The source database, and so what is true: rows as a sequence of states. Nothing of the product is used here."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

POISON, HICCUP = "p", "h"  # words whose vectors the database refuses; that the model fails on at first


class Row(NamedTuple):
    """The columns in use; `price` is metadata, and a price of 0 keeps the row out."""

    title: str
    body: str
    price: str = "1"


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one row, or a truncate (key 0). `row` is what it is from then on, None where it is gone.

    `left_out`: the body did not change and is too large for the connector to be sent. `sequence` is the end of the
    transaction before it and its own place in the log.
    """

    number: int
    op: str
    key: int
    row: Row | None
    ts_us: int
    sequence: tuple[int, int]
    left_out: bool = False
    other_key: int | None = None


@dataclass(slots=True)
class Source:
    """Commits transactions. `changes` are in commit order, `states` maps a key to its states by change number."""

    toast: bool = False  # bodies are large: an update that does not touch one leaves it out
    rows: dict[int, Row] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    states: dict[int, list[tuple[int, Row | None]]] = field(default_factory=lambda: defaultdict(list))
    truncates: list[int] = field(default_factory=list)
    clock: int = 1_000_000
    _lsn: int = 100
    _committed_lsn: int = 99

    def insert(self, key: int, row: Row) -> None:
        """INSERT. Statements between two commits are one transaction."""
        self.rows[key] = row
        self._change("c", key, row)

    def update(self, key: int, row: Row) -> None:
        """UPDATE of columns other than the key."""
        before, self.rows[key] = self.rows[key], row
        self._change("u", key, row, left_out=self.toast and before.body == row.body)

    def move(self, old: int, new: int, row: Row) -> None:
        """UPDATE of the key, and perhaps of other columns."""
        before = self.rows.pop(old)
        self.rows[new] = row
        self._change("d", old, None, other_key=new)
        self._change("c", new, row, left_out=self.toast and before.body == row.body, other_key=old)

    def delete(self, key: int) -> None:
        """DELETE."""
        del self.rows[key]
        self._change("d", key, None)

    def truncate(self) -> None:
        """TRUNCATE: it waits for every transaction that has touched the table."""
        number = len(self.changes)
        for key in self.rows:
            self.states[key].append((number, None))
        self.rows.clear()
        self.truncates.append(number)
        self._change("t", 0, None)

    def commit(self, ticks: int = 1) -> None:
        """End the transaction; the next one commits so many microseconds later."""
        self._committed_lsn = self._lsn = self._lsn + 1
        self.clock += ticks

    def state(self, key: int, number: int) -> Row | None:
        """The row after the change of that number."""
        return next((row for at, row in reversed(self.states[key]) if at <= number), None)

    def last_change(self, key: int, before: int) -> Change:
        """The newest change of a row before that number."""
        return next(change for change in reversed(self.changes[:before]) if change.key == key)

    def _change(
        self, op: str, key: int, row: Row | None, *, left_out: bool = False, other_key: int | None = None
    ) -> None:
        if op != "c" or other_key is None:  # both halves of a key change are one place in the log
            self._lsn += 1
        number = len(self.changes)
        sequence = self._committed_lsn, self._lsn
        self.changes.append(Change(number, op, key, row, self.clock, sequence, left_out, other_key))
        if key:
            self.states[key].append((number, row))


class Users:
    """Random transactions on a few rows. `dense`: of several statements, several within a microsecond."""

    def __init__(
        self, random: Random, source: Source, *, keys: int, truncates: bool, moves: bool, words: str, dense: bool
    ) -> None:
        self._random, self._source, self._keys = random, source, range(1, keys + 1)
        self._truncates, self._moves, self._words, self._dense = truncates, moves, words, dense

    def transaction(self) -> None:
        """One to three statements."""
        source = self._source
        statements, truncated = self._random.choice((1, 1, 1, 2, 3) if self._dense else (1,)), len(source.truncates)
        for _ in range(statements):
            self._statement()
            if len(source.truncates) > truncated:
                break
        source.commit(self._random.choice((0, 1, 1, 2) if self._dense else (1, 2)) or len(source.truncates) - truncated)

    def _statement(self) -> None:
        random, source = self._random, self._source
        key = random.choice(self._keys)
        free = [other for other in self._keys if other not in source.rows]
        if self._truncates and random.random() < 0.06:
            source.truncate()
        elif key in free:
            source.insert(key, self._row())
        elif random.random() < 0.2:
            source.delete(key)
        elif self._moves and free and random.random() < 0.3:
            source.move(key, random.choice(free), self._edited(source.rows[key]))
        else:
            source.update(key, self._edited(source.rows[key]))

    def _edited(self, row: Row) -> Row:
        column = self._random.choice(("title", "title", "body", "price", "none"))
        return replace_column(row, column, self._row())

    def _row(self) -> Row:
        random = self._random
        texts = [" ".join(random.choices(self._words, k=random.randint(0, 4))) for _ in range(2)]
        return Row(texts[0], texts[1], random.choice("0112"))


def replace_column(row: Row, column: str, other: Row) -> Row:
    """`row` with one column of `other`."""
    return row if column == "none" else row._replace(**{column: getattr(other, column)})
