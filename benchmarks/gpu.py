"""The engine on one GPU: `python -m benchmarks.gpu [--seconds 20] [--out FILE]`, from a checkout, in under 8 minutes.

Needs torch, transformers and sentence-transformers; no network, services or model files: the models have the shapes of
MiniLM and of bge-base with random weights, which changes no speed, and texts and vocabulary are made up. It is the
product's own engine, fed as a GPU has to be: a tokenizer ahead in one thread, passes in half precision packed by
length, copies from pinned memory, a writer behind in another thread. The baseline is `encode(batch_size=32)` of the
same model in float32, in the same run. Tokens are those of the texts with their special tokens; padding is not counted.

Not measured on a GPU so far. With `--device cpu` a tiny model shows that it runs, and nothing is reported.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from consumer.embedding import Engine, EngineConfig, load_engine

BUDGETS = (16_384, 65_536, 262_144)
VOCABULARY, LONGEST, CALL = 30_522, 256, 8_192  # CALL: texts of one call of the engine
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Shape:
    """A BERT: layers, width, heads and inner width."""

    name: str
    layers: int
    width: int
    heads: int
    inner: int


SHAPES = (Shape("minilm_l6", 6, 384, 12, 1536), Shape("bge_base", 12, 768, 12, 3072))
TINY = Shape("tiny", 2, 32, 2, 64)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.gpu", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:<n>, or cpu to see that it runs")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each of the eight measurements")
    parser.add_argument("--out", type=Path, help="also write the report here")
    chosen = parser.parse_args()
    if chosen.device == "cpu":
        with _model(TINY) as folder:
            measure(folder, TINY, "cpu", "float32", (1024,), chosen.seconds, CALL // 64)
        report: dict[str, object] = {"gpu": "not measured on a GPU", "figures": []}
    else:
        figures = []
        for shape in SHAPES:
            with _model(shape) as folder:
                figures += measure(folder, shape, chosen.device, "float16", BUDGETS, chosen.seconds, CALL)
        name = torch.cuda.get_device_name(torch.device(chosen.device))
        report = {"gpu": name, "torch": torch.__version__, "figures": figures}
    text = json.dumps(report, indent=2)
    print(text)
    if chosen.out:
        chosen.out.write_text(text + "\n", encoding="utf-8")


def measure(
    folder: Path, shape: Shape, device: str, dtype: str, budgets: Sequence[int], seconds: float, count: int
) -> list[dict[str, object]]:
    """Tokens a second at each budget and of the baseline, how busy the GPU was, and the ratio of the best to it."""
    texts = _texts(count)
    baseline = _baseline(folder, texts, device, seconds)
    figures: list[dict[str, object]] = []
    for budget in budgets:
        engine = load_engine(EngineConfig(str(folder), device=device, dtype=dtype, token_budget=budget))
        engine.warm_up()
        with _fed(engine, texts) as step:
            rate, busy = _rate(step, _tokens_of(engine, texts), seconds, device)
        made = {"model": shape.name, "dtype": dtype, "token_budget": budget, "tokens_per_s": round(rate)}
        figures.append({**made, "gpu_busy_percent": busy, "to_float32_encode_32": round(rate / baseline, 2)})
        del engine
        if device != "cpu":
            torch.cuda.empty_cache()
    return [*figures, {"model": shape.name, "baseline": "float32 encode(32)", "tokens_per_s": round(baseline)}]


def _baseline(folder: Path, texts: Sequence[str], device: str, seconds: float) -> float:
    model = SentenceTransformer(str(folder), device=device, local_files_only=True)
    ids = model.tokenizer(list(texts), truncation=True, max_length=LONGEST)["input_ids"]
    return _rate(lambda: model.encode(list(texts), batch_size=32), sum(map(len, ids)), seconds, device)[0]


@contextmanager
def _fed(engine: Engine, texts: Sequence[str]) -> Iterator[Callable[[], object]]:
    """One step: embed what was tokenized meanwhile, and hand the vectors to the writer."""

    def tokenize() -> list[Sequence[int]]:
        return [encoding.ids for encoding in engine.tokenizer.encode_batch(texts)]

    with ThreadPoolExecutor(1) as ahead, ThreadPoolExecutor(1) as behind:
        ready = [ahead.submit(tokenize)]
        written: list[Future[bytes]] = []

        def step() -> None:
            ids = ready.pop().result()
            ready.append(ahead.submit(tokenize))
            vectors = engine.embed(ids).vectors
            if written:
                written.pop().result()
            written.append(behind.submit(vectors.astype(">f4").tobytes))  # as COPY in binary takes them

        yield step


def _rate(step: Callable[[], object], tokens: int, seconds: float, device: str) -> tuple[float, float | None]:
    """Tokens a second over whole steps for at least `seconds`, one before them not counted; GPU busy in percent."""
    step()
    with _sampled(device) as busy:
        started, steps = time.perf_counter(), 0
        while (spent := time.perf_counter() - started) < seconds:
            step()
            steps += 1
    return steps * tokens / max(spent, 1e-9), round(statistics.mean(busy), 1) if busy else None


@contextmanager
def _sampled(device: str) -> Iterator[list[int]]:
    """What the driver says of the GPU's last moments, ten times a second; empty on a CPU."""
    samples: list[int] = []
    ended = Event()

    def sample() -> None:
        while not ended.wait(0.1):
            samples.append(torch.cuda.utilization(torch.device(device)))

    thread = Thread(target=sample, daemon=True)
    if device != "cpu":
        thread.start()
    try:
        yield samples
    finally:
        ended.set()
        if thread.is_alive():
            thread.join()


@contextmanager
def _model(shape: Shape) -> Iterator[Path]:
    """A sentence-transformers folder of this shape with random weights and a made-up vocabulary."""
    with tempfile.TemporaryDirectory() as place:
        folder, network = Path(place) / shape.name, Path(place) / "network"
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=shape.width,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            intermediate_size=shape.inner,
        )
        BertModel(config).save_pretrained(network)
        _tokenizer().save_pretrained(network)
        modules = [Transformer(str(network), max_seq_length=LONGEST), Pooling(shape.width, "mean"), Normalize()]
        SentenceTransformer(modules=modules, device="cpu").save(str(folder), create_model_card=False)
        yield folder


def _tokenizer() -> PreTrainedTokenizerFast:
    """WordPiece as BERT has it, over words that mean nothing."""
    words = [*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS), *_words()]
    made = Tokenizer(WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = BertPreTokenizer()
    made.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


def _words() -> list[str]:
    chance, made = random.Random(1), set[str]()
    while len(made) < VOCABULARY - len(SPECIAL) - 2 * len(LETTERS):
        made.add("".join(chance.choices(LETTERS, k=chance.randint(2, 8))))
    return sorted(made)


def _texts(count: int) -> list[str]:
    """Rows as tables have them: mostly 20 to 120 words, some that fill the model."""
    chance, words = random.Random(2), _words()
    lengths = [min(LONGEST - 2, int(chance.lognormvariate(4.0, 0.7))) for _ in range(count)]
    return [" ".join(chance.choices(words, k=max(3, length))) for length in lengths]


def _tokens_of(engine: Engine, texts: Sequence[str]) -> int:
    added = engine.tokenizer.added_tokens
    return sum(len(encoding.ids) + added for encoding in engine.tokenizer.encode_batch(texts))


if __name__ == "__main__":
    main()
