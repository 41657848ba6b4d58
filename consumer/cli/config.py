"""`config validate|show|schema`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr

from consumer.cli.options import ConfigOption, given, load_file
from consumer.cli.output import remark
from consumer.cli.words import tell
from consumer.errors import Exit
from consumer.observe import is_secret_name, mask_secrets
from consumer.settings import Settings, load_settings, settings_schema

MASK = "***"
config_app = typer.Typer(help="Check, show and describe the settings.", no_args_is_help=True)


@config_app.command()
def validate(config: ConfigOption = None) -> None:
    """Check the settings by themselves; exit 2 and say all that is wrong. `doctor` asks the services too."""
    loaded = load_file(config)
    from consumer.operations.refusals import refusals

    faults = list(refusals(loaded.settings))
    for fault in faults:
        tell(fault)
    if faults:
        raise typer.Exit(Exit.USAGE)
    where = loaded.file or "defaults and environment"
    typer.echo(f"The settings hold ({where}, tables: {len(loaded.settings.tables)}).")


@config_app.command()
def show(
    config: ConfigOption = None, as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False
) -> None:
    """Print every value and where it came from; secrets are masked."""
    loaded = load_settings(config or given.config)
    if loaded.file is None:
        remark("No settings file was found: this is the environment, and defaults.")
    values = shown(loaded.settings)
    if as_json:
        typer.echo(json.dumps(values, indent=2))
        return
    for key, value in _leaves(values):
        origin = next((o for name, o in loaded.origins.items() if key == name or key.startswith(name + ".")), "default")
        typer.echo(f"{key} = {json.dumps(value, ensure_ascii=False)}  ({origin})")


@config_app.command()
def schema() -> None:
    """Print the JSON Schema of the settings file."""
    typer.echo(json.dumps(settings_schema(), indent=2))


def shown(settings: Settings) -> dict[str, Any]:
    """The tree as plain JSON values: passwords masked, inside URLs too, and every property with a secret's name."""
    return {key: _shown(key, value) for key, value in settings.model_dump(by_alias=True).items()}


def _shown(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {inner: _shown(inner, item) for inner, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(key, item) for item in value]
    if value is not None and is_secret_name(key):
        return MASK
    if isinstance(value, SecretStr):
        return mask_secrets(value.get_secret_value())
    if isinstance(value, Path):
        return str(value)
    return mask_secrets(value) if isinstance(value, str) else value


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{path}.{number}")
    else:
        yield path, value
