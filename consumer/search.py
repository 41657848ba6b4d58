"""The query side: a question to the nearest chunks, with the provenance of each."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from consumer.embedding import Identity
from consumer.errors import Exit, Stop
from consumer.store import Generation, SearchHit

MOST = 1000


class Embedder(Protocol):
    """What a question is embedded by."""

    @property
    def identity(self) -> Identity: ...
    def embed_query(self, text: str) -> NDArray[np.float32]: ...


class Store(Protocol):
    """What is asked."""

    def search(
        self, generation: Generation, vector: NDArray[np.float32], k: int, source: str | None = None
    ) -> list[SearchHit]: ...


def search(
    embedder: Embedder, store: Store, generation: Generation, question: str, *, k: int = 5, source: str | None = None
) -> list[SearchHit]:
    """The `k` chunks nearest to `question`, nearest first, of one source or of all; none where nothing is stored.

    Raises Stop if the vectors were made by another model, or if the question cannot be asked.
    """
    if not question.strip() or not 1 <= k <= MOST:
        raise Stop(
            "There is nothing to search for.", "", f"Give a question and 1 to {MOST} hits.", exit_code=Exit.USAGE
        )
    mine = embedder.identity
    if mine.config_hash != generation.config_hash:
        raise Stop(
            f"The stored vectors were made by {generation.model} with other settings than these ({mine.model}).",
            "Vectors of two configurations cannot be compared.",
            "Restore the `embedding` settings they were made with; `embed-consumer migrate --plan` names what differs.",
        )
    return store.search(generation, embedder.embed_query(question), k, source)


def score(generation: Generation, distance: float) -> float:
    """The distance as a score, larger is nearer: cosine similarity, inner product, or the negative L2 distance."""
    return 1.0 - distance if generation.metric == "cosine" else -distance
