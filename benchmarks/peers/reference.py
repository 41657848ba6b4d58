"""Whether vectors are what the model says: the same files, through sentence-transformers, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.peers.contender import MODEL_PACKAGE


def worst_cosine(stored: Sequence[tuple[str, Sequence[float]]]) -> float:
    """The smallest cosine between a stored vector and the vector of its text."""
    expected = _model().encode([text for text, _ in stored], normalize_embeddings=True, show_progress_bar=False)
    found = np.asarray([vector for _, vector in stored], dtype=np.float64)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return round(float((found * expected).sum(axis=1).min()), 6)


@cache
def _model() -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(import_module(MODEL_PACKAGE).get_model_path()), device="cpu")
