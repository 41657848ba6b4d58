"""Where the project's data files lie: inside the installed wheel, or beside the package in a checkout."""

from __future__ import annotations

from pathlib import Path

import consumer


def resource(relative: str) -> Path:
    """The path of `connectors/…` or `ops/…`, whether installed from a wheel or run from a checkout."""
    package = Path(consumer.__file__).parent
    installed = package / "_data" / relative
    return installed if installed.exists() else package.parent / relative
