"""Options that several commands share, and how they become settings."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from consumer.errors import Exit, Stop
from consumer.settings import DEFAULT_FILE, Loaded, Settings, load_settings, own_variables


def countable(value: int | None) -> int | None:
    """The callback of options that become a number of Kafka or Postgres: neither counts beyond 63 bits."""
    if value is not None and value >= 2**63:
        raise typer.BadParameter(f"{value} is too large.")
    return value


ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="Settings file; default $EMBED_CONSUMER_CONFIG, else embed-consumer.yaml here."),
]
GroupOption = Annotated[str | None, typer.Option("--group", help="Consumer group; overrides the settings.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ExecuteOption = Annotated[bool, typer.Option("--execute", help="Do it; without this only the plan is printed.")]
TopicOption = Annotated[str, typer.Option("--topic", help="Topic of a table in the settings.")]
PartitionOption = Annotated[
    int | None, typer.Option("--partition", min=0, callback=countable, help="One partition; default: all.")
]
SourceOption = Annotated[str | None, typer.Option("--source", help="Only this source.")]


@dataclass
class Given:
    """Options that stood before the command's name."""

    config: Path | None = None
    group: str | None = None


given = Given()


def load_file(config: Path | None, group: str | None = None) -> Loaded:
    """The settings and where they came from. Raises Stop where nothing at all says what they are."""
    group = group or given.group
    loaded = load_settings(config or given.config, {"group": group} if group else None)
    if loaded.file is None and not own_variables():
        raise Stop(
            "No settings file was found.",
            f"There is no {DEFAULT_FILE} in this folder, and neither --config nor EMBED_CONSUMER_CONFIG names one.",
            "Name one with --config, or let `embed-consumer stack up` start a local stack and write one.",
            exit_code=Exit.USAGE,
        )
    return loaded


def load(config: Path | None, group: str | None) -> Settings:
    """The settings, and logging set up as they say."""
    settings = load_file(config, group).settings
    from consumer.observe import configure_logging

    configure_logging(settings.log.level, settings.log.format, fields={"group": settings.group})
    return settings


def wrong_usage(what: str) -> Stop:
    """The fault of options that make no sense together, or of a value that is none."""
    return Stop(what, exit_code=Exit.USAGE)


def known_source(settings: Settings, source: str | None) -> None:
    """Raises Stop for a source that the settings do not have."""
    known = [table.source for table in settings.tables]
    if source is None or source in known:
        return
    near = difflib.get_close_matches(source, known, n=1)
    told = f"The nearest one is {near[0]}." if near else f"There are: {', '.join(known) or 'none'}."
    raise Stop(f"The settings name no source {source}.", told, exit_code=Exit.USAGE)
