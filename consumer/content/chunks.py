"""Text -> chunks, cut between words, so that a chunk is also the model's input.

Each chunk reads the same alone as in its text: tokenizing it gives the very ids of its slice. Therefore its hash stands
for its vector, whichever document it is found in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from consumer.content.hashes import chunk_hash
from consumer.content.pieces import Piece
from consumer.content.spec import ChunkSpec
from consumer.content.stable import stable
from consumer.content.tokens import Encoding, Tokenizer
from consumer.content.windows import windows
from consumer.content.words import Words
from consumer.errors import Exit, Stop

_CUT: dict[str, Callable[[Words, int, int, Tokenizer], Iterator[Piece]]] = {"stable": stable, "windows": windows}


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
    """Raise Stop if chunks could not move on."""
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
    return _CUT[spec.method](Words(text, encoding), room, spec.overlap, tokenizer)


def _numbered(pieces: Iterator[Piece]) -> list[Chunk]:
    seen: Counter[bytes] = Counter()
    chunks = []
    for number, piece in enumerate(pieces):
        digest = chunk_hash(piece.text)
        chunks.append(Chunk(number, piece.text, piece.token_ids, digest, seen[digest]))
        seen[digest] += 1
    return chunks
