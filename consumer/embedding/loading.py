"""From a configuration to a running engine, or to a Stop that says why not. Nothing is ever replaced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from transformers.utils import logging as library_logging

from consumer.embedding import packed
from consumer.embedding.completeness import refuse_incomplete
from consumer.embedding.engine import EngineConfig
from consumer.embedding.folder import module_folders, refuse_pickles, setup_sha256, weights_sha256
from consumer.embedding.heap import keep_freed
from consumer.embedding.identity import Identity
from consumer.embedding.inputs import InputFormat
from consumer.embedding.locate import Located, locate
from consumer.embedding.processor import computes_natively
from consumer.embedding.threads import available_cpus
from consumer.embedding.torch_engine import TorchEngine
from consumer.errors import Exit, Stop

_PROFILE = "torch"  # names the arithmetic; one whose vectors differ gets another name
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(config: EngineConfig) -> TorchEngine:
    """Load what `config` names. Raises Stop with the reason and the fix."""
    device = _device(config.device)
    dtype = _dtype(config.dtype, device)
    located = locate(config.model, config.revision)
    folders = module_folders(located.folder, located.name)
    refuse_pickles(folders, located.name)
    torch.set_num_threads(config.threads or available_cpus())
    model = _modules(located, device, dtype)
    refuse_incomplete(model[0].model, folders, located.name)
    inputs = InputFormat(model[0], located.name, config.document_prompt, config.query_prompt)
    normalize = _missing_normalization(model, config, located.name)
    identity = _identity(config, located, folders, model)
    if device == "cpu":
        keep_freed()
        if packed.available(dtype):
            packed.pack(model)
    return TorchEngine(model, inputs, identity, budget=config.token_budget, normalize=normalize)


def _identity(config: EngineConfig, located: Located, folders: list[Path], model: Any) -> Identity:
    return Identity(
        model=located.name,
        revision=located.revision,
        weights_sha256=weights_sha256(folders),
        setup_sha256=setup_sha256(folders),
        document_prompt=config.document_prompt,
        query_prompt=config.query_prompt,
        pooling=", ".join(str(module.pooling_mode) for module in model if isinstance(module, Pooling)),
        normalize=config.normalize,
        dimension=model.get_embedding_dimension(),
        dtype=config.dtype,
        profile=_PROFILE,
    )


def _modules(located: Located, device: str, dtype: torch.dtype) -> Any:
    """The model on its device, from local files and without foreign code."""
    try:
        with _quiet():
            return SentenceTransformer(
                str(located.folder),
                device=device,
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"use_safetensors": True, "dtype": dtype},
            ).to(dtype)
    except Exception as error:
        first_line = str(error).strip().split("\n", 1)[0][:300]
        raise Stop(
            f"The model {located.name} cannot be loaded.",
            f"{type(error).__name__}: {first_line.rstrip('.')}.",
            "Download it again, or choose a model that needs no code of its own.",
            exit_code=Exit.FAILED,
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bar for reading a few local files."""
    was_shown = library_logging.is_progress_bar_enabled()
    library_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if was_shown:
            library_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _missing_normalization(model: Any, config: EngineConfig, name: str) -> bool:
    """Whether the engine has to normalize because the model does not. Raises Stop if it does against the settings."""
    built_in = any(isinstance(module, Normalize) for module in model)
    if built_in and not config.normalize:
        raise _usage(
            f"embedding.normalize is false, but {name} normalizes its vectors itself.",
            "Its last step cannot be left out without making it another model.",
            "Set embedding.normalize to true.",
        )
    return config.normalize and not built_in


def _device(name: str) -> str:
    """The device as torch names it; `auto` is the first GPU if there is one."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda:0" if count else "cpu"
    kind, _, index = name.partition(":")
    if kind == "cpu" and not index:
        return "cpu"
    if kind == "cuda" and (index or "0").isdecimal():
        if int(index or 0) < count:
            return f"cuda:{int(index or 0)}"
        raise _usage(
            f"embedding.device is {name}, but torch sees {count} CUDA devices.",
            "Either there is no such GPU, or its driver or the CUDA build of torch is missing.",
            "Set embedding.device to auto or cpu, or install the driver.",
        )
    raise _usage(f"embedding.device {name!r} is unknown.", "", "Use auto, cpu, cuda or cuda:<number>.")


def _dtype(name: str, device: str) -> torch.dtype:
    if name not in _DTYPES:
        raise _usage(f"embedding.dtype {name!r} is unknown.", "", f"Use one of {', '.join(_DTYPES)}.")
    if device == "cpu" and not computes_natively(name):
        raise _usage(
            f"embedding.dtype is {name}, but this processor does not compute with it.",
            "It would be emulated: slower than float32, and less exact.",
            "Set embedding.dtype to float32, or run where the processor has instructions for it.",
        )
    return _DTYPES[name]


def _usage(what: str, why: str, fix: str) -> Stop:
    return Stop(what, why, fix, exit_code=Exit.USAGE)
