"""Documents of other table settings or of another generation: counted, and rendered again from their stored fields.

Both go through the table by document id, a page at a time: live events wait some milliseconds for a page, however many
documents there are, and a start reads no more than the first of them.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence

from consumer.observe import Metrics
from consumer.pipeline import Pipeline
from consumer.planning import StoredKey, Table
from consumer.store import Generation, StaleDocument, Store

LEAST, PAGE = 5_000, 50_000  # documents: however slow the server is, a pass must come to its end
PAGE_SECONDS = 0.02  # that a page is to take: live events wait meanwhile, and what a row takes depends on much
AT_ONCE = 50
PASS_EVERY = 300.0  # seconds
SECONDS = 0.5  # of each round of rendering: live events wait meanwhile


def stale_counts(store: Store, hashes: Mapping[str, bytes], generation: Generation) -> Counter[str]:
    """Stale documents by source, `hashes` being the sources' current ones."""
    counted, after = Counter[str](), 0
    while True:
        last, found = store.stale_page(hashes, generation, after, PAGE)
        if last is None:
            return counted
        counted.update(found)
        after = last


class StaleDocuments:
    """The state of both walks. Methods do a little and raise Retry as the store does."""

    def __init__(
        self, store: Store, pipeline: Pipeline, metrics: Metrics, tables: Sequence[Table], generation: Generation
    ) -> None:
        self._store, self._pipeline, self._metrics, self._generation = store, pipeline, metrics, generation
        self._hashes = {table.source: table.content.table_hash for table in tables}
        self._counted, self._after, self._begin, self._page = Counter[str](), 0, 0.0, LEAST
        self._pages = deque[tuple[str, int, int]]()  # source, and the ids between which it has documents to render
        self._finding = True  # whether this pass is to find such pages: not while those of one before are left

    def count(self) -> None:
        """Look at the next page; after the last one tell the metric, and rest for a while."""
        if (begun := time.monotonic()) < self._begin:
            return
        last, found = self._store.stale_page(self._hashes, self._generation, self._after, self._page)
        self._page = _suited(self._page, time.monotonic() - begun)
        self._counted.update(found)
        if last is not None:
            if self._finding:
                self._pages.extend((source, self._after, last) for source in found)
            self._after = last
            return
        self._metrics.stale_documents.set_all({(source,): self._counted[source] for source in self._hashes})
        self._counted, self._after, self._begin = Counter(), 0, time.monotonic() + PASS_EVERY
        self._finding = not self._pages

    def rerender(self) -> None:
        """Render some documents of the first page that has any."""
        if not self._pages:
            return
        source, after, last = self._pages[0]
        if found := self._store.stale_documents(source, self._hashes[source], self._generation, AT_ONCE, after, last):
            self._pages[0] = (source, self._render(found), last)
        else:
            self._pages.popleft()

    def _render(self, found: Sequence[StaleDocument]) -> int:
        """As many as the time allows, one by one: how much work one is shows only when it is cut. The last one's id."""
        heads, begun = self._store.lookup([document.key for document in found]), time.monotonic()
        for document in found:
            if document.key in heads:
                self._pipeline.rerender([StoredKey(document.key, document.source_key, heads[document.key])])
            if time.monotonic() - begun >= SECONDS:
                return document.document_id
        return found[-1].document_id


def _suited(page: int, seconds: float) -> int:
    """How many documents the next page may have if that many took so long."""
    return max(min(int(page * PAGE_SECONDS / max(seconds, 1e-6)), 2 * page, PAGE), LEAST)
