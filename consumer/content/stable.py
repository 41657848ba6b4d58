"""Borders that follow the content: an edit moves those beside it and no others, so all other chunks keep their vectors.

Every place where a sentence ends has a cost that depends on nothing but the characters before it. The chunks are those
whose borders cost least in all, each within its limits. What an edit changes is forgotten after a border or two: from
there on the cheapest way is the one it was. The squares make few borders very cheap, which both sides then meet at.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import pairwise

from consumer.content.pieces import Piece, split_word
from consumer.content.tokens import Tokenizer
from consumer.content.words import Words

_SENTENCE_END = re.compile(r"""(?<=[.!?…])["'”’»)\]*_`]*\s+|(?<=[。！？])|\n[ \t]*\n\s*""")
_LINE_END = re.compile(r"\n\s*")
_CONTEXT = 64  # characters; enough to tell places apart, and few, so that an edit changes few costs
_SMALLEST = 8  # a chunk has at least this part of what it may have, if the text's borders allow it
_DEAREST = 2**64


def stable(words: Words, room: int, overlap: int, tokenizer: Tokenizer) -> Iterator[Piece]:
    """Chunks of at most `room` tokens, each repeating up to `overlap` tokens of the one before it."""
    most, first = room - overlap, 0
    for long in [w for w in range(len(words)) if words.size(w, w + 1) > most] + [len(words)]:
        before = first
        for start, after in pairwise(_cheapest(words, _candidates(words, first, long, most), most)):
            yield words.piece(words.overlap(before, start, overlap) if start > first else start, after)
            before = start
        if long < len(words):  # a word too long for a chunk stands alone, in pieces
            yield from split_word(words.alone(long), room, tokenizer)
        first = long + 1


def _candidates(words: Words, first: int, after: int, most: int) -> list[int]:
    """Words that a chunk may begin with: behind sentences; in too long ones behind lines; in too long ones any."""
    found = [first, after] if first < after else []
    for ends in (_SENTENCE_END, _LINE_END, None):
        finer = found[:1]
        for start, end in pairwise(found):
            if ends is _SENTENCE_END or words.size(start, end) > most:
                finer += _inside(words, start, end, ends)
            finer.append(end)
        found = finer
    return found


def _inside(words: Words, start: int, end: int, ends: re.Pattern[str] | None) -> Sequence[int]:
    """The words between two others that stand behind a match; all of them without a pattern."""
    if ends is None:
        return range(start + 1, end)
    places = (m.end() for m in ends.finditer(words.text, words.starts[start], words.starts[end]))
    inside = (bisect_left(words.starts, place, start, end) for place in places)
    return sorted({word for word in inside if start < word < end})


def _cheapest(words: Words, borders: Sequence[int], most: int) -> list[int]:
    """The borders to cut at, first and last included. Two neighbouring `borders` are never more than `most` apart.

    `total[i]` is the least that the borders up to i cost, and `came[i]` the border before it then. The border before
    must lie between `least` and `most` tokens back; the cheapest of these stands at the front of `near`, of equals the
    first. Where there is none a nearer one is taken, at a price that no other border has.
    """
    least = most // _SMALLEST
    total, came = [0], [0]
    near: deque[int] = deque()
    reached = 0
    for i in range(1, len(borders)):
        while reached < i and words.size(borders[reached], borders[i]) >= least:
            while near and total[near[-1]] > total[reached]:
                near.pop()
            near.append(reached)
            reached += 1
        while near and words.size(borders[near[0]], borders[i]) > most:
            near.popleft()
        before = near[0] if near else min(range(reached, i), key=total.__getitem__)
        came.append(before)
        total.append(total[before] + _cost(words, borders[i]) + (0 if near else _DEAREST))
    path = [len(borders) - 1] if borders else []
    while path and path[-1]:
        path.append(came[path[-1]])
    return [borders[i] for i in reversed(path)]


def _cost(words: Words, border: int) -> int:
    end = words.starts[border]
    context = words.text[max(0, end - _CONTEXT) : end].strip()
    return int.from_bytes(sha256(context.encode()).digest()[:4]) ** 2
