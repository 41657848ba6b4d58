"""Documents of other settings are found page by page, and each is rendered again once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from consumer.observe import Metrics
from consumer.operations import stale
from consumer.planning import DocumentKey, StoredKey
from consumer.store import StaleDocument, StalePage
from tests.unit.records import table

DOCUMENTS = 3 * stale.PAGE
OTHERS = [*range(10, 10 + 2 * stale.AT_ONCE), stale.PAGE + 1, DOCUMENTS]  # ids of stale documents
STUCK = 12  # its stored fields lack a column: it stays as it is


class Shelf:
    """A store of documents 1 to `DOCUMENTS`, and the pipeline that renders them."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds  # that it takes for a document
        self.stale, self.rendered, self.read = set(OTHERS), list[int](), list[int]()

    def stale_page(self, hashes: Mapping[str, bytes], generation: Any, after: int, limit: int) -> StalePage:
        last = min(after + limit, DOCUMENTS)
        self.read.append(last - after)
        time.sleep(self.seconds * (last - after))
        count = sum(after < number <= last for number in self.stale)
        found = dict.fromkeys(hashes, count) if count else {}
        return StalePage(last if last > after else None, found)

    def stale_documents(
        self, source: str, table_hash: bytes, generation: Any, limit: int, after: int, last: int
    ) -> list[StaleDocument]:
        self.read.append(last - after)
        numbers = sorted(number for number in self.stale if after < number <= last)[:limit]
        return [StaleDocument(n, DocumentKey(source, n.to_bytes(16, "big")), b"{}") for n in numbers]

    def lookup(self, keys: Sequence[DocumentKey]) -> dict[DocumentKey, Any]:
        return dict.fromkeys(keys)

    def rerender(self, documents: Sequence[StoredKey]) -> None:
        for document in documents:
            number = int.from_bytes(document.key.key_hash, "big")
            self.rendered.append(number)
            self.stale -= {number} - {STUCK}


def test_each_is_rendered_once_and_no_question_reads_more_than_a_page() -> None:
    shelf: Any = Shelf()
    metrics, generation = Metrics(60.0), None
    walk = stale.StaleDocuments(shelf, shelf, metrics, [table()], generation)  # type: ignore[arg-type]
    for _ in range(10):
        walk.count()
        walk.rerender()
    assert shelf.rendered == OTHERS
    assert shelf.stale == {STUCK}
    assert max(shelf.read) == stale.PAGE
    assert len(shelf.read) < 20, "a pass ends, and rests"
    assert [sample.value for family in metrics.stale_documents.collect() for sample in family.samples] == [len(OTHERS)]
    assert stale.stale_counts(shelf, {table().source: b""}, None) == {table().source: 1}  # type: ignore[arg-type]


def test_a_page_is_as_long_as_live_events_may_wait_for_it() -> None:
    """Rows may be wide, and come from a disk that is slow: what fits the time is measured, not guessed."""
    shelf: Any = Shelf(seconds=stale.PAGE_SECONDS / (2 * stale.LEAST))
    walk = stale.StaleDocuments(shelf, shelf, Metrics(60.0), [table()], None)  # type: ignore[arg-type]
    for _ in range(4):
        walk.count()
    assert shelf.read[0] == stale.LEAST
    assert stale.LEAST < max(shelf.read) < stale.PAGE / 2


def test_a_server_that_answers_late_gets_pages_all_the_same() -> None:
    shelf: Any = Shelf(seconds=2 * stale.PAGE_SECONDS / stale.LEAST)
    walk = stale.StaleDocuments(shelf, shelf, Metrics(60.0), [table()], None)  # type: ignore[arg-type]
    for _ in range(3):
        walk.count()
    assert shelf.read == [stale.LEAST] * 3
