"""Segments: the parts of a chunk table, each a table with its own vector index, in which PostgreSQL sees one.

New rows go to the hot segment, which has no vector index: nothing slows them down, and a search reads it whole. When it
has enough rows another takes its place, and its index is built while it is searched. No key spans segments: a chunk is
in only one of them because its document row is held while it is written.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from psycopg import Connection, sql

from consumer.store.model import Generation

FIRST = 1

# ATTACH waits for no reader and no writer; for the CHECK it need not look at the rows. LIKE takes NOT NULL along.
_TABLE = sql.SQL("""\
CREATE TABLE {segment} (
    LIKE {chunks} INCLUDING DEFAULTS INCLUDING STORAGE,
    PRIMARY KEY (document_id, chunk_hash, occurrence),
    CHECK (segment = {number})
) WITH (fillfactor = 50);
INSERT INTO segments (generation, segment) VALUES ({generation}, {number});
""")
_ATTACH = sql.SQL("ALTER TABLE {chunks} ATTACH PARTITION {segment} FOR VALUES IN ({number});\n")

_READ = """
SELECT s.segment, h.inhparent IS NOT NULL, coalesce(i.indisvalid, false), greatest(c.reltuples, 0)::bigint, s.rows,
       coalesce(s.merges, '{}')
FROM segments AS s
LEFT JOIN pg_class AS c ON c.oid = to_regclass(format('%%I', %(chunks)s || '_s' || s.segment))
LEFT JOIN pg_inherits AS h ON h.inhrelid = c.oid
LEFT JOIN pg_index AS i ON i.indexrelid = to_regclass(format('%%I', %(chunks)s || '_s' || s.segment || '_hnsw'))
WHERE s.generation = %(generation)s
ORDER BY s.segment
"""

_SWITCH = "UPDATE generations SET hot_segment = %s WHERE generation = %s"
_COUNT = sql.SQL("SELECT count(*) FROM (SELECT FROM {segment} LIMIT {most}) AS counted")
_BUILT = """
UPDATE segments AS s SET rows = greatest(c.reltuples, 0) FROM pg_class AS c
WHERE s.generation = %s AND s.segment = %s AND c.oid = to_regclass(format('%%I', %s::text))
"""
_FORGET = "DELETE FROM segments WHERE generation = %s AND segment = ANY(%s)"


class Segment(NamedTuple):
    """One part. `attached`: it is searched. `indexed`: its vector index can be used.

    `live` is what the server last knew of its rows: exact after the build of an index, then as vacuum has seen them.
    `rows` is what it had when its index was built, None before; `merges` are those that it is to replace.
    """

    number: int
    attached: bool
    indexed: bool
    live: int
    rows: int | None = None
    merges: tuple[int, ...] = ()


def added(generation: int, chunk_table: str, number: int) -> sql.Composed:
    """The SQL that makes an empty segment and attaches it."""
    return detached(generation, chunk_table, number) + _named(_ATTACH, generation, chunk_table, number)


def detached(generation: int, chunk_table: str, number: int) -> sql.Composed:
    """The SQL that makes an empty segment which nobody sees yet."""
    return _named(_TABLE, generation, chunk_table, number)


def table_name(generation: Generation, number: int) -> str:
    """The table of a segment."""
    return f"{generation.chunk_table}_s{number}"


def identifier(generation: Generation, number: int) -> sql.Identifier:
    """The table of a segment, as SQL writes it."""
    return sql.Identifier(table_name(generation, number))


def read(connection: Connection[Any], generation: Generation) -> list[Segment]:
    """All segments, half-made ones too, by number."""
    named = {"chunks": generation.chunk_table, "generation": generation.number}
    rows = connection.execute(_READ, named).fetchall()
    return [Segment(row[0], row[1], row[2], row[3], row[4], tuple(row[5])) for row in rows]


def count(connection: Connection[Any], generation: Generation, number: int, most: int) -> int:
    """Rows of a segment, counted no further than `most`."""
    statement = _COUNT.format(segment=identifier(generation, number), most=sql.Literal(most))
    (rows,) = connection.execute(statement).fetchone() or (0,)
    return int(rows)


def seal(connection: Connection[Any], generation: Generation, segments: list[Segment]) -> int:
    """Give the rows that come from now on another segment; which. Transactions under way still write to the one before.

    In two transactions: who reads the new number must find the table attached, and the server tells the one at the
    COMMIT, the other only right after it. What a crash leaves between them is used by the next.
    """
    hot = generation.hot_segment or 0
    spare = next((s.number for s in segments if s.number > hot and s.attached and not s.indexed), None)
    number = spare or segments[-1].number + 1
    if spare is None:
        with connection.transaction():
            connection.execute(added(generation.number, generation.chunk_table, number))
    connection.execute(_SWITCH, [number, generation.number])
    return number


def attach(connection: Connection[Any], generation: Generation, number: int) -> None:
    """Let it be searched."""
    connection.execute(_named(_ATTACH, generation.number, generation.chunk_table, number))


def note_built(connection: Connection[Any], generation: Generation, number: int) -> None:
    """Remember how many rows it had when its index was built, and that it waits for nothing any more."""
    connection.execute(_BUILT, [generation.number, number, table_name(generation, number)])


def drop(connection: Connection[Any], generation: Generation, numbers: list[int]) -> None:
    """Remove segments. Those that are attached: readers wait, and this waits for those under way."""
    tables = sql.SQL(", ").join(identifier(generation, number) for number in numbers)
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(tables))
    connection.execute(_FORGET, [generation.number, numbers])


def _named(statement: sql.SQL, generation: int, chunk_table: str, number: int) -> sql.Composed:
    return statement.format(
        chunks=sql.Identifier(chunk_table),
        segment=sql.Identifier(f"{chunk_table}_s{number}"),
        number=sql.Literal(number),
        generation=sql.Literal(generation),
    )
