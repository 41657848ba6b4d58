"""Stable chunks: borders that the content chooses, within limits, by the rule of docs/chunks.md."""

from __future__ import annotations

import random
import re
from collections import Counter
from itertools import accumulate
from pydoc_data.topics import topics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.content import ChunkSpec, chunk
from consumer.embedding.tokenizer import FastTokenizer
from tests.cuts import stable_spans
from tests.tiny_model import minilm_folder

LONG = topics["specialnames"].strip()
SENTENCE = re.compile(r"[^.]{40,300}\.\s+")


@pytest.fixture(scope="module")
def tokenizer() -> FastTokenizer:
    serialized = (minilm_folder() / "tokenizer.json").read_text("utf-8")
    return FastTokenizer(serialized, max_tokens=256, added_tokens=2)


@pytest.mark.semantics("operations", "update of one sentence of a long text", "one or two of its chunks are embedded")
@pytest.mark.parametrize("spec", [ChunkSpec(), ChunkSpec(256, 0)])
def test_an_edited_sentence_changes_the_chunks_beside_it(tokenizer: FastTokenizer, spec: ChunkSpec) -> None:
    stored = Counter(piece.hash for piece in chunk(LONG, spec, tokenizer))
    choose = random.Random(7)
    changed = []
    for sentence in choose.sample(list(SENTENCE.finditer(LONG)), 30):
        start, end = sentence.span()
        for text in (LONG[:start] + LONG[end:], LONG[:end] + "A new sentence. " + LONG[end:]):
            changed.append(sum((Counter(piece.hash for piece in chunk(text, spec, tokenizer)) - stored).values()))
    assert stored.total() >= 50
    assert sum(changed) / len(changed) <= 1.7


@pytest.mark.parametrize("text", [LONG, LONG.replace(".", ""), re.sub(r"[.\s]+", " ", LONG)])
def test_chunks_are_long_but_never_too_long(tokenizer: FastTokenizer, text: str) -> None:
    sizes = [len(piece.token_ids) for piece in chunk(text, ChunkSpec(), tokenizer)]
    assert max(sizes) <= 254
    assert sum(sizes) / len(sizes) >= 0.65 * 256
    assert min(sizes) >= (254 - 32) // 8


def test_chunks_end_with_sentences_where_they_can(tokenizer: FastTokenizer) -> None:
    text = " ".join(f"Sentence number {number} is a short one." for number in range(200))
    pieces = chunk(text, ChunkSpec(64, 0), tokenizer)
    assert all(piece.text.startswith("Sentence") and piece.text.endswith("one.") for piece in pieces)
    assert " ".join(piece.text for piece in pieces) == text


words = st.sampled_from(
    ["a", "word", "antidisestablishmentarianism", "1,000.50", "漢字。", "end.", '"said!"', "…", "e.g."]
)
spaces = st.sampled_from([" ", "\n", "\n\n", "  "])
texts = st.lists(st.tuples(words, spaces), max_size=300).map(lambda parts: "".join(map("".join, parts)).strip())


@given(text=texts, room=st.integers(24, 60), overlap=st.integers(0, 12))
def test_the_cuts_are_the_cheapest(tokenizer: FastTokenizer, text: str, room: int, overlap: int) -> None:
    encoding = tokenizer.encode(text)
    starts, sizes = [], []
    for (start, _), word, before in zip(
        encoding.offsets, encoding.word_ids, [None, *encoding.word_ids[:-1]], strict=False
    ):
        if word != before:
            starts.append(start)
            sizes.append(0)
        sizes[-1] += 1
    tokens, characters = [0, *accumulate(sizes)], [0, *starts[1:], len(text)]
    pieces = [piece.text for piece in chunk(text, ChunkSpec(room + 2, overlap), tokenizer)]
    if tokens[-1] <= room:
        assert pieces == ([text] if text else [])
    else:
        spans = stable_spans(text, characters, tokens, room, overlap)
        assert pieces == [text[characters[first] : characters[after]].rstrip() for first, after in spans]
