"""The vector database: version, extension, migrations, what both roles may do, the index, failed documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from consumer.errors import Fault
from consumer.operations.doctor.finding import Finding, asked, failed, faulty, passed, skipped, warned
from consumer.operations.wiring import migrator_dsn, open_store
from consumer.settings import Settings
from consumer.store import (
    OLDEST_SERVER,
    Checkup,
    Generation,
    IndexStatus,
    KeyChange,
    Phase,
    Rights,
    Server,
    Store,
    too_old,
)

MIGRATE = "Run `embed-consumer migrate`."
BUILD = "Start the consumer again: it builds the index as soon as every partition has been at its end."


def look(settings: Settings) -> Iterator[Finding]:
    """Everything about the store, under the writer's role and then the migrator's."""
    schema, migrated = settings.store.schema_name, False
    try:
        with Checkup(settings.store.dsn.get_secret_value(), schema, Phase.WRITE) as writer:
            yield passed("store", f"{writer.where} answers")
            yield from asked("store server", lambda: judge_server(writer.server()))
            rights = writer.rights()
            if rights.owner and not rights.usage:
                yield judge_writer(rights, {})
                yield skipped("migrations, index, failed documents", f"{rights.role} may not look into {schema}.")
            else:
                for finding in asked("migrations", lambda: judge_migrations(schema, writer.unapplied())):
                    migrated = finding.verdict == "pass"
                    yield finding
                yield from asked("writer", lambda: judge_writer(rights, writer.lacking()))
    except Fault as fault:
        yield faulty("store", fault)
        yield skipped("migrations, privileges, index, failed documents", "The store does not answer.")
        return
    yield from asked("migrator", lambda: _migrator(settings))
    if not migrated:
        yield skipped("vector index, failed documents", "The schema is not migrated.")
        return
    yield from asked("stored keys", lambda: _keys(settings))
    with open_store(settings, answer_within=5.0) as store:
        yield from asked("vector index", lambda: _index(settings, store))
        yield from asked("failed documents", lambda: judge_failed(store.failed_counts()))


def _migrator(settings: Settings) -> Finding:
    with Checkup(migrator_dsn(settings), settings.store.schema_name, Phase.MIGRATE) as migrator:
        return judge_migrator(migrator.rights(), migrator.foreign())


def _keys(settings: Settings) -> Iterator[Finding]:
    with Checkup(settings.store.dsn.get_secret_value(), settings.store.schema_name, Phase.WRITE) as writer:
        yield from judge_keys(writer.key_changes())


def _index(settings: Settings, store: Store) -> Finding:
    generation = store.generation()
    if generation is None:
        return failed("vector index", "There are no vectors yet, and no table for them.", MIGRATE)
    with Checkup(settings.store.dsn.get_secret_value(), settings.store.schema_name, Phase.WRITE) as writer:
        return judge_index(generation, store.index_status(generation), writer.holds_chunks())


def judge_server(server: Server) -> Finding:
    """PostgreSQL, its encoding and pgvector."""
    check = "store server"
    if server.version < OLDEST_SERVER:
        return failed(check, f"It is PostgreSQL {server.version // 10000}; 14 or newer is needed.", "Upgrade it.")
    if server.refuses == "standby":
        return failed(check, "It is a standby, which takes no writes.", "Let store.dsn name the primary.")
    if server.refuses:
        alter = f"ALTER DATABASE {server.refuses} RESET default_transaction_read_only"
        fix = f"As its owner: SET default_transaction_read_only = off; {alter}; or ALTER ROLE, if it is set there."
        return failed(check, "Its sessions are read-only: nothing can be applied.", fix)
    if server.encoding != "UTF8":
        return failed(check, f"The database's encoding is {server.encoding}; text needs UTF8.", "Create it with UTF8.")
    if server.pgvector is None:
        usable = server.offered is not None and not too_old(server.offered)
        fix = "As a superuser: CREATE EXTENSION vector;" if usable else "Install pgvector 0.8.4 or newer on the server."
        return failed(check, "The extension pgvector is missing in this database.", fix)
    if too_old(server.pgvector):
        fix = "Install 0.8.4 or newer on the server, then ALTER EXTENSION vector UPDATE;"
        return failed(check, f"pgvector is {server.pgvector}: before 0.8.4 vacuum could corrupt the index.", fix)
    return passed(check, f"PostgreSQL {server.version // 10000}, UTF8, pgvector {server.pgvector}")


def judge_migrations(schema: str, unapplied: list[str] | None) -> Finding:
    """Whether the schema has every table of this version."""
    if unapplied is None:
        return failed("migrations", f"The schema {schema} is not migrated.", MIGRATE)
    if unapplied:
        return failed("migrations", f"Not applied in {schema}: {', '.join(unapplied)}.", MIGRATE)
    return passed("migrations", f"all applied in {schema}")


def judge_writer(rights: Rights, lacking: Mapping[str, list[str]]) -> Finding:
    """Whether the role of store.dsn may write every table."""
    role, schema = rights.role, rights.schema
    if rights.owner is None:
        return failed("writer", f"There is no schema {schema} that {role} could write to.", MIGRATE)
    if not rights.usage:
        fix = f"As {rights.owner}: GRANT USAGE ON SCHEMA {schema} TO {role};"
        return failed("writer", f"{role} may not use the schema {schema}.", fix)
    if lacking:
        tables = "; ".join(f"{', '.join(names)} on {table}" for table, names in sorted(lacking.items()))
        grants = " ".join(
            f"GRANT {', '.join(names)} ON {schema}.{table} TO {role};" for table, names in sorted(lacking.items())
        )
        return failed("writer", f"{role} lacks {tables}.", f"As the owner: {grants}")
    return passed("writer", f"{role} may write every table of {schema}")


def judge_migrator(rights: Rights, foreign: Mapping[str, str]) -> Finding:
    """Whether the role of store.migrator_dsn may change the tables and build the index."""
    role, schema = rights.role, rights.schema
    if not rights.create and rights.owner is None:
        fix = f"As a superuser: GRANT CREATE ON DATABASE {rights.database} TO {role};"
        return failed("migrator", f"{role} may not create the schema {schema}, and there is none.", fix)
    if not rights.create:
        who = "the database's owner" if rights.owner == "pg_database_owner" else rights.owner
        fix = f"As {who} or a superuser: GRANT CREATE ON SCHEMA {schema} TO {role}; or set store.schema to another one."
        return failed("migrator", f"{role} may not create tables in the schema {schema}.", fix)
    if foreign:
        table, owner = sorted(foreign.items())[0]
        return failed(
            "migrator",
            f"{table} belongs to {owner}, and {role} may not become {owner}: no migration, no vector index.",
            f"Set store.migrator_dsn to {owner}, or GRANT {owner} TO {role};",
        )
    return passed("migrator", f"{role} may create in {schema} and owns its tables")


def judge_keys(changes: Mapping[str, KeyChange]) -> Iterator[Finding]:
    """Whether events have come under another key than the one that a table's rows are stored under."""
    for source, change in changes.items():
        what = f"The key of {source} has changed from ({change.old}) to ({change.new}): its events fail."
        yield failed(
            "stored keys",
            what,
            f"If the table has another primary key now, run `embed-consumer rekey --source {source}`.",
        )
    if not changes:
        yield passed("stored keys", "those of the tables, as far as their events have told")


