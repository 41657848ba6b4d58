"""The source database: what keeps its changes until they are read, and whether its tables tell all that is needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from consumer.content import TableContent
from consumer.errors import Fault
from consumer.operations.doctor.connect import CONNECTOR
from consumer.operations.doctor.finding import Finding, asked, failed, faulty, passed, skipped, warned
from consumer.operations.doctor.tables import judge_table
from consumer.operations.wiring import content_spec
from consumer.settings import Settings, TableSettings
from consumer.source import Slot, SourceDatabase, SourceServer, SourceTable, is_foreign

_MIB = 1024 * 1024
MUCH = 4 * 1024 * _MIB  # bytes of WAL that nobody should find out about from a full disk
ANEW = (
    "stop the connector, delete its offsets (DELETE …/connectors/<name>/offsets) and resume it: it begins with a "
    "snapshot. Rows deleted meanwhile: runbook ReplicationSlotGrowing."
)
UNASKED = "replication slot, publication, replica identities, primary keys and columns are not checked"


def look(settings: Settings) -> Iterator[Finding]:
    """Everything about the source, where `source.dsn` says how to ask it."""
    dsn = settings.source.dsn.get_secret_value() if settings.source.dsn else ""
    if not dsn:
        fix = "Set source.dsn (EMBEDDING_SOURCE__DSN) to the source Postgres; a role that may connect is enough."
        yield skipped("source", f"source.dsn is not set: {UNASKED}.", fix)
        return
    if is_foreign(dsn):
        what = "A MariaDB or MySQL source cannot be asked: binlog_format, binlog_row_image, grants, keys and columns"
        yield skipped("source", f"{what} are not checked.", "docs/mariadb.md lists what the server needs.")
        return
    try:
        with SourceDatabase(dsn) as source:
            server = source.server()
            yield judge_server(source.where, server)
            yield from asked("replication slot", lambda: judge_slots(server, source.slots(), settings.source.slot))
            yield from asked("source tables", lambda: _tables(settings, source))
    except Fault as fault:
        yield faulty("source", fault)
        yield skipped("slot, publication, tables", "The source does not answer.")


def in_source(settings: Settings) -> set[str]:
    """The topics of the settings whose table the source has; none where it cannot be asked."""
    dsn = settings.source.dsn.get_secret_value() if settings.source.dsn else ""
    named = {table.topic: place for table in settings.tables if (place := table_of(table))}
    if not dsn or is_foreign(dsn):
        return set()
    try:
        with SourceDatabase(dsn) as source:
            found = source.tables(list(named.values()))
    except Fault:
        return set()
    return {topic for topic, place in named.items() if place in found}


def _tables(settings: Settings, source: SourceDatabase) -> Iterator[Finding]:
    named = {table.source: place for table in settings.tables if (place := table_of(table))}
    found, publications = source.tables(list(named.values())), source.publications()
    if chosen := settings.source.publication:
        if chosen not in publications:
            fix = f"Correct source.publication, or CREATE PUBLICATION {chosen} FOR TABLE …;"
            yield failed("publication", f"The source has no publication {chosen}.", fix)
            return
        found, publications = {place: _within(table, chosen) for place, table in found.items()}, [chosen]
    for table in settings.tables:
        check = f"table {table.source}"
        if table.source not in named:
            what = "Neither topic nor source is <prefix>.<schema>.<table>: which table it is, is not known."
            yield skipped(check, what, "Set `source` of this entry to <topic.prefix>.<schema>.<table>.")
            continue
        schema, name = named[table.source]
        yield from asked(
            check,
            lambda table=table, schema=schema, name=name: judge_table(  # type: ignore[misc]
                table.source,
                f"{schema}.{name}",
                found.get((schema, name)),
                publications,
                TableContent(content_spec(table)).columns,
            ),
        )


def _within(table: SourceTable, publication: str) -> SourceTable:
    """The table as one publication has it."""
    return replace(table, published=tuple(each for each in table.published if each.name == publication))


def table_of(table: TableSettings) -> tuple[str, str] | None:
    """(schema, table) of an entry of the settings, None where its names do not tell."""
    for name in (table.source, table.topic):
        schema, dot, relation = name.removeprefix(f"{table.prefix}.").partition(".")
        if dot and name.startswith(f"{table.prefix}."):
            return schema, relation
    return None


def judge_server(where: str, server: SourceServer) -> Finding:
    """Whether the server writes what a logical slot needs."""
    if server.wal_level != "logical":
        what = f"wal_level is {server.wal_level}: no connector can follow the changes."
        return failed("source", what, "ALTER SYSTEM SET wal_level = 'logical'; then restart the server.")
    return passed("source", f"{where} answers; PostgreSQL {server.version // 10000}, wal_level logical")


def judge_slots(server: SourceServer, slots: Sequence[Slot], named: str | None = None) -> Iterator[Finding]:
    """Whether the changes are kept until the connector has read them, and at what price. `named`: the connector's."""
    if named and named not in {slot.name for slot in slots}:
        yield failed(
            f"slot {named}",
            f"The database {server.database} has no logical slot {named}: nothing keeps its changes for the connector.",
            f"Correct source.slot, or start the connector, which makes one. If there was one, changes are lost: {ANEW}",
        )
    elif not slots:
        yield failed(
            "replication slot",
            f"The database {server.database} has no logical slot: nothing keeps its changes for the connector.",
            f"Start the connector, which makes one. If there was one before, changes are lost: {ANEW}",
        )
    taken = any(slot.active for slot in slots)
    for slot in slots:
        yield _judge_slot(server, slot, taken if named is None else slot.name != named)


def _judge_slot(server: SourceServer, slot: Slot, taken: bool) -> Finding:
    check, retained = f"slot {slot.name}", slot.retained_bytes or 0
    held = f"{retained / _MIB:.1f} MiB of WAL retained"
    if slot.wal_status == "lost" or slot.invalidation:
        return failed(
            check,
            f"The slot is lost ({slot.invalidation or 'wal_removed'}): changes after its position are gone.",
            f"SELECT pg_drop_replication_slot('{slot.name}'); then {ANEW}",
        )
    if slot.wal_status == "unreserved" or (server.keep_mib and server.keep_mib > 0 and _nearly_full(slot, retained)):
        left = "the next checkpoint" if slot.wal_status == "unreserved" else f"{(slot.safe_bytes or 0) / _MIB:.0f} MiB"
        what = f"{held}; {left} more, and the slot is lost with all changes not read (max_slot_wal_keep_size)."
        return failed(check, what, f"Raise max_slot_wal_keep_size now. {CONNECTOR}")
    if not slot.active:
        said = f"Nobody reads it; {held}, and it grows with every write."
        if not taken:
            return failed(check, said, CONNECTOR)
        return warned(check, said, f"{CONNECTOR} If nobody needs it: SELECT pg_drop_replication_slot('{slot.name}');")
    if retained > MUCH:
        return warned(check, f"{held}: the connector is far behind, and the disk fills.", CONNECTOR)
    bound = "without bound" if server.keep_mib in (None, -1) else f"at most {server.keep_mib} MiB"
    return passed(check, f"active, {slot.wal_status}; {held}, {bound}")


def _nearly_full(slot: Slot, retained: int) -> bool:
    return slot.safe_bytes is not None and slot.safe_bytes < retained / 4
