"""Load the tree from file, environment and flags; say in one line what is wrong and where each value came from."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, InitSettingsSource, PydanticBaseSettingsSource

from consumer.errors import Exit, Stop
from consumer.settings.secret_files import SUFFIX, content_of, files_named
from consumer.settings.tree import Settings

DEFAULT_FILE = "embed-consumer.yaml"
PREFIX = "EMBEDDING_"


@dataclass(frozen=True)
class Loaded:
    """The settings, the file they came from (None: no file), and the origin of every value that is not a default."""

    settings: Settings
    file: Path | None
    origins: Mapping[str, str]


def load_settings(file: Path | None = None, flags: Mapping[str, Any] | None = None) -> Loaded:
    """Read the settings; every mistake a user can make is a `Stop` with exit code 2 that names key and remedy.

    Without `file`: `$EMBED_CONSUMER_CONFIG`, else `embed-consumer.yaml` in the working folder, else defaults.
    `flags` are nested like the file and win over everything. A variable EMBEDDING_…_FILE names a file with the value.
    """
    path = _settings_file(file)
    content = _read(path) if path else {}
    flags = flags or {}
    _refuse_unknown(content, str(path))
    files = files_named(os.environ, PREFIX, lambda name: _known(_env_key(name)))
    from_files = content_of(files, _env_key)
    _refuse_unknown(from_files, f"$…{SUFFIX}")
    named = {name + SUFFIX for name in files}
    _refuse_unknown_environment(named)

    class FromFile(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            if isinstance(env_settings, EnvSettingsSource):
                values = env_settings.env_vars.items()
                env_settings.env_vars = {name: value for name, value in values if name.upper() not in named}
            in_files = (InitSettingsSource(settings_cls, found) for found in (from_files, content))
            return init_settings, env_settings, *in_files

    try:
        loaded = FromFile(**flags)
    except ValidationError as error:
        raise _usage(error, path) from None
    except ValueError as error:
        raise Stop(f"The environment holds a value that cannot be read: {error}.", exit_code=Exit.USAGE) from None
    origins = {key: str(path) for key in _leaves(content)}
    origins |= {_env_key(name): f"${name}" for name in own_variables() if name not in named}
    origins |= {_env_key(name): f"${name}{SUFFIX}" for name in files}
    origins |= dict.fromkeys(_leaves(flags), "flag")
    return Loaded(loaded, path, origins)


def own_variables() -> list[str]:
    """The names in the environment that are settings, in whatever case they are written."""
    return sorted(name for name in os.environ if name.upper().startswith(PREFIX))


def settings_schema() -> dict[str, Any]:
    """The JSON Schema of the settings file, as checked in at schemas/settings.schema.json."""
    schema = Settings.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "embed-consumer settings", **schema}


def _settings_file(file: Path | None) -> Path | None:
    named = file or (Path(os.environ["EMBED_CONSUMER_CONFIG"]) if os.environ.get("EMBED_CONSUMER_CONFIG") else None)
    if named is not None and not named.is_file():
        raise Stop(
            f"The settings file {named} does not exist.",
            "",
            "Name one with --config or EMBED_CONSUMER_CONFIG.",
            exit_code=Exit.USAGE,
        )
    if named is None and Path(DEFAULT_FILE).is_file():
        return Path(DEFAULT_FILE)
    return named


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice: YAML's own reader would take the last one and forget the others."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node, seen = super().compose_mapping_node(anchor), set[str]()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"{key.value} stands here twice", problem_mark=key.start_mark)
                seen.add(key.value)
        return node


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 (a safe loader)
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}" if error.problem_mark else "somewhere"
        raise Stop(
            f"{path} is not valid YAML.", f"{where}: {error.problem}.", "Correct that line.", exit_code=Exit.USAGE
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Stop(f"{path} cannot be read.", f"{type(error).__name__}.", exit_code=Exit.USAGE) from None
    if content is not None and not isinstance(content, dict):
        raise Stop(f"{path} holds no settings.", "The top level must be keys.", exit_code=Exit.USAGE)
    # A section of which every line is commented out is one that is not there.
    return {key: value for key, value in (content or {}).items() if value is not None or not _is_section(key)}


def _is_section(key: object) -> bool:
    field = Settings.model_fields.get(str(key))
    return field is not None and _section(field.annotation) is not None


def _refuse_unknown(content: Mapping[str, Any], where: str) -> None:
    for path in _unknown(content, Settings, ()):
        raise Stop(_unknown_message(path, where), exit_code=Exit.USAGE)


def _refuse_unknown_environment(files: Container[str]) -> None:
    for name in own_variables():
        if name not in files:
            for path in _unknown(_nested(_env_key(name), _json(os.environ[name])), Settings, ()):
                raise Stop(_unknown_message(path, f"${name}"), exit_code=Exit.USAGE)


def _known(key: str) -> bool:
    return not any(_unknown(_nested(key, None), Settings, ()))


def _nested(key: str, value: Any) -> Any:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def _json(value: str) -> Any:
    """A section or list that a variable holds as JSON; None for plain text, and for what pydantic will refuse."""
    try:
        return json.loads(value)
    except ValueError:
        return None


def _unknown(
    content: Any, model: type[BaseModel], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Paths of keys that `model` does not have, each with the keys it does have."""
    if not isinstance(content, Mapping):
        return
    known = {field.alias or name: field for name, field in model.model_fields.items()}
    for key, value in content.items():
        if key not in known:
            yield (*path, str(key)), list(known)
            continue
        inner = _section(known[key].annotation)
        items = value if isinstance(value, list) else [value]
        if inner:
            for item in items:
                yield from _unknown(item, inner, (*path, str(key)))


def _section(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _unknown_message(found: tuple[tuple[str, ...], list[str]], where: str) -> str:
    path, known = found
    near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.0)
    return f"{where}: there is no setting {'.'.join(path)}. The nearest one is {'.'.join((*path[:-1], near[0]))}."


def _usage(error: ValidationError, path: Path | None) -> Stop:
    lines = []
    for item in error.errors(include_url=False, include_input=False, include_context=False):
        key = ".".join(str(part) for part in item["loc"]) or "settings"
        lines.append(f"{key}: {item['msg'].removeprefix('Value error, ')}")
    return Stop(
        f"The settings{f' in {path}' if path else ''} do not hold.",
        "; ".join(lines) + ".",
        "`embed-consumer config schema` prints what is allowed.",
        exit_code=Exit.USAGE,
    )


def _env_key(name: str) -> str:
    return name[len(PREFIX) :].lower().replace("__", ".")


def _leaves(content: Any, path: str = "") -> Iterator[str]:
    if isinstance(content, Mapping) and content:
        for key, value in content.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    elif isinstance(content, list) and content and isinstance(content[0], Mapping):
        for number, item in enumerate(content):
            yield from _leaves(item, f"{path}.{number}")
    elif path:
        yield path
