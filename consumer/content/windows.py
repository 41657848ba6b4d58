"""Windows: every chunk as long as it may be. An edit moves all borders behind it."""

from __future__ import annotations

from collections.abc import Iterator

from consumer.content.pieces import Piece, split_word
from consumer.content.tokens import Tokenizer
from consumer.content.words import Words


def windows(words: Words, room: int, overlap: int, tokenizer: Tokenizer) -> Iterator[Piece]:
    """Chunks of at most `room` tokens, neighbours sharing up to `overlap` of them."""
    first = after = 0  # words first..after-1 are the window; each window reaches further than the one before
    while after < len(words):
        if words.size(after, after + 1) > room:  # a word too long for any window stands alone, in pieces
            yield from split_word(words.alone(after), room, tokenizer)
            first = after = after + 1
            continue
        while words.size(first, after + 1) > room:
            first += 1
        while after < len(words) and words.size(first, after + 1) <= room:
            after += 1
        yield words.piece(first, after)
        first = words.overlap(first, after, overlap)
