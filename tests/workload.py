"""A seeded random life of two source tables: everything that can happen to a row, in transactions of many sizes."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from threading import Event
from typing import Any

import psycopg
from psycopg import sql

from tests.world import World

_PLAIN = """
    amber basin cedar delta ember fjord grove harbour island juniper kettle lantern meadow nimbus orchard pebble quarry
    ridge saffron timber umbra valley willow xenon yonder zephyr the of and with under beyond between unlike it's 3.50
    antidisestablishmentarianism counter-clockwise 1,000 C++ e-mail user@example.org
"""
_WORDS = _PLAIN.split()
_ODD = (
    *("Größe", "naïve", "e\u0301te\u0301", "漢字かな", "한국어", "Ελληνικά", "русский", "עברית", "𝔘𝔫𝔦", "👩\u200d🚀"),
    *("ﬁnal", "a\u200bb", "tab\there", "\x07", "\u2028", "[SEP]", "{{ title }}", "{%", "NULL", "\\u0000"),
    *('"quoted"', "it''s", "$1", "%s", "__debezium_unavailable_value"),
)
_CATEGORIES = ("home", "garden", "tools", "Bücher", None)
Operation = Callable[["Workload", str], None]


class Workload:
    """`run` plays `transactions` transactions on the tables of a world; the same seed plays the same ones.

    `counts` says how often each kind of operation was played. Only this object changes the tables.
    """

    def __init__(
        self, world: World, seed: int, suffixes: tuple[str, ...] = ("a", "b"), *, largest: int = 1_000_000
    ) -> None:
        """`largest`: rows of a table from which on one goes for each that comes."""
        self._world, self._random, self._suffixes, self._largest = world, random.Random(seed), suffixes, largest
        self._rows: dict[str, dict[int, dict[str, Any]]] = {suffix: {} for suffix in suffixes}
        self._gone: dict[str, list[int]] = {suffix: [] for suffix in suffixes}
        self._next_id = 1
        self._connection: psycopg.Connection[Any] | None = None
        self.counts: Counter[str] = Counter()

    @property
    def played(self) -> int:
        """Operations so far, each of them a change of one row."""
        return sum(self.counts.values())

    def run(self, transactions: int, *, pause: float = 0.0, stopping: Event | None = None) -> None:
        """Play; `pause` seconds between two transactions, as a source has them; ends early once `stopping`."""
        stopping = stopping or Event()
        with psycopg.connect(self._world.endpoints.source_owner_dsn) as self._connection:
            for _ in range(transactions):
                self._transaction()
                if stopping.wait(pause):
                    return

    def fill(self, rows: int) -> None:
        """Insert `rows` rows into each table, in one transaction."""
        with psycopg.connect(self._world.endpoints.source_owner_dsn) as self._connection:
            for suffix in self._suffixes:
                for _ in range(rows):
                    self._insert(suffix)

    def _transaction(self) -> None:
        assert self._connection is not None
        for _ in range(self._random.choice((1, 1, 1, 2, 3, 5, 25))):
            self._step()
        self._connection.commit()

    def _step(self) -> None:
        suffix = self._random.choice(self._suffixes)
        names = [operation for operation, _ in _OPERATIONS]
        weights = [weight for _, weight in _OPERATIONS]
        operation = self._random.choices(names, weights)[0]
        if len(self._rows[suffix]) < 5:
            operation = Workload._insert
        elif len(self._rows[suffix]) > self._largest:
            operation = Workload._delete
        operation(self, suffix)

    # --- operations: each changes one row

    def _insert(self, suffix: str) -> None:
        self._put(suffix, self._new_id(), "insert")

    def _insert_again(self, suffix: str) -> None:
        if not self._gone[suffix]:
            return self._insert(suffix)
        return self._put(suffix, self._revived(suffix), "insert_again")

    def _edit_text(self, suffix: str) -> None:
        column, words = self._random.choice((("title", 12), ("body", 200)))
        self._set(suffix, "edit_text", None, {column: self._text(words)})

    def _edit_end(self, suffix: str) -> None:
        """Change the last words of a long text: its first chunks stay."""
        long = [number for number, row in self._rows[suffix].items() if len(row["body"] or "") > 900]
        if not long:
            return self._edit_text(suffix)
        number = self._random.choice(long)
        head = " ".join(self._rows[suffix][number]["body"].split(" ")[:-3])
        return self._set(suffix, "edit_end", number, {"body": f"{head} {self._text(3)}"})

    def _edit_other(self, suffix: str) -> None:
        """Change what is no text."""
        price, category = {"price": self._price()}, {"category": self._random.choice(_CATEGORIES)}
        self._set(suffix, "edit_other", None, price if self._random.random() < 0.5 else category)

    def _touch(self, suffix: str) -> None:
        """An update that changes nothing at all."""
        number = self._any(suffix)
        self._set(suffix, "touch", number, {"title": self._rows[suffix][number]["title"]})

    def _flip(self, suffix: str) -> None:
        """Take a row out of the index, or bring it back."""
        number = self._any(suffix)
        now = self._rows[suffix][number]["status"]
        self._set(suffix, "flip", number, {"status": "draft" if now == "published" else "published"})

    def _change_key(self, suffix: str) -> None:
        """Change a primary key, now and then to one that was deleted before."""
        old = self._any(suffix)
        new = self._revived(suffix) if self._gone[suffix] and self._random.random() < 0.3 else self._new_id()
        self._execute(suffix, "UPDATE {} SET id = %s WHERE id = %s", [new, old])
        self._rows[suffix][new] = self._rows[suffix].pop(old)
        self._gone[suffix].append(old)
        self.counts["change_key"] += 1

    def _delete(self, suffix: str) -> None:
        number = self._any(suffix)
        self._execute(suffix, "DELETE FROM {} WHERE id = %s", [number])
        del self._rows[suffix][number]
        self._gone[suffix].append(number)
        self.counts["delete"] += 1

    # --- parts

    def _put(self, suffix: str, number: int, kind: str) -> None:
        status = "published" if self._random.random() < 0.85 else "draft"
        row = {
            "title": self._text(12),
            "body": self._text(self._random.choice((5, 40, 200, 400))),
            "category": self._random.choice(_CATEGORIES),
            "price": self._price(),
            "status": status,
        }
        statement = "INSERT INTO {} (id, title, body, category, price, status) VALUES (%s, %s, %s, %s, %s, %s)"
        self._execute(suffix, statement, [number, *row.values()])
        self._rows[suffix][number] = row
        self.counts[kind] += 1

    def _set(self, suffix: str, kind: str, number: int | None, values: Mapping[str, Any]) -> None:
        number = self._any(suffix) if number is None else number
        for column, value in values.items():
            statement = f"UPDATE {{}} SET {column} = %s WHERE id = %s"
            self._execute(suffix, statement, [value, number])
            self._rows[suffix][number][column] = value
            self.counts[kind] += 1

    def _execute(self, suffix: str, statement: Any, values: list[Any]) -> None:
        assert self._connection is not None
        self._connection.execute(sql.SQL(statement).format(self._world.table(suffix)), values)

    def _any(self, suffix: str) -> int:
        return self._random.choice(list(self._rows[suffix]))

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def _revived(self, suffix: str) -> int:
        return self._gone[suffix].pop(self._random.randrange(len(self._gone[suffix])))

    def _price(self) -> str | None:
        return f"{self._random.randrange(100_000) / 100:.2f}" if self._random.random() < 0.9 else None

    def _text(self, words: int) -> str | None:
        """About so many words; sometimes NULL, empty or blank, where a text may be."""
        dice = self._random.random()
        if words > 3 and dice < 0.06:
            return self._random.choice((None, "", " \n\t "))
        odd = 0.3 if dice < 0.3 else 0.02
        chosen = [
            self._random.choice(_ODD if self._random.random() < odd else _WORDS)
            for _ in range(self._random.randint(max(1, words // 2), words))
        ]
        return " ".join(word + self._random.choice(("", "", "", ".", ",", "\n")) for word in chosen)


_OPERATIONS: tuple[tuple[Operation, int], ...] = (
    (Workload._insert, 20),
    (Workload._insert_again, 6),
    (Workload._edit_text, 22),
    (Workload._edit_end, 12),
    (Workload._edit_other, 12),
    (Workload._touch, 4),
    (Workload._flip, 8),
    (Workload._change_key, 6),
    (Workload._delete, 10),
)
