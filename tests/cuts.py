"""How a text is to be cut, by the rules that docs/chunks.md states, computed the slow way for the oracle.

A word is given by its first character (`characters`) and its first token (`tokens`), both ending with the text's
length; a chunk is the words from the first up to and without the second of a pair.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

Span = tuple[int, int]


def window_spans(
    text: str, characters: Sequence[int], tokens: Sequence[int], room: int, overlap: int
) -> Iterator[Span]:
    """Each as long as the room allows, beginning with what fits of the one before."""
    first = end = 0
    while end < len(tokens) - 1:
        while tokens[end + 1] - tokens[first] > room:
            first += 1
        assert first <= end, "a word longer than a window: not in these workloads"
        while end < len(tokens) - 1 and tokens[end + 1] - tokens[first] <= room:
            end += 1
        yield first, end
        first = _repeated(tokens, first, end, overlap)


def stable_spans(
    text: str, characters: Sequence[int], tokens: Sequence[int], room: int, overlap: int
) -> Iterator[Span]:
    """Those whose borders cost least in all."""
    most = room - overlap
    borders = _borders(text, characters, tokens, most)
    best: list[tuple[int, list[int]]] = [(0, [0])]
    for border in borders[1:]:
        before = [(cost, path) for cost, path in best if tokens[border] - tokens[path[-1]] <= most]
        enough = [(cost, path) for cost, path in before if tokens[border] - tokens[path[-1]] >= most // 8]
        cost, path = min(enough or before)
        context = text[max(0, characters[border] - 64) : characters[border]].strip()
        price = int(hashlib.sha256(context.encode()).hexdigest()[:8], 16) ** 2
        best.append((cost + price + (0 if enough else 2**64), [*path, border]))
    start = 0
    for first, end in pairwise(best[-1][1]):
        yield (_repeated(tokens, start, first, overlap) if first else 0), end
        start = first


def _borders(text: str, characters: Sequence[int], tokens: Sequence[int], most: int) -> list[int]:
    """Words behind a sentence; within a sentence longer than `most`, behind a line; within such a line, all."""
    assert all(end - start <= most for start, end in pairwise(tokens)), "a word longer than a chunk"
    last = len(tokens) - 1
    sentences = {match.end() for match in re.finditer(r"[.!?…][\"'”’»)\]*_`]*\s+|[。！？]|\n[ \t]*\n\s*", text)}
    lines = {match.end() for match in re.finditer(r"\n\s*", text)}

    def behind(places: set[int]) -> list[int]:
        return [
            word for word in range(1, last) if any(characters[word - 1] < place <= characters[word] for place in places)
        ]

    borders = [0, *behind(sentences), last]
    for finer in (behind(lines), range(1, last)):
        within = [w for a, b in pairwise(borders) if tokens[b] - tokens[a] > most for w in finer if a < w < b]
        borders = sorted({*borders, *within})
    return borders


def _repeated(tokens: Sequence[int], first: int, end: int, overlap: int) -> int:
    """Where the next one begins: with as many of the last words as `overlap` tokens hold, never with all."""
    fitting = (word for word in range(first + 1, end) if tokens[end] - tokens[word] <= overlap)
    return next(fitting, end)
