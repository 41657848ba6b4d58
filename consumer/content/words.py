"""A tokenized text as words: the places where a chunk may begin and end."""

from __future__ import annotations

from collections.abc import Sequence

from consumer.content.pieces import Piece
from consumer.content.tokens import Encoding


class Words:
    """One text's words, counted from 0. Cuts are made between them, so that a chunk's tokens are those of its slice.

    `tokens[w]` is the index of word w's first token and `starts[w]` of its first character; both end with the total.
    """

    def __init__(self, text: str, encoding: Encoding) -> None:
        self.text, self.ids, self._offsets = text, encoding.ids, encoding.offsets
        self.tokens = _borders(encoding.word_ids, self._offsets)
        self.starts = [0, *(self._offsets[token][0] for token in self.tokens[1:-1]), len(text)]

    def __len__(self) -> int:
        return len(self.tokens) - 1

    def size(self, first: int, after: int) -> int:
        """Tokens of the words from `first` up to and without `after`."""
        return self.tokens[after] - self.tokens[first]

    def piece(self, first: int, after: int) -> Piece:
        """These words as a chunk's text and tokens."""
        end = self._offsets[self.tokens[after] - 1][1]
        tail = self.text[end : self.starts[after]].rstrip()  # characters without a token belong to the word before them
        slice_ = self.ids[self.tokens[first] : self.tokens[after]]
        return Piece(self.text[self.starts[first] : end] + tail, tuple(slice_))

    def alone(self, word: int) -> str:
        """The text of one word, as `split_word` takes it."""
        return self.text[self.starts[word] : self.starts[word + 1]].rstrip()

    def overlap(self, first: int, after: int, most: int) -> int:
        """Where the chunk behind words first..after-1 begins if it repeats as many of them as `most` tokens hold."""
        start = after
        while start - 1 > first and self.size(start - 1, after) <= most:
            start -= 1
        return start


def _borders(word_ids: Sequence[int | None], offsets: Sequence[tuple[int, int]]) -> list[int]:
    """Where a cut is allowed: between two words, unless they share a character (one may expand to several tokens)."""
    inner = (
        index
        for index in range(1, len(word_ids))
        if (word_ids[index] is None or word_ids[index] != word_ids[index - 1])
        and offsets[index][0] >= offsets[index - 1][1]
    )
    return [0, *inner, len(word_ids)]
