"""Vector indexes: that of a plain chunk table is built once, after the first load, without blocking writers."""

from __future__ import annotations

from typing import Any

from psycopg import Connection, sql

from consumer.errors import Stop
from consumer.store import generations, segments
from consumer.store.faults import Phase, translated
from consumer.store.model import Generation, IndexStatus
from consumer.store.session import connect, target
from consumer.store.truncates import lock_key

OVERDUE = 5  # times the rows after which a segment is to be sealed

_OPERATORS = {"cosine": "cosine_ops", "l2": "l2_ops", "ip": "ip_ops"}

# Whether another session builds (it holds the advisory lock, which every role may see), whether the index is usable,
# and the progress: NULL for a role that may not look into the builder's session.
_STATUS = """
SELECT EXISTS (
           SELECT FROM pg_locks
           WHERE locktype = 'advisory' AND objsubid = 1 AND granted AND pid <> pg_backend_pid()
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
             AND classid::bigint = (%(key)s::bigint >> 32) & 4294967295 AND objid::bigint = %(key)s & 4294967295
       ), i.indisvalid, p.phase, coalesce(nullif(p.tuples_done, 0), p.blocks_done),
       coalesce(nullif(p.tuples_total, 0), p.blocks_total)
FROM (SELECT to_regclass(%(name)s) AS oid) AS wanted
LEFT JOIN pg_index AS i ON i.indexrelid = wanted.oid
LEFT JOIN pg_stat_progress_create_index AS p ON p.index_relid = wanted.oid
"""

# Only the owner may create an index on a table.
_OWNER = """
SELECT pg_get_userbyid(relowner), pg_has_role(current_user, relowner, 'USAGE'), pg_get_userbyid(relowner) = current_user
FROM pg_class WHERE oid = to_regclass(%s)
"""

# What of the graph exceeds this memory is inserted row by row, several times slower (pgvector's README, "Index Build
# Time"). The graph takes about what the table does, and no more than the server's cache is asked for.
_MEMORY = """
SELECT set_config('maintenance_work_mem', greatest(
    pg_size_bytes(current_setting('maintenance_work_mem')),
    least(pg_table_size(%s), pg_size_bytes(current_setting('shared_buffers')))
) / 1024 || 'kB', false)
"""

_CREATE = sql.SQL(
    "CREATE INDEX {concurrently} {index} ON {chunks} USING hnsw (embedding {operators})"
    " WITH (m = {m}, ef_construction = {ef})"
)

# The progress of the segment that is indexed just now.
_BUILDING = """
SELECT p.phase, coalesce(nullif(p.tuples_done, 0), p.blocks_done), coalesce(nullif(p.tuples_total, 0), p.blocks_total)
FROM pg_stat_progress_create_index AS p JOIN pg_inherits AS h ON h.inhrelid = p.relid
WHERE h.inhparent = to_regclass(%(chunks)s)
LIMIT 1
"""


def build_index(dsn: str, schema: str, generation: Generation) -> IndexStatus:
    """Build the index unless it is there; blocks until it is ready. Another process building it: returns its progress.

    `dsn` is the migrator's, or the writer's where it may SET ROLE to the owner. Safe to call again after a crash: what
    an interrupted build left is dropped first.
    """
    where = target(dsn, schema)
    with translated(where.where, Phase.MIGRATE), connect(where, 0) as connection:
        # The lock goes with its session: a killed build leaves none behind.
        if lock(connection, schema, generation) and status(connection, schema, generation).state != "ready":
            become_owner(connection, generation)
            create(connection, generation, generation.chunk_table)
        return status(connection, schema, generation)


def status(connection: Connection[Any], schema: str, generation: Generation) -> IndexStatus:
    """Whether the index is there, and how far a build is."""
    named = {"name": f'"{_name(generation.chunk_table)}"', "key": _lock(schema, generation)}
    building, valid, phase, done, total = connection.execute(_STATUS, named).fetchone() or (None,) * 5
    if generation.segment_rows:
        return _status_of_segments(connection, generation, bool(building))
    if valid:
        return IndexStatus("ready")
    if building:
        return IndexStatus("building", phase, done, total)
    return IndexStatus("missing" if valid is None else "invalid")


def lock(connection: Connection[Any], schema: str, generation: Generation) -> bool:
    """Be the one that makes indexes, for as long as the connection lives. False: another one is."""
    row = connection.execute("SELECT pg_try_advisory_lock(%s::bigint)", [_lock(schema, generation)]).fetchone()
    return row == (True,)


def become_owner(connection: Connection[Any], generation: Generation, *, itself: bool = False) -> None:
    """Be one that may index the table; the owner `itself` where tables are to be made that belong to it."""
    row = connection.execute(_OWNER, [f'"{generation.chunk_table}"']).fetchone()
    if row is None:
        raise Stop(f"The table {generation.chunk_table} is missing.", "", "Run `embed-consumer migrate`.")
    owner, may_index, is_owner = row
    if not (is_owner if itself else may_index):
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(owner)))


def create(connection: Connection[Any], generation: Generation, table: str, *, concurrently: bool = True) -> None:
    """Index a table, in place of what an interrupted build has left of it. `concurrently`: while others write to it."""
    leftover = sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(sql.Identifier(_name(table)))
    connection.execute(leftover)
    connection.execute(_MEMORY, [f'"{table}"'])
    connection.execute(_statement(generation, table, concurrently))


def _status_of_segments(connection: Connection[Any], generation: Generation, locked: bool) -> IndexStatus:
    """One that has taken far more rows than it should lacks its index, too: nobody has sealed it."""
    current = generations.from_row(generations.select(connection, generation.number).fetchone()) or generation
    hot, most = current.hot_segment or 0, OVERDUE * (current.segment_rows or 0)
    found = [segment for segment in segments.read(connection, generation) if segment.attached]
    indexed = sum(segment.indexed for segment in found)
    if not any(s.live > most if s.number == hot else s.number < hot and not s.indexed for s in found):
        return IndexStatus("ready", segments=indexed)
    progress = connection.execute(_BUILDING, {"chunks": f'"{generation.chunk_table}"'}).fetchone()
    phase, done, total = progress or (None, None, None)
    return IndexStatus("building" if locked else "missing", phase, done, total, segments=indexed)


def _statement(generation: Generation, table: str, concurrently: bool) -> sql.Composed:
    return _CREATE.format(
        concurrently=sql.SQL("CONCURRENTLY" if concurrently else ""),
        index=sql.Identifier(_name(table)),
        chunks=sql.Identifier(table),
        operators=sql.Identifier(f"{generation.element}_{_OPERATORS[generation.metric]}"),
        m=sql.Literal(generation.m),
        ef=sql.Literal(generation.ef_construction),
    )


def _name(table: str) -> str:
    return f"{table}_hnsw"


def _lock(schema: str, generation: Generation) -> int:
    return lock_key(schema, f"index of {generation.number}")
