"""Settings whose value is in a file that a variable names, as secrets are mounted: EMBEDDING_STORE__DSN_FILE=/run/…"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from consumer.errors import Exit, Stop

SUFFIX = "_FILE"


def files_named(environment: Mapping[str, str], prefix: str, known: Callable[[str], bool]) -> dict[str, Path]:
    """Variable without its suffix -> the file to read in its place. `known` says which variables are settings
    themselves: the name of one may end alike. Raises Stop where a setting is given in both ways."""
    found = {}
    for name, place in environment.items():
        if not (name.startswith(prefix) and name.endswith(SUFFIX)) or known(name):
            continue
        setting = name.removesuffix(SUFFIX)
        if setting in environment:
            raise Stop(f"${setting} and ${name} are both set.", "", "Keep one of them.", exit_code=Exit.USAGE)
        found[setting] = Path(place)
    return found


def content_of(files: Mapping[str, Path], path_of: Callable[[str], str]) -> dict[str, Any]:
    """The settings that stand in these files, nested. A section or list is JSON; a line's end is no part of a value."""
    content: dict[str, Any] = {}
    for setting, file in files.items():
        *sections, last = path_of(setting).split(".")
        inner = content
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = _value(setting, file)
    return content


def _value(setting: str, file: Path) -> Any:
    try:
        text = file.read_text(encoding="utf-8").strip()
        return json.loads(text) if text.startswith(("{", "[")) else text
    except (OSError, ValueError) as error:
        raise Stop(
            f"The file that ${setting}{SUFFIX} names cannot be read.",
            f"{file}: {type(error).__name__}.",
            "Name a file of text; a section or list in it is JSON.",
            exit_code=Exit.USAGE,
        ) from None
