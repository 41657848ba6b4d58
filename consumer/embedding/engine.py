"""The public face of the room: how an engine is configured, what it promises and what one call returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from consumer.embedding.identity import Identity
from consumer.errors import Reject

if TYPE_CHECKING:  # the engine runs without the rooms that read rows, and without their libraries
    from consumer.content import Tokenizer


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Which model runs, and how.

    `model` is a hub id, a local folder or `package:<import name>`; `revision` is a hub id's full commit and stays empty
    for the others, whose weights are pinned by their hash. `device` is auto, cpu, cuda or cuda:<n>; `dtype` float32,
    bfloat16 or float16; `token_budget` bounds the padded tokens of one forward pass. `threads` is the number of CPU
    threads of the model, by default as many as the process may use.
    """

    model: str
    revision: str | None = None
    device: str = "auto"
    dtype: str = "float32"
    token_budget: int | Literal["auto"] = "auto"  # noqa: S105 (no secret)
    document_prompt: str = ""
    query_prompt: str = ""
    normalize: bool = True
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors in input order, float32 of shape (n, dimension). A row named in `failures` is zeros, not to be used."""

    vectors: NDArray[np.float32]
    failures: Mapping[int, Reject] = field(default_factory=dict)


class Engine(Protocol):
    """A loaded model. Calls block and are not meant for two threads at once."""

    @property
    def identity(self) -> Identity:
        """Everything that makes vectors incomparable."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer; safe to use in another thread while the model runs."""

    @property
    def dimension(self) -> int:
        """Length of one vector."""

    @property
    def device(self) -> str:
        """Where the model runs, for instance `cpu` or `cuda:0`."""

    @property
    def token_budget(self) -> int:
        """Padded tokens of one forward pass."""

    @property
    def tokens_per_second(self) -> float:
        """Measured content and added tokens per second of model work; 0.0 before the first pass."""

    def warm_up(self) -> None:
        """Run passes of a few shapes, so that the first document is not slow and the rate is known."""

    def embed(self, token_ids: Sequence[Sequence[int]]) -> Embedded:
        """Embed chunks given as content token ids; special tokens and the document prompt are added here."""

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Embed a question, shape (dimension,); like the model itself, it reads no further than its token limit."""


def load_engine(config: EngineConfig) -> Engine:
    """Load the model exactly as configured.

    Raises Stop naming the reason and the fix when that is not possible; nothing is ever replaced by something similar.
    """
    from consumer.embedding.loading import load  # torch is imported here, and only here

    return load(config)
