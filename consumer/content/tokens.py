"""What the content room asks of a tokenizer: one tokenization gives both the chunk borders and the model's input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Encoding(Protocol):
    """One text as tokens, without special tokens, prompt, truncation or padding.

    The three sequences are equally long. Reading one may build it anew: read it once and keep it.
    """

    @property
    def ids(self) -> Sequence[int]:
        """Token ids, in order."""

    @property
    def offsets(self) -> Sequence[tuple[int, int]]:
        """Per token its `(start, end)` in characters of the original text, whatever the normalizer changed."""

    @property
    def word_ids(self) -> Sequence[int | None]:
        """Per token the number of its word; None for a token that stands for itself. Cuts are made between words."""


class Tokenizer(Protocol):
    """The model's own tokenizer. Equal texts give equal ids, and so does a chunk cut at word borders on its own."""

    @property
    def max_tokens(self) -> int:
        """Tokens that one model input may have, special tokens and the document prompt included."""

    @property
    def added_tokens(self) -> int:
        """How many of them every input spends on special tokens and the document prompt."""

    def encode(self, text: str) -> Encoding:
        """Tokenize one text."""

    def encode_batch(self, texts: Sequence[str]) -> Sequence[Encoding]:
        """Tokenize many texts at once, in their order; faster than one by one."""
