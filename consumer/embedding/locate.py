"""Where a model's files are: a local folder, a folder inside an installed package, or a pinned commit of the hub."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from consumer.errors import Exit, Stop

_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_PACKAGE = "package:"
# What loading reads. Pickled weights, ONNX exports and the like stay where they are.
_WANTED = ["*.json", "*.txt", "*.model", "*.safetensors"]


@dataclass(frozen=True, slots=True)
class Located:
    """A model's folder, and the name and revision its vectors are known by."""

    folder: Path
    name: str
    revision: str


def locate(model: str, revision: str | None) -> Located:
    """Find the folder of `model`.

    Only a hub id that is not in the local cache touches the network. Raises Stop naming the fix.
    """
    if model.startswith(_PACKAGE):
        _refuse_revision(model, revision)
        return Located(_package_folder(model.removeprefix(_PACKAGE)), model, "")
    if not _is_of_hub(model, revision):
        _refuse_revision(model, revision)
        folder = _local_folder(Path(model).expanduser())
        return Located(folder, folder.name, "")
    pinned = _refuse_unpinned(model, revision)
    return Located(_cached(model, pinned) or _downloaded(model, pinned), model, pinned)


def check_name(model: str, revision: str | None) -> None:
    """Raise Stop for what `locate` would refuse, without asking the hub."""
    if _is_of_hub(model, revision):
        _refuse_unpinned(model, revision)
    else:
        locate(model, revision)


def _is_of_hub(model: str, revision: str | None) -> bool:
    """Whether `model` names neither a package nor a folder."""
    if model.startswith((_PACKAGE, "/", ".", "~")):
        return False
    return bool(revision) or not Path(model).is_dir()


def _refuse_revision(model: str, revision: str | None) -> None:
    if revision:
        raise _unusable(
            f"embedding.revision is set, but {model} is no model of the hub.",
            "A local model is pinned by the hash of its weights, not by a commit.",
            "Remove embedding.revision.",
        )


def _local_folder(folder: Path) -> Path:
    if folder.is_dir():
        return folder.resolve()
    raise _unusable(
        f"The model folder {folder} does not exist.",
        "embedding.model names it.",
        "Correct the path, or name a hub model with its revision.",
    )


def _package_folder(package: str) -> Path:
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None or spec.submodule_search_locations is None:
        raise _unusable(
            f"The Python package {package} is not installed.",
            f"embedding.model is {_PACKAGE}{package}.",
            f"Install it, for instance with `pip install {package.replace('_', '-')}`.",
        )
    roots = [Path(location) for location in spec.submodule_search_locations]
    found = sorted(path.parent for root in roots for path in root.rglob("modules.json"))
    if len(found) == 1:
        return found[0]
    raise _unusable(
        f"The Python package {package} holds {len(found)} sentence-transformers models.",
        "A model folder is one with a modules.json, and exactly one is needed.",
        "Give the folder itself as embedding.model.",
    )


def _refuse_unpinned(model: str, revision: str | None) -> str:
    if not _HUB_ID.fullmatch(model):
        raise _unusable(f"{model!r} is no model.", "It is neither a hub id nor a path.", "Correct embedding.model.")
    if not revision or not _COMMIT.fullmatch(revision):
        raise _unusable(
            f"embedding.revision must be the full commit of {model}, 40 hexadecimal digits.",
            "Branches and tags move, and vectors of different weights cannot be compared.",
            "Copy the commit from the model's page.",
        )
    return revision


def _cached(model: str, revision: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        found = snapshot_download(model, revision=revision, allow_patterns=_WANTED, local_files_only=True)
    except LocalEntryNotFoundError:
        return None
    folder = Path(str(found))
    return folder if (folder / "modules.json").exists() else None


def _downloaded(model: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return Path(str(snapshot_download(model, revision=revision, allow_patterns=_WANTED)))
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise _unusable(
            f"The hub has no model {model} at revision {revision} that you may read.",
            f"It answered {type(error).__name__}.",
            "Correct embedding.model or embedding.revision, or set HF_TOKEN for a private or gated model.",
        ) from None
    except Exception as error:
        raise Stop(
            f"The model {model} is not on this machine and could not be downloaded.",
            f"The hub could not be reached ({type(error).__name__}).",
            "Restore the connection, or copy the model here and give its folder as embedding.model.",
            exit_code=Exit.UNREACHABLE,
        ) from None


def _unusable(what: str, why: str, fix: str) -> Stop:
    return Stop(what, why, fix, exit_code=Exit.USAGE)
