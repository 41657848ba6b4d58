"""Windows: how they overlap, where they are cut, and which settings cannot work."""

from __future__ import annotations

from itertools import pairwise

import pytest

from consumer.content import ChunkSpec, check_chunking, chunk
from consumer.embedding.tokenizer import FastTokenizer
from consumer.errors import Exit, Reject, Stop
from tests.tiny_model import minilm_folder


@pytest.fixture(scope="module")
def tokenizer() -> FastTokenizer:
    serialized = (minilm_folder() / "tokenizer.json").read_text("utf-8")
    return FastTokenizer(serialized, max_tokens=256, added_tokens=2)


def test_windows_share_the_overlap_and_end_at_words(tokenizer: FastTokenizer) -> None:
    text = " ".join(f"{letter}{letter}" for letter in "abcdefghij")  # every word is one or two tokens
    words = [chunked.text.split() for chunked in chunk(text, ChunkSpec(8, 2, "windows"), tokenizer)]
    assert [word for window in words for word in window if word not in text.split()] == []
    for window, following in pairwise(words):
        shared = [word for word in window if word in following]
        assert 1 <= len(shared) <= 2
        assert following[: len(shared)] == window[-len(shared) :] == shared


def test_without_overlap_windows_are_disjoint_and_full(tokenizer: FastTokenizer) -> None:
    pieces = chunk("one two three four five six seven eight nine ten", ChunkSpec(6, 0, "windows"), tokenizer)
    assert [piece.text for piece in pieces] == ["one two three four", "five six seven eight", "nine ten"]


def test_a_text_that_fits_is_one_chunk_without_its_outer_blanks(tokenizer: FastTokenizer) -> None:
    (only,) = chunk("\n  Hello,  World! \t", ChunkSpec(), tokenizer)
    assert only.text == "Hello,  World!"
    assert only.occurrence == 0


def test_offsets_follow_the_original_where_the_normalizer_changes_lengths(tokenizer: FastTokenizer) -> None:
    text = "\x00İe\u0301\u200b ÀÉ ﬁ 漢字 " * 20
    pieces = chunk(text, ChunkSpec(16, 0, "windows"), tokenizer)
    assert "".join("".join(piece.text.split()) for piece in pieces) == "".join(text.split())


def test_text_that_the_tokenizer_reads_nothing_of_has_no_chunks(tokenizer: FastTokenizer) -> None:
    assert chunk("\u200b\x07\u0301", ChunkSpec(), tokenizer) == []


@pytest.mark.semantics("values", "word longer than a chunk", "cut into pieces that fit")
def test_a_word_longer_than_a_chunk_is_cut_into_pieces_that_fit(tokenizer: FastTokenizer) -> None:
    word = "antidisestablishmentarianism" * 3
    pieces = chunk(f"before {word} after", ChunkSpec(8, 2, "windows"), tokenizer)
    assert "".join(piece.text for piece in pieces[1:-1]) == word
    assert (pieces[0].text, pieces[-1].text) == ("before", "after")


def test_repeated_chunks_are_counted(tokenizer: FastTokenizer) -> None:
    pieces = chunk("same words here again " * 3, ChunkSpec(6, 0, "windows"), tokenizer)
    assert [piece.occurrence for piece in pieces] == [0, 1, 2]


@pytest.mark.semantics("values", "character that has more tokens than a chunk", "failed document, without its text")
def test_a_character_that_fits_into_no_chunk_is_rejected_without_showing_it(tokenizer: FastTokenizer) -> None:
    with pytest.raises(Reject) as fault:
        chunk("각각", ChunkSpec(4, 0, "windows"), tokenizer)  # each syllable is three tokens, and there is room for two
    assert (fault.value.stage, fault.value.error_type) == ("chunk", "indivisible")
    assert "각" not in str(fault.value)


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        (ChunkSpec(257, 32, "windows"), ("257", "256")),
        (ChunkSpec(64, 64, "windows"), ("64",)),
        (ChunkSpec(64, 63, "windows"), ("64", "63", "62")),
        (ChunkSpec(64, -1, "windows"), ("-1",)),
    ],
)
def test_settings_that_cannot_work_stop_the_start(
    tokenizer: FastTokenizer, spec: ChunkSpec, named: tuple[str, ...]
) -> None:
    with pytest.raises(Stop) as fault:
        check_chunking("shop.products", spec, tokenizer)
    assert fault.value.exit_code is Exit.USAGE
    assert all(part in str(fault.value) for part in ("shop.products", *named))


def test_settings_up_to_the_models_limit_work(tokenizer: FastTokenizer) -> None:
    check_chunking("shop.products", ChunkSpec(256, 253, "windows"), tokenizer)
