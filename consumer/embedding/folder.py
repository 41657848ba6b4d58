"""What is in a model folder, before anything of it is run: its modules, that its weights are safe, and their hashes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from hashlib import file_digest, sha256
from pathlib import Path

from consumer.errors import Exit, Stop

# Beside the weights these files decide what a text becomes.
_SETUP = (
    "modules.json",
    "config.json",
    "sentence_*_config.json",
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
)
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


def module_folders(folder: Path, name: str) -> list[Path]:
    """The folders of the model's modules in order, the model's own first. Raises Stop if the layout cannot be read."""
    try:
        modules = json.loads((folder / "modules.json").read_text("utf-8"))
        return list(dict.fromkeys([folder, *(folder / str(module["path"]) for module in modules)]))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise Stop(
            f"{name} is not a sentence-transformers model.",
            f"Its modules.json cannot be read ({type(error).__name__}), so how to pool its tokens is not known.",
            "Choose a model with a modules.json; pooling is never guessed.",
            exit_code=Exit.USAGE,
        ) from None


def refuse_pickles(folders: Sequence[Path], name: str) -> None:
    """Raise Stop if some module's weights come only in a format that can run code when it is read."""
    for folder in folders:
        if _matching([folder], _PICKLED) and not _matching([folder], ["*.safetensors"]):
            raise Stop(
                f"The model {name} has pickled weights only.",
                "Reading a pickle can run any code that its author put in.",
                "Choose a revision with safetensors weights, or convert them.",
                exit_code=Exit.USAGE,
            )
    if not _matching(folders, ["*.safetensors"]):
        raise Stop(
            f"The model {name} has no weights.",
            "There is no .safetensors file in its folders.",
            "Download the model again, completely.",
            exit_code=Exit.USAGE,
        )


def weights_sha256(folders: Sequence[Path]) -> str:
    """Hash over the names and contents of all weight files, as hex."""
    return _digest(folders[0], _matching(folders, ["*.safetensors"]))


def setup_sha256(folders: Sequence[Path]) -> str:
    """Hash over the names and contents of the tokenizer's and the modules' configuration files, as hex."""
    return _digest(folders[0], _matching(folders, _SETUP))


def _matching(folders: Sequence[Path], patterns: Iterable[str]) -> list[Path]:
    found = {path for folder in folders for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return sorted(found)


def _digest(root: Path, files: Iterable[Path]) -> str:
    total = sha256()
    for path in files:
        with path.open("rb") as file:
            total.update(f"{path.relative_to(root).as_posix()}\0".encode())
            total.update(file_digest(file, "sha256").digest())
    return total.hexdigest()
