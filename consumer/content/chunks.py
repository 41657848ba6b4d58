"""Text -> chunks: overlapping windows of tokens, cut between words, so that a chunk is also the model's input.

Each chunk reads the same alone as in its text: tokenizing it gives the very ids of its slice. Therefore its hash stands
for its vector, whichever document it is found in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from consumer.content.hashes import chunk_hash
from consumer.content.pieces import Piece, split_word
from consumer.content.spec import ChunkSpec
from consumer.content.tokens import Encoding, Tokenizer
from consumer.errors import Exit, Stop


class Chunk(NamedTuple):
    """One piece of a document. `token_ids` are its content tokens; `hash` is of its text (32 bytes).

    `occurrence` counts the chunks of this hash that stand before it in the document.
    """

    no: int
    text: str
    token_ids: tuple[int, ...]
    hash: bytes
    occurrence: int


def chunk(text: str, spec: ChunkSpec, tokenizer: Tokenizer) -> list[Chunk]:
    """Chunks of one text, in order; none if it has nothing that the model could read.

    Every character that is not white space is in some chunk, and no chunk exceeds `spec.max_tokens` with the tokens
    that each input adds. Raises Reject(stage="chunk") if not even one character of some word fits.
    """
    return chunk_batch([text], spec, tokenizer)[0]


def chunk_batch(texts: Sequence[str], spec: ChunkSpec, tokenizer: Tokenizer) -> list[list[Chunk]]:
    """Chunks of many texts, tokenized at once; equal to `chunk` of each."""
    stripped = [text.strip() for text in texts]
    encodings = tokenizer.encode_batch(stripped)
    return [_numbered(_pieces(*pair, spec, tokenizer)) for pair in zip(stripped, encodings, strict=True)]


def check_overlap(table: str, spec: ChunkSpec) -> None:
    """Raise Stop if windows could not move on."""
    if not 0 <= spec.overlap < spec.max_tokens:
        raise Stop(
            f"Table {table} has chunk.overlap {spec.overlap} and chunk.max_tokens {spec.max_tokens}.",
            "Neighbouring chunks cannot share as many tokens as a whole chunk has.",
            "Set chunk.overlap to less than chunk.max_tokens; an eighth of it is usual.",
            exit_code=Exit.USAGE,
        )


def check_chunking(table: str, spec: ChunkSpec, tokenizer: Tokenizer) -> None:
    """Raise Stop if this model cannot take the table's chunks as configured: nothing is clamped."""
    check_overlap(table, spec)
    if spec.max_tokens > tokenizer.max_tokens:
        raise Stop(
            f"Table {table} has chunk.max_tokens {spec.max_tokens}, but the model reads {tokenizer.max_tokens}.",
            "What is beyond the model's limit would silently be missing from the vector.",
            f"Set chunk.max_tokens to at most {tokenizer.max_tokens}.",
            exit_code=Exit.USAGE,
        )
    room = spec.max_tokens - tokenizer.added_tokens
    if spec.overlap >= room:
        raise Stop(
            f"Table {table} has chunk.max_tokens {spec.max_tokens} and chunk.overlap {spec.overlap}.",
            f"Special tokens and the document prompt take {tokenizer.added_tokens}, which leaves {room} for content.",
            "Raise chunk.max_tokens or lower chunk.overlap.",
            exit_code=Exit.USAGE,
        )


def _pieces(text: str, encoding: Encoding, spec: ChunkSpec, tokenizer: Tokenizer) -> Iterator[Piece]:
    ids, room = encoding.ids, spec.max_tokens - tokenizer.added_tokens
    if len(ids) <= room:
        return iter([Piece(text, tuple(ids))] if ids else [])
    return _windows(text, ids, encoding, room, spec.overlap, tokenizer)


def _windows(
    text: str, ids: Sequence[int], encoding: Encoding, room: int, overlap: int, tokenizer: Tokenizer
) -> Iterator[Piece]:
    offsets = encoding.offsets
    borders = _word_borders(encoding.word_ids, offsets)  # token indices at which words start, then the end
    starts = [0, *(offsets[border][0] for border in borders[1:-1]), len(text)]
    first = after = 0  # words first..after-1 are the window; each window reaches further than the one before
    while after < len(borders) - 1:
        if borders[after + 1] - borders[after] > room:  # a word too long for any window stands alone, in pieces
            yield from split_word(text[starts[after] : starts[after + 1]].rstrip(), room, tokenizer)
            first = after = after + 1
            continue
        while borders[after + 1] - borders[first] > room:
            first += 1
        while after < len(borders) - 1 and borders[after + 1] - borders[first] <= room:
            after += 1
        end = offsets[borders[after] - 1][1]
        tail = text[end : starts[after]].rstrip()  # characters without a token belong to the word before them
        yield Piece(text[starts[first] : end] + tail, tuple(ids[borders[first] : borders[after]]))
        first = _overlap_start(borders, first, after, overlap)


def _overlap_start(borders: Sequence[int], first: int, after: int, overlap: int) -> int:
    """First word of the next window: as many of this window's last words as `overlap` tokens hold."""
    start = after
    while start - 1 > first and borders[after] - borders[start - 1] <= overlap:
        start -= 1
    return start


def _word_borders(word_ids: Sequence[int | None], offsets: Sequence[tuple[int, int]]) -> list[int]:
    """Where a cut is allowed: between two words, unless they share a character (one may expand to several tokens)."""
    inner = (
        index
        for index in range(1, len(word_ids))
        if (word_ids[index] is None or word_ids[index] != word_ids[index - 1])
        and offsets[index][0] >= offsets[index - 1][1]
    )
    return [0, *inner, len(word_ids)]


def _numbered(pieces: Iterator[Piece]) -> list[Chunk]:
    seen: Counter[bytes] = Counter()
    chunks = []
    for number, piece in enumerate(pieces):
        digest = chunk_hash(piece.text)
        chunks.append(Chunk(number, piece.text, piece.token_ids, digest, seen[digest]))
        seen[digest] += 1
    return chunks
