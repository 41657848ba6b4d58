"""What the settings say about the content of one table, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class ChunkSpec:
    """How a text is cut: into chunks of at most `max_tokens` model tokens, neighbours sharing up to `overlap` of them.

    `stable` chunks end where the content says, so that an edit leaves the others alone; `windows` are all full.
    `max_tokens` counts the whole model input, special tokens and document prompt included, so that 256 means what a
    model with a limit of 256 means. `overlap` counts content tokens.
    """

    max_tokens: int = 256
    overlap: int = 32
    method: Literal["stable", "windows"] = "stable"


@dataclass(frozen=True, slots=True)
class ContentSpec:
    """One table's `text` and `when` templates, metadata columns and chunk settings. `table` is for messages only."""

    table: str
    text: str
    when: str | None = None
    metadata: tuple[str, ...] = ()
    chunk: ChunkSpec = field(default_factory=ChunkSpec)
