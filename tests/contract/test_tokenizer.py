"""What every tokenizer has to keep, and what chunking promises on top of it: one suite, real ones and a stand-in."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from consumer.content import ChunkSpec, Encoding, Tokenizer, chunk, chunk_batch
from consumer.embedding.tokenizer import FastTokenizer, refuse_context
from tests.tiny_model import minilm_folder


@dataclass(frozen=True)
class WordEncoding:
    """Tokens of the stand-in."""

    ids: list[int]
    offsets: list[tuple[int, int]]
    word_ids: list[int | None]


class WordTokenizer:
    """The stand-in: words of letters in pieces of three, every other visible character for itself."""

    max_tokens = 64
    added_tokens = 2

    def encode(self, text: str) -> WordEncoding:
        encoding = WordEncoding([], [], [])
        for number, word in enumerate(re.finditer(r"\w+|[^\w\s]", text)):
            for start in range(word.start(), word.end(), 3):
                end = min(start + 3, word.end())
                continued = start > word.start()
                encoding.ids.append(hash_of(text[start:end]) * 2 + continued)
                encoding.offsets.append((start, end))
                encoding.word_ids.append(number)
        return encoding

    def encode_batch(self, texts: Sequence[str]) -> list[WordEncoding]:
        return [self.encode(text) for text in texts]


def hash_of(text: str) -> int:
    """A token id that is the same in every process."""
    return int.from_bytes(text.encode(errors="surrogatepass"), "big")


@cache
def wordpiece() -> FastTokenizer:
    """MiniLM's: its normalizer lowers case, strips accents and drops controls, so that lengths change."""
    serialized = (minilm_folder() / "tokenizer.json").read_text("utf-8")
    return FastTokenizer(serialized, max_tokens=256, added_tokens=2)


@cache
def byte_level() -> FastTokenizer:
    """A byte-level BPE as many newer models have it: blanks belong to the tokens of the word behind them."""
    tokenizer = RustTokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([re.__doc__ or "", pytest.__doc__ or "", str.__doc__ or ""] * 3, trainer)
    return FastTokenizer(tokenizer.to_str(), max_tokens=256, added_tokens=2)


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "wordpiece": wordpiece,
    "byte level": byte_level,
    "stand-in": WordTokenizer,
}

# Text as it comes: words in many scripts, marks, blanks, controls, special tokens by name, and anything at all.
fragments = st.sampled_from(
    [
        "word",
        "Straße",
        "e\u0301te\u0301",
        "naïve",
        "漢字",
        "한국어",
        "ﬁn",
        "İstanbul",
        "...",
        "x" * 120,
        "a-b_c",
        "[SEP]",
        "\u200b",
        "\x07",
        "\u0301",
        "👩‍🚀",
        "\n\n",
        "\t",
        "antidisestablishmentarianism",
        "1,000.50",
        "\u00a0",
        "ﷺ",
        "\u2028",
    ]
)
blanks = st.sampled_from([" ", "", "  ", "\n"])
anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
texts = st.lists(st.tuples(fragments | anything, blanks), max_size=60).map(lambda parts: "".join(map("".join, parts)))
specs = st.builds(
    lambda room, overlap, method: ChunkSpec(room + 2, min(overlap, room - 1), method),
    st.integers(8, 40),
    st.integers(0, 20),
    st.sampled_from(["stable", "windows"]),
)


@pytest.fixture(params=TOKENIZERS, scope="module")
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return TOKENIZERS[request.param]()


@given(text=texts)
def test_an_encoding_points_into_the_original_text(tokenizer: Tokenizer, text: str) -> None:
    encoding = tokenizer.encode(text)
    assert len(encoding.ids) == len(encoding.offsets) == len(encoding.word_ids)
    assert all(0 <= start <= end <= len(text) for start, end in encoding.offsets)
    assert [start for start, _ in encoding.offsets] == sorted(start for start, _ in encoding.offsets)


@given(batch=st.lists(texts, max_size=4))
def test_a_batch_is_its_texts_one_by_one(tokenizer: Tokenizer, batch: list[str]) -> None:
    def facts(encoding: Encoding) -> tuple[object, ...]:
        return list(encoding.ids), list(encoding.offsets), list(encoding.word_ids)

    assert [facts(e) for e in tokenizer.encode_batch(batch)] == [facts(tokenizer.encode(text)) for text in batch]


@given(text=texts, spec=specs)
@settings(max_examples=200)
def test_a_chunk_alone_reads_as_it_does_in_its_text(tokenizer: Tokenizer, text: str, spec: ChunkSpec) -> None:
    for piece in chunk(text, spec, tokenizer):
        assert tuple(tokenizer.encode(piece.text).ids) == piece.token_ids
        assert 0 < len(piece.token_ids) <= spec.max_tokens - tokenizer.added_tokens


@given(text=texts, spec=specs)
def test_chunks_leave_nothing_out(tokenizer: Tokenizer, text: str, spec: ChunkSpec) -> None:
    pieces = chunk(text, spec, tokenizer)
    assume(pieces)
    covered = 0
    for number, piece in enumerate(pieces):
        assert piece.no == number
        gap = len(text) - len(text[covered:].lstrip())  # the chunk has to start before the next visible character
        start = text.rfind(piece.text, 0, gap + len(piece.text))
        assert start >= 0, "characters between two chunks"
        covered = max(covered, start + len(piece.text))
    assert not text[covered:].strip()


@given(batch=st.lists(texts, max_size=4), spec=specs)
def test_chunks_are_the_same_every_time_and_in_every_batch(
    tokenizer: Tokenizer, batch: list[str], spec: ChunkSpec
) -> None:
    assert chunk_batch(batch, spec, tokenizer) == [chunk(text, spec, tokenizer) for text in batch]


@given(text=texts, spec=specs)
def test_occurrence_tells_equal_chunks_apart(tokenizer: Tokenizer, text: str, spec: ChunkSpec) -> None:
    pieces = chunk(" ".join([text] * 3), spec, tokenizer)
    assert len({(piece.hash, piece.occurrence) for piece in pieces}) == len(pieces)
    for piece in pieces:
        assert piece.occurrence == sum(other.hash == piece.hash for other in pieces[: piece.no])
        assert all((other.hash == piece.hash) == (other.text == piece.text) for other in pieces)


def test_nothing_gives_no_chunks(tokenizer: Tokenizer) -> None:
    assert chunk_batch(["", " ", "\n\t \u00a0"], ChunkSpec(16, 4), tokenizer) == [[], [], []]


def test_real_tokenizers_can_be_cut_at_word_borders() -> None:
    refuse_context(wordpiece(), "wordpiece")
    refuse_context(byte_level(), "byte level")
