"""Words that are longer than a whole window: the one case in which a cut goes through a word."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from consumer.content.tokens import Tokenizer
from consumer.errors import Reject

_CHARACTERS_PER_TOKEN = 16  # more than tokens have: bounds what the first try tokenizes, however long the word is


class Piece(NamedTuple):
    """A stretch of text and its content tokens: what tokenizing the text alone gives."""

    text: str
    token_ids: tuple[int, ...]


def split_word(word: str, room: int, tokenizer: Tokenizer) -> Iterator[Piece]:
    """Cut `word` into pieces of at most `room` tokens each, about as long as they can be.

    A piece is tokenized on its own, since its tokens differ from those it had inside the word. Raises Reject if
    a single character has more tokens than `room`.
    """
    held, held_from = Piece("", ()), 0
    start, reach = 0, room * _CHARACTERS_PER_TOKEN
    while start < len(word):
        piece, length = _longest_prefix(word[start : start + reach], room, tokenizer)
        if piece.token_ids:
            if held.token_ids:
                yield held
            held, held_from = piece, start
        else:  # characters without a token belong to the piece before them
            held = Piece(word[held_from : start + length].strip(), held.token_ids)
        start, reach = start + length, 2 * length  # the next piece is about as long: try little more than it
    if held.token_ids:  # none if the word is white space, which some tokenizers read
        yield held


def _longest_prefix(word: str, room: int, tokenizer: Tokenizer) -> tuple[Piece, int]:
    """The longest prefix found within `room` tokens, and its length in characters.

    The tokens of a failed try say where to try next; each try gives away at least one character.
    """
    end = len(word)
    while end > 0:
        piece = word[:end].strip()
        encoding = tokenizer.encode(piece)
        ids = encoding.ids
        if len(ids) <= room:
            return Piece(piece, tuple(ids)), end
        end = min(word.index(piece) + encoding.offsets[room][0], end - 1)
    what = f"One character of a text has more than the {room} tokens that a chunk has room for."
    raise Reject(what, stage="chunk", error_type="indivisible")
