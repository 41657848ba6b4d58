"""Whether every weight of the model came from its files: a missing one would be random, and another in each process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open

from consumer.errors import Exit, Stop


def refuse_incomplete(network: Any, folders: Sequence[Path], name: str) -> None:
    """Raise Stop if `network`, a transformers model loaded from one of `folders`, has weights that no file holds.

    Names are compared first, which costs nothing; only where they differ (tied or renamed weights) the library loads
    the model once more and says itself what it missed. Poolers are left out: sentence-transformers does not run them.
    """
    if _all_stored(_used(network.state_dict()), _stored_names(folders)):
        return
    home = next(folder for folder in folders if any(folder.glob("*.safetensors")))
    _, report = type(network).from_pretrained(
        home, config=network.config, output_loading_info=True, local_files_only=True, use_safetensors=True
    )
    missing = sorted(_used(report["missing_keys"]))
    if missing:
        raise Stop(
            f"The weights of {name} are incomplete.",
            f"{len(missing)} parameters are in no file, the first is {missing[0]}; they would be random.",
            "Download the model again, or choose another revision.",
            exit_code=Exit.USAGE,
        )


def _used(keys: Iterable[str]) -> list[str]:
    return [key for key in keys if "pooler" not in key.split(".")]


def _stored_names(folders: Sequence[Path]) -> set[str]:
    names: set[str] = set()
    for path in (path for folder in folders for path in folder.glob("*.safetensors")):
        with safe_open(path, framework="numpy") as file:
            names.update(file.keys())
    return names


def _all_stored(keys: Iterable[str], stored: set[str]) -> bool:
    """Whether each key is a stored name, but for a wrapper's prefix that one side kept and the other has not."""
    unprefixed = {tail for name in stored for tail in _tails(name)}
    return all(key in unprefixed or not stored.isdisjoint(_tails(key)) for key in keys)


def _tails(name: str) -> list[str]:
    """The name, and the name without its leading parts, one by one."""
    parts = name.split(".")
    return [".".join(parts[start:]) for start in range(len(parts))]
