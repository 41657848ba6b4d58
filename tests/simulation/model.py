"""The embedding model's stand-in: a vector that tells the text it is of, a speed, and words that it fails on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from math import nan

import numpy as np

from consumer.embedding import Embedded
from consumer.errors import Reject
from tests.simulation.source import HICCUP, POISON
from tests.store_standin.database import Vector


def vector_of(text: str) -> Vector:
    """What the model makes of a chunk, computed from its words."""
    return vector([ord(word) for word in text.split()])


def vector(token_ids: Sequence[int]) -> Vector:
    """The same from the tokens of `WordTokenizer`, which for a word of one letter are its code."""
    number = sum((place + 1) * token for place, token in enumerate(token_ids))
    return np.array([number, nan if ord(POISON) in token_ids else len(token_ids)], np.float32)


class Model:
    """One for all members. `hiccups`: how often a text with that word fails before it succeeds."""

    def __init__(self, hiccups: int) -> None:
        self.failed: Counter[tuple[int, ...]] = Counter()
        self._hiccups = hiccups

    def fails(self, token_ids: tuple[int, ...]) -> bool:
        if ord(HICCUP) not in token_ids or self.failed[token_ids] >= self._hiccups:
            return False
        self.failed[token_ids] += 1
        return True


class MemberModel:
    """The engine of one member: it asks `at`, and tells `computed` what it read."""

    def __init__(
        self, model: Model, tokens_per_second: float, at: Callable[[str], None], computed: Callable[[str], None]
    ) -> None:
        self.tokens_per_second, self.token_budget = tokens_per_second, 2
        self._model, self._at, self._computed = model, at, computed

    def embed(self, token_ids: Sequence[Sequence[int]]) -> Embedded:
        self._at("embed")
        failures = {}
        for number, ids in enumerate(token_ids):
            self._computed(" ".join(map(chr, ids)))
            if self._model.fails(tuple(ids)):
                failures[number] = Reject("It has no number.", stage="embed", error_type="not_finite")
        return Embedded(np.stack([vector(ids) for ids in token_ids]), failures)
