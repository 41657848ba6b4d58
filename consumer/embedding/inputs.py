"""Content tokens -> exactly the tensors that sentence-transformers itself would have made of the text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from consumer.embedding.budget import padded
from consumer.embedding.tokenizer import FastTokenizer, refuse_context
from consumer.errors import Exit, Stop

_PROBES = ("word", "Überraschung", "42", "(x)", "漢字")
_KNOWN_FEATURES = {"input_ids", "attention_mask", "token_type_ids", "modality", "prompt_length"}
_UNLIMITED = 10**9  # tokenizers without a limit say about 10**30


class InputFormat:
    """How one model wants its input: special tokens, document prompt, padding and its side.

    Learned from what the model's own preprocessing makes of a few probes, and refused with Stop where that is not
    "something before, the content tokens, something after", because then chunks could not be put in as tokens.
    """

    def __init__(self, transformer: Any, name: str, document_prompt: str, query_prompt: str) -> None:
        self._name, self._query_prompt = name, query_prompt
        own = getattr(transformer, "tokenizer", None)
        if not isinstance(own, PreTrainedTokenizerFast):
            raise self._unusable("It has no fast tokenizer, so where its tokens stand in a text is not known")
        serialized = own.backend_tokenizer.to_str()
        plain = FastTokenizer(serialized, max_tokens=0, added_tokens=0)
        self._before, self._after, _ = self._frame(transformer, plain, "")
        self._document_before, _, self._document_prompt_length = self._frame(transformer, plain, document_prompt)
        self._query_prompt_length = self._frame(transformer, plain, query_prompt)[2]
        self._pad_id, self._pad_left = own.pad_token_id or 0, own.padding_side == "left"
        self._with_types = "token_type_ids" in transformer.preprocess([_PROBES[0]])
        added = len(self._document_before) + len(self._after)
        self.tokenizer = FastTokenizer(serialized, max_tokens=self._limit(transformer), added_tokens=added)
        refuse_context(self.tokenizer, name)

    def document(self, token_ids: Sequence[int]) -> list[int]:
        """One model input: special tokens, the document prompt and the content."""
        return [*self._document_before, *token_ids, *self._after]

    def query(self, text: str) -> list[int]:
        """One model input of a question under the query prompt, cut at the model's limit as the model itself does."""
        room = self.tokenizer.max_tokens - len(self._before) - len(self._after)
        return [*self._before, *self.tokenizer.encode(self._query_prompt + text).ids[:room], *self._after]

    def length(self, tokens: int) -> int:
        """What an input of so many tokens is padded to; never more than the model reads."""
        return max(tokens, min(padded(tokens), self.tokenizer.max_tokens))

    def features(self, rows: Sequence[Sequence[int]], *, query: bool = False) -> dict[str, Any]:
        """Padded int64 tensors of shape (len(rows), `length` of the longest row), on the CPU."""
        longest = self.length(max(map(len, rows)))
        ids = np.full((len(rows), longest), self._pad_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        for number, row in enumerate(rows):
            where = slice(longest - len(row), longest) if self._pad_left else slice(len(row))
            ids[number, where] = row
            mask[number, where] = 1
        features: dict[str, Any] = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        if self._with_types:
            features["token_type_ids"] = torch.from_numpy(np.zeros_like(ids))
        prompt_length = self._query_prompt_length if query else self._document_prompt_length
        if prompt_length is not None:  # only read by models that keep the prompt out of their pooling
            features["prompt_length"] = prompt_length
        return features

    def _frame(
        self, transformer: Any, plain: FastTokenizer, prompt: str
    ) -> tuple[tuple[int, ...], tuple[int, ...], int | None]:
        """The tokens before and after the content under `prompt`, and the prompt's length as the model counts it."""
        frames = set()
        for word in _PROBES:
            made = transformer.preprocess([word], prompt=prompt or None)
            if not made.keys() <= _KNOWN_FEATURES or made.get("modality", "text") != "text":
                raise self._unusable("It wants more than the tokens of a text")
            ids, content = made["input_ids"][0].tolist(), list(plain.encode(word).ids)
            after = next(
                (n for n in range(len(ids)) if content == ids[len(ids) - n - len(content) : len(ids) - n]), None
            )
            if after is None:
                raise self._unusable(f"Its tokens of a text differ under the prompt {prompt!r}")
            end = len(ids) - after
            frames.add((tuple(ids[: end - len(content)]), tuple(ids[end:]), made.get("prompt_length")))
        if len(frames) > 1:
            raise self._unusable(f"Its prompt {prompt!r} runs into the text")
        return frames.pop()

    def _limit(self, transformer: Any) -> int:
        limit = transformer.max_seq_length
        if limit is None or limit > _UNLIMITED:
            limit = getattr(transformer.config, "max_position_embeddings", None)
        if limit is None:
            raise self._unusable("It does not say how many tokens it reads")
        return int(limit)

    def _unusable(self, why: str) -> Stop:
        return Stop(
            f"The model {self._name} cannot be fed with tokens.",
            f"{why}.",
            "End a prompt with a colon and a blank, or choose another model.",
            exit_code=Exit.USAGE,
        )
