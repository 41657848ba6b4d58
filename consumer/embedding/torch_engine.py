"""The torch engine: the modules of a sentence-transformers model, run on passes of our own making."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from consumer.embedding.engine import Embedded
from consumer.embedding.heap import give_back
from consumer.embedding.identity import Identity
from consumer.embedding.inputs import InputFormat
from consumer.embedding.lanes import Lanes
from consumer.embedding.tokenizer import FastTokenizer
from consumer.errors import Reject

# Padded tokens of one pass; on a CPU of all passes side by side. CPU: MiniLM on 2 cores, both on one pass of 60 words a
# text, ran at 7.7-8.6k tokens/s with a budget of 256, 9.0-9.4k with 512, 10.0-10.2k with 1024, 10.5-10.7k with 2048;
# beyond that (measured before) a pass leaves the caches. CUDA: not measured; a pass that does not fit is halved.
AUTO_BUDGET = {"cpu": 1024, "cuda": 16384}
MODEL_ERROR = "model_error"
_UNTIDIED_PASSES = 64  # some seconds of model work: what is given back has to be fetched again
_RATE_WEIGHT = 0.2  # of the newest call in the measured rate
_ALLOCATION_FAILED = ("DefaultCPUAllocator", "not enough memory")  # how torch says MemoryError on a CPU


class TorchEngine:
    """Runs the modules under inference mode. Calls block; one thread at a time."""

    def __init__(
        self, model: Any, inputs: InputFormat, identity: Identity, *, budget: int | Literal["auto"], normalize: bool
    ) -> None:
        """`model` is a SentenceTransformer in place on its device; `normalize` adds what its modules do not do."""
        self._modules, self._inputs, self._normalize = model.eval(), inputs, normalize
        self._device: torch.device = model.device
        self._lanes = Lanes(torch.get_num_threads() if self._device.type == "cpu" else 1)
        self.identity = identity
        self.token_budget = AUTO_BUDGET[self._device.type] if budget == "auto" else budget
        self._rate, self._untidied = 0.0, 0
        self._probe = list(self.tokenizer.encode("probe").ids)

    @property
    def tokenizer(self) -> FastTokenizer:
        """The model's tokenizer; safe in another thread while the model runs."""
        return self._inputs.tokenizer

    @property
    def dimension(self) -> int:
        """Length of one vector."""
        return self.identity.dimension

    @property
    def device(self) -> str:
        """Where the model runs, for instance `cpu` or `cuda:0`."""
        return str(self._device)

    @property
    def tokens_per_second(self) -> float:
        """Tokens, special ones included, per second of model work; 0.0 before `warm_up`.

        Taken from calls of at least half a full pass, since a lone text says little about that.
        """
        return self._rate

    def warm_up(self) -> None:
        """One short text and two full passes: allocations and kernels are made, and the rate is known."""
        length = min(64, self.tokenizer.max_tokens - self.tokenizer.added_tokens)
        ids = (list(self.tokenizer.encode("the quick brown fox jumps over the lazy dog " * 16).ids) * length)[:length]
        self.embed([ids[:1]])
        rows = max(1, self.token_budget // (length + self.tokenizer.added_tokens))
        for _ in range(2):
            self._rate = 0.0  # the first full pass allocates and says nothing about the next
            self.embed([ids] * rows)

    def embed(self, token_ids: Sequence[Sequence[int]]) -> Embedded:
        """Vectors of chunks given as content token ids, in their order.

        A text that fits into no memory even alone, that the model fails on, or whose vector is not finite, is in
        `failures`. Whatever torch raises comes through only if the model fails on a harmless text too.
        """
        rows, started = [self._inputs.document(ids) for ids in token_ids], perf_counter()
        made: list[tuple[list[int], torch.Tensor]] = []  # still on the device, which works ahead of us
        failures: dict[int, Reject] = {}
        lengths = [self._inputs.length(len(row)) for row in rows]
        self._lanes.run(lambda indices: self._fill(made, failures, rows, indices), lengths, self.token_budget)
        vectors = np.zeros((len(rows), self.dimension), dtype=np.float32)
        for indices, tensor in made:
            vectors[indices] = tensor.cpu().numpy()
        if not failures:
            self._measure(sum(map(len, rows)), perf_counter() - started)
        if any(failure.error_type == MODEL_ERROR for failure in failures.values()):
            self._forward([self._inputs.document(self._probe)])  # raises where not the texts but the device is at fault
        for index in np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist():
            vectors[index] = 0
            failures[index] = _reject("The model's vector of a text is not finite.", "not_finite")
        return Embedded(vectors, failures)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Vector of a question, shape (dimension,). Raises Reject as `embed` reports it."""
        vector = self._forward([self._inputs.query(text)], query=True)
        if vector is None:
            raise _out_of_memory()
        asked: NDArray[np.float32] = vector.cpu().numpy().reshape(self.dimension)
        if not np.isfinite(asked).all():
            raise _reject("The model's vector of the query is not finite.", "not_finite")
        return asked

    def _fill(
        self,
        made: list[tuple[list[int], torch.Tensor]],
        failures: dict[int, Reject],
        rows: list[list[int]],
        indices: list[int],
    ) -> None:
        """One pass, added to `made`; in halves when memory or the model fails, down to one text."""
        failure = None
        try:
            vectors = self._forward([rows[index] for index in indices])
        except (RuntimeError, IndexError, ValueError) as error:
            vectors, failure = None, _reject(f"The model fails on a text ({type(error).__name__}).", MODEL_ERROR)
        if vectors is not None:
            made.append((indices, vectors))
        elif len(indices) == 1:
            failures[indices[0]] = failure or _out_of_memory()
        else:
            middle = len(indices) // 2
            self._fill(made, failures, rows, indices[:middle])
            self._fill(made, failures, rows, indices[middle:])

    def _forward(self, rows: list[list[int]], *, query: bool = False) -> torch.Tensor | None:
        """One forward pass, shape (len(rows), dimension), on the device; None if memory does not suffice."""
        try:
            made = self._run(rows, query)
        except (torch.OutOfMemoryError, MemoryError):
            made = None
        except RuntimeError as error:
            if not any(words in str(error) for words in _ALLOCATION_FAILED):
                raise
            made = None
        if made is None:  # outside the handlers, whose traceback holds the tensors
            self._give_back_memory()
            return None
        self._tidy(len(rows) * max(map(len, rows)))
        return made

    def _run(self, rows: list[list[int]], query: bool) -> torch.Tensor:
        with torch.inference_mode():
            features = self._inputs.features(rows, query=query)
            for name, value in features.items():
                if isinstance(value, torch.Tensor):
                    features[name] = self._moved(value)
            vectors = self._modules(features)["sentence_embedding"]
            if self._normalize:
                vectors = torch.nn.functional.normalize(vectors, p=2, dim=1)
            made: torch.Tensor = vectors.float()
            return made

    def _moved(self, value: torch.Tensor) -> torch.Tensor:
        """On the device; from pinned memory the copy runs beside the pass before."""
        return value.pin_memory().to(self._device, non_blocking=True) if self._device.type == "cuda" else value

    def _tidy(self, tokens: int) -> None:
        """Once in a while: what passes and tokenization have left free goes back to the system."""
        self._untidied += tokens
        if self._device.type == "cpu" and self._untidied >= _UNTIDIED_PASSES * self.token_budget:
            self._untidied = 0
            give_back()

    def _give_back_memory(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _measure(self, tokens: int, seconds: float) -> None:
        if 2 * tokens >= self.token_budget and seconds > 0:
            rate = tokens / seconds
            self._rate = rate if not self._rate else (1 - _RATE_WEIGHT) * self._rate + _RATE_WEIGHT * rate


def _out_of_memory() -> Reject:
    return _reject("A text needs more memory in the model than there is, even alone.", "out_of_memory")


def _reject(what: str, error_type: str) -> Reject:
    return Reject(what, stage="embed", error_type=error_type)
