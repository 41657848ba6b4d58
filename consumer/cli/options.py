"""Options that several commands share, and how they become settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from consumer.settings import Settings, load_settings

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Settings file; default embed-consumer.yaml in this folder.")
]
GroupOption = Annotated[str | None, typer.Option("--group", help="Consumer group; overrides the settings.")]


@dataclass
class Given:
    """Options that stood before the command's name."""

    config: Path | None = None
    group: str | None = None


given = Given()


def load(config: Path | None, group: str | None) -> Settings:
    """The settings, and logging set up as they say."""
    group = group or given.group
    settings = load_settings(config or given.config, {"group": group} if group else None).settings
    from consumer.observe import configure_logging

    configure_logging(settings.log.level, settings.log.format, fields={"group": settings.group})
    return settings
