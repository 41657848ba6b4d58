"""Options that several commands share, and how they become settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from consumer.errors import Exit, Stop
from consumer.settings import Settings, load_settings

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="Settings file; default $EMBED_CONSUMER_CONFIG, else embed-consumer.yaml here."),
]
GroupOption = Annotated[str | None, typer.Option("--group", help="Consumer group; overrides the settings.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ExecuteOption = Annotated[bool, typer.Option("--execute", help="Do it; without this only the plan is printed.")]
TopicOption = Annotated[str, typer.Option("--topic", help="Topic of a table in the settings.")]
PartitionOption = Annotated[int | None, typer.Option("--partition", min=0, help="One partition; default: all.")]
SourceOption = Annotated[str | None, typer.Option("--source", help="Only this source.")]


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


def wrong_usage(what: str) -> Stop:
    """The fault of options that make no sense together, or of a value that is none."""
    return Stop(what, exit_code=Exit.USAGE)
