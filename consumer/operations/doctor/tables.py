"""One source table: does each change of it reach Kafka, with its key and with every column that the settings use?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from consumer.operations.doctor.finding import Finding, failed, passed, warned
from consumer.source import Column, SourceTable

# What the connector writes as NULL when an update leaves a large value out (docs/values.md). Arrays: by their element.
_NULLED = frozenset({"vector", "halfvec", "sparsevec", "varbit"})
_NULLED_ARRAYS = frozenset(
    {"int2", "float4", "float8", "numeric", "bool", "oid", "time", "timetz", "timestamp", "timestamptz", "date", "inet"}
)
_ENUM, _RANGE = "e", "r"


def judge_table(
    source: str, name: str, table: SourceTable | None, publications: Sequence[str], used: Sequence[str]
) -> Iterator[Finding]:
    """`used` are the columns that the settings name; `publications` all that the database has."""
    if table is None:
        fix = "Correct `topic` or `source` in the settings, or create the table."
        yield failed(f"table {source}", f"The source has no table {name}.", fix)
        return
    where = table.name
    yield _publication(source, where, table, publications, used)
    yield _identity(source, where, table)
    yield _columns(source, where, table, used)


def _publication(
    source: str, where: str, table: SourceTable, publications: Sequence[str], used: Sequence[str]
) -> Finding:
    check = f"publication of {source}"
    if not table.published:
        name = publications[0] if len(publications) == 1 else "<publication.name of the connector>"
        fix = f"ALTER PUBLICATION {name} ADD TABLE {where};"
        if not publications:
            fix = f"CREATE PUBLICATION dbz_publication FOR TABLE {where};"
        elif table.partitioned:
            fix = f"ALTER PUBLICATION {name} SET (publish_via_partition_root = true); {fix}"
        return failed(check, f"{where} is in no publication: its changes reach nobody.", fix)
    whole = [each for each in table.published if each.changes]
    if not whole:
        name = table.published[0].name
        fix = f"ALTER PUBLICATION {name} SET (publish = 'insert, update, delete, truncate');"
        return failed(check, f"{name} leaves out inserts, updates or deletes of {where}.", fix)
    best = max(whole, key=lambda each: (not each.filtered, each.truncates))
    unpublished = table.columns.keys() - (best.columns or table.columns.keys())
    if hidden := sorted(set(used) & unpublished):
        what = f"{best.name} leaves out the columns {', '.join(hidden)} of {where}, which the settings use."
        return failed(check, what, _whole(best.name, where, table, hidden))
    if best.filtered:
        what = f"{best.name} publishes only some rows of {where}: a row that leaves the filter is deleted here."
        return warned(check, what, "Leave rows out by `when` in the settings instead.")
    if not best.truncates:
        fix = f"ALTER PUBLICATION {best.name} SET (publish = 'insert, update, delete, truncate');"
        return warned(check, f"{best.name} does not publish truncates: their rows stay searchable.", fix)
    if hidden := sorted(unpublished):  # seen with 3.6.3 (docs/snapshots.md)
        what = f"{best.name} leaves out the columns {', '.join(hidden)} of {where}: after a blocking snapshot the"
        what = f"{what} connector gives columns behind them each other's values, until its task is restarted."
        return warned(check, what, _whole(best.name, where, table, hidden))
    return passed(check, f"{where} is in {best.name}")


def _whole(publication: str, where: str, table: SourceTable, hidden: Sequence[str]) -> str:
    """How to publish all columns."""
    if all(table.columns[name].generated for name in hidden):  # since PostgreSQL 18, and only STORED ones
        return f"ALTER PUBLICATION {publication} SET (publish_generated_columns = stored);"
    return f"ALTER PUBLICATION {publication} DROP TABLE {where}; ALTER PUBLICATION {publication} ADD TABLE {where};"


def _identity(source: str, where: str, table: SourceTable) -> Finding:
    check = f"key of {source}"
    full = f"ALTER TABLE {where} REPLICA IDENTITY FULL;"
    if table.identity == "n":
        fix = f"ALTER TABLE {where} REPLICA IDENTITY DEFAULT;" if table.primary_key else full
        return failed(check, "REPLICA IDENTITY NOTHING: updates and deletes do not say which row they are of.", fix)
    if table.primary_key:
        return passed(check, f"primary key, replica identity {_IDENTITIES[table.identity]}")
    key = "message.key.columns in the connector"
    if table.identity == "d":
        what = f"{where} has no primary key: events carry no key, updates and deletes not even a row."
        return failed(check, what, f"Give it a primary key, or set {key} and {full}")
    fix = f"Give it a primary key, or make sure of {key}."
    return warned(check, f"{where} has no primary key: it works only with {key}.", fix)


_IDENTITIES = {"d": "default", "f": "full", "i": "by index"}


def _columns(source: str, where: str, table: SourceTable, used: Sequence[str]) -> Finding:
    check = f"columns of {source}"
    by_name = {adjusted(name): column for name, column in table.columns.items()} | table.columns
    if missing := [name for name in used if name not in by_name]:
        what = f"{where} has no column {', '.join(missing)}, which the settings use: every document would fail."
        return failed(check, what, "Correct text, when or metadata in the settings, or add the column.")
    lossy = [f"{name} ({by_name[name].type})" for name in used if nulled(by_name[name])]
    if lossy and table.identity != "f":
        what = f"An update that leaves a large {', '.join(lossy)} alone sends NULL in its place."
        return warned(check, what, f"ALTER TABLE {where} REPLICA IDENTITY FULL;")
    return passed(check, f"those that the settings use are there: {len(used)}")


def nulled(column: Column) -> bool:
    """Whether the connector writes NULL for a value that TOAST holds and an update left alone."""
    if not column.large:
        return False
    if column.array:
        return column.kind in (_ENUM, _RANGE) or column.base in _NULLED_ARRAYS
    return column.base in _NULLED


def adjusted(name: str) -> str:
    """A column's name as Avro carries it (field.name.adjustment.mode=avro)."""
    plain = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return f"_{plain}" if plain[:1].isdigit() else plain
