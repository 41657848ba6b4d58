"""One contender on one source table: writes rows, and looks at what is searchable, as a reader would."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import errors, sql

from benchmarks.peers.contender import Contender
from benchmarks.texts import docstrings

WORDS, LONG = 60, 1_200
WARM = 1  # the id of the row that warms up; rows under measurement begin above


class TooLate(Exception):
    """What was waited for did not come in time, or the contender has died."""


class Trial:
    """The source table is `(number int PRIMARY KEY, body text, views int)`; texts are told apart by how they begin."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        self._writer = psycopg.connect(contender.source_dsn, autocommit=True)
        self._reader = psycopg.connect(contender.target_dsn, autocommit=True)

    def close(self) -> None:
        """The connections, not the contender."""
        self._writer.close()
        self._reader.close()

    def insert(self, rows: Sequence[tuple[int, str | None]]) -> None:
        """All rows in one transaction."""
        with self._writer.transaction(), self._writer.cursor() as cursor:
            cursor.executemany(self._sql("INSERT INTO {} (number, body) VALUES (%s, %s)"), rows)

    def edit(self, rows: Sequence[tuple[int, str | None]]) -> None:
        """Other texts, in one transaction."""
        with self._writer.transaction(), self._writer.cursor() as cursor:
            swapped = [(text, number) for number, text in rows]
            cursor.executemany(self._sql("UPDATE {} SET body = %s WHERE number = %s"), swapped)

    def run(self, statement: str, values: Any = None) -> None:
        """One statement in which `{}` is the source table."""
        self._writer.execute(self._sql(statement), values)

    def found(self, marker: str) -> int:
        """How many source rows have a searchable text that begins so."""
        query = sql.SQL("SELECT count(DISTINCT id) FROM ({}) AS s WHERE starts_with(content, %s)")
        try:
            return int(self._ask(query, [marker])[0][0])
        except errors.UndefinedTable:
            return 0  # some make their tables only when they start

    def contents(self) -> dict[int, list[str]]:
        """Every searchable text, by source row; chunks in no order."""
        found: dict[int, list[str]] = defaultdict(list)
        for number, content in self._ask(sql.SQL("SELECT id, content FROM ({}) AS s"), None):
            found[number].append(content)
        return dict(found)

    def vectors(self, limit: int) -> list[tuple[str, list[float]]]:
        """Some texts with their vectors."""
        query = sql.SQL("SELECT content, embedding::real[] FROM ({}) AS s ORDER BY id LIMIT %s")
        return [(content, vector) for content, vector in self._ask(query, [limit])]

    def vectors_of(self, number: int) -> list[list[float]]:
        """The vectors under which a source row is found."""
        query = sql.SQL("SELECT embedding::real[] FROM ({}) AS s WHERE id = %s")
        return [vector for (vector,) in self._ask(query, [number])]

    def until(self, condition: Callable[[], bool], timeout: float) -> float:
        """Seconds until the condition holds. Asking costs at most a tenth of the time."""
        began = time.perf_counter()
        while True:
            asked = time.perf_counter()
            if condition():
                return time.perf_counter() - began
            if not self.contender.alive():
                raise TooLate("its process has ended")
            if time.perf_counter() - began > timeout:
                raise TooLate(f"not within {timeout:.0f} s")
            time.sleep(max(0.01, 9 * (time.perf_counter() - asked)))

    def warm(self, timeout: float = 180) -> None:
        """Start it and wait until a first row is searchable: model loaded, connections open."""
        self.contender.start()
        self.insert([(WARM, "warm up " + short(0))])
        self.until(lambda: self.found("warm up") == 1, timeout)

    def sentinel(self, number: int, timeout: float = 60) -> None:
        """Wait until a row that is written now is searchable: what came before has had its turn."""
        self.insert([(number, f"sentinel {number} {short(number)}")])
        self.until(lambda: self.found(f"sentinel {number} ") == 1, timeout)

    def quiet(self, seconds: float = 3) -> int:
        """How many texts it has embedded, once that has not changed for so long."""
        last, since = self.contender.embedded(), time.monotonic()
        while time.monotonic() - since < seconds:
            time.sleep(0.1)
            if (now := self.contender.embedded()) != last:
                last, since = now, time.monotonic()
        return last

    def _sql(self, statement: str) -> sql.Composed:
        return sql.SQL(statement).format(sql.Identifier("public", self.contender.table))

    def _ask(self, query: sql.SQL, values: Any) -> list[tuple[Any, ...]]:
        return self._reader.execute(query.format(self.contender.stored), values).fetchall()


@contextmanager
def trial(contender: Contender) -> Iterator[Trial]:
    """The source table made and the contender prepared; both taken away at the end, whatever happens."""
    made = Trial(contender)
    made.run("CREATE TABLE {} (number int PRIMARY KEY, body text, views int NOT NULL DEFAULT 0)")
    try:
        contender.prepare()
        yield made
    finally:
        try:
            contender.stop()
        finally:
            contender.close()
            made.run("DROP TABLE {} CASCADE")
            made.close()


_words: list[str] = []


def short(number: int, words: int = WORDS) -> str:
    """A text of so many words of real English, another one for each number."""
    if not _words:
        _words.extend(" ".join(docstrings(1_500)).split())
    start = number * 61 % (len(_words) - words)
    return " ".join(_words[start : start + words])


def rows(marker: str, numbers: Sequence[int], words: int = WORDS) -> list[tuple[int, str]]:
    """Source rows whose texts begin with the marker and their id."""
    return [(number, f"{marker} {number} {short(number, words)}") for number in numbers]
