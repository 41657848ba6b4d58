"""A script beside a stack that runs SQL on it: `sql shop "…"` in the source, `sql vectors "…"` in the store."""

from __future__ import annotations

import shlex
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from consumer.local import binaries
from consumer.local.artifacts import default_cache
from consumer.local.endpoints import Endpoints
from consumer.local.files import write_private


def write_sql_script(path: Path, endpoints: Endpoints, schema: str = "embedding") -> None:
    """Write it, for its owner only: the source as the tables' owner (`shop`), the store as its reader (`vectors`)."""
    psql = binaries.programs(binaries.account(), default_cache()) / "psql"
    cases = "".join(
        f"  {name}) export {_environment(dsn, schema)} ;;\n"
        for name, dsn in (("shop", endpoints.source_owner_dsn), ("vectors", endpoints.reader_dsn))
    )
    write_private(
        path,
        "#!/bin/sh\n# Usage: sql shop|vectors ['statement']; without a statement: a psql session.\n"
        f'case "$1" in\n{cases}  *) sed -n "2s/# //p" "$0" >&2; exit 2 ;;\nesac\n'
        f'exec {shlex.quote(str(psql))} -X -P pager=off ${{2+-c "$2"}}\n',
    )
    path.chmod(0o700)


def _environment(dsn: str, schema: str) -> str:
    """The DSN as psql's variables: an argument would show its password to every `ps`."""
    parts = conninfo_to_dict(dsn)
    names = {"host": "PGHOST", "port": "PGPORT", "dbname": "PGDATABASE", "user": "PGUSER", "password": "PGPASSWORD"}
    values = {names[key]: str(value) for key, value in parts.items() if key in names}
    values["PGOPTIONS"] = f"-c search_path={schema},public"
    return " ".join(f"{name}={shlex.quote(value)}" for name, value in values.items())