def judge_index(generation: Generation, index: IndexStatus, chunks: bool) -> Finding:
    """Whether searches go through the vector index. `chunks`: there is something to search."""
    check = "vector index"
    if index.state == "ready":
        return passed(check, f"ready on {generation.chunk_table}")
    if index.state == "building":
        done = f" ({index.phase}: {index.done} of {index.total})" if index.phase else ""
        return passed(check, f"is being built{done}; search is exact meanwhile")
    if index.state == "invalid":
        return failed(check, "A build was broken off: the index costs every write and serves no search.", BUILD)
    if not chunks:
        return passed(check, "not built yet: nothing is embedded, search is exact")
    return warned(check, "There is none: search is exact, which is right while the first load runs, then slow.", BUILD)


def judge_failed(counts: Mapping[tuple[str, str], int]) -> Finding:
    """Documents that could not be applied: retried by themselves, or dead."""
    check = "failed documents"
    dead = sum(count for (_, state), count in counts.items() if state == "dead")
    retrying = sum(count for (_, state), count in counts.items() if state == "retrying")
    listing = "`embed-consumer failed list` shows the reasons"
    if dead:
        what = f"{dead} are given up, {retrying} are tried again: what is searchable of them is old."
        return failed(check, what, f"{listing}; then `failed retry --all`, or `failed discard`.")
    if retrying:
        return warned(check, f"{retrying} are tried again: what is searchable of them is old.", f"{listing}.")
    return passed(check, "none")
