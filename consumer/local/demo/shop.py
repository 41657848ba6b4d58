"""The source: a table of real text in the database `shop`, and the changes an application would make to it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, LiteralString, NamedTuple, Self

import psycopg

from consumer.local.demo.texts import Text

_CREATE = """
CREATE TABLE docs (
    id       integer PRIMARY KEY,
    module   text    NOT NULL,
    name     text    NOT NULL,
    kind     text    NOT NULL,
    text     text    NOT NULL,
    reviewed boolean NOT NULL DEFAULT false,
    views    integer NOT NULL DEFAULT 0
)
"""


class Row(NamedTuple):
    """One row as the source has it now; `views` is left out, as no index uses it."""

    id: int
    module: str
    name: str
    kind: str
    text: str
    reviewed: bool


class Shop:
    """One connection to the source as its owner."""

    def __init__(self, dsn: str) -> None:
        self._connection = psycopg.connect(dsn)

    def fill(self, texts: Sequence[Text]) -> None:
        """Creates the table with the texts as rows, numbered from 1."""
        with self._connection.transaction():
            self._connection.execute(_CREATE)
            with self._connection.cursor().copy("COPY docs (id, module, name, kind, text) FROM STDIN") as copy:
                for number, text in enumerate(texts, 1):
                    copy.write_row((number, text.module, text.name, text.kind, text.text))

    def rows(self) -> list[Row]:
        """Every row, by id."""
        found = self._connection.execute("SELECT id, module, name, kind, text, reviewed FROM docs ORDER BY id")
        rows = [Row(*row) for row in found]
        self._connection.commit()
        return rows

    def change(self, statement: LiteralString, values: dict[str, Any]) -> float:
        """One transaction; `time.perf_counter()` just before its COMMIT was sent."""
        self._connection.execute(statement, values)
        sent = time.perf_counter()
        self._connection.commit()
        return sent

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
