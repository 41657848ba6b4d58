"""Generations: one vector space each, its chunk table, and the view `chunks` over the live one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from psycopg import Connection, sql

from consumer.errors import Stop
from consumer.store import segments
from consumer.store.model import Generation, VectorSpace

SWITCH = "generations"  # the advisory lock that writers share and a switch takes alone

_LARGEST = {"vector": 2000, "halfvec": 4000}  # dimensions that an HNSW index takes
_WIDTH = {"vector": 4, "halfvec": 2}  # bytes of one dimension
# Inline, vectors are read a third faster by an exact scan; while two rows and their updates still fit one page.
_INLINE_BYTES = 1700

_FIRST_COLUMNS = "generation, state, config_hash, model, dimension, element, metric, m, ef_construction, chunk_table"
_COLUMNS = f"{_FIRST_COLUMNS}, segment_rows, hot_segment"
_SELECT = f"SELECT {_COLUMNS} FROM generations WHERE generation = %s"  # noqa: S608
_SELECT_LIVE = "SELECT {} FROM generations WHERE state = 'live'"
_CONFIG = "SELECT config::text FROM generations WHERE generation = %s"

# chunk_no and metadata are in no index and pages keep room, so that an edit of them is a HOT update and never touches
# the vector index. The vector index itself is built after the first load.
_CREATE = sql.SQL("""\
CREATE TABLE {chunks} (
    document_id         bigint  NOT NULL,
    chunk_hash          bytea   NOT NULL,
    occurrence          integer NOT NULL,
    chunk_no            integer NOT NULL,
    source              text COLLATE "C" NOT NULL,
    source_key          jsonb   NOT NULL,
    content             text    NOT NULL,
    token_count         integer NOT NULL,
    metadata            jsonb,
    embedding           {type}  NOT NULL,
    kafka_topic         text COLLATE "C" NOT NULL,
    kafka_partition     integer NOT NULL,
    kafka_offset        bigint  NOT NULL,
    source_committed_at timestamptz,
    embedded_at         timestamptz NOT NULL DEFAULT now(),
    {layout};
ALTER TABLE {chunks} ALTER COLUMN embedding SET STORAGE {storage};
CREATE VIEW chunks AS
SELECT source, source_key, chunk_no, content, metadata, embedding, chunk_hash AS content_hash,
       {config_hash}::bytea AS config_hash, {model}::text AS model,
       kafka_topic, kafka_partition, kafka_offset, source_committed_at, embedded_at
FROM {chunks};
INSERT INTO generations (generation, state, config_hash, config, model, dimension, element, metric, m, ef_construction,
                         chunk_table, segment_rows, hot_segment)
VALUES ({number}, 'live', {config_hash}::bytea, {config}::jsonb, {model}, {dimension}, {element}, {metric}, {m}, {ef},
        {table_name}, {segment_rows}, {hot});
""")

_PLAIN = sql.SQL("PRIMARY KEY (document_id, chunk_hash, occurrence)\n) WITH (fillfactor = 50)")
_IN_SEGMENTS = sql.SQL("segment             integer NOT NULL\n) PARTITION BY LIST (segment)")


def select(connection: Connection[Any], number: int) -> Any:
    """Ask for a generation (the cursor, for use in a pipeline)."""
    return connection.execute(_SELECT, [number])


def from_row(row: tuple[Any, ...] | None) -> Generation | None:
    """The answer to `select`."""
    return Generation(*row) if row else None


def live(connection: Connection[Any], *, in_segments: bool = True) -> Generation | None:
    """The live generation, None before the first `migrate`. `in_segments` false: of tables that know of none yet."""
    statement = _SELECT_LIVE.format(_COLUMNS if in_segments else _FIRST_COLUMNS)
    return from_row(connection.execute(statement.encode()).fetchone())


def first_generation(space: VectorSpace) -> sql.Composed:
    """The SQL that creates generation 1, its chunk table and the view; live at once: nothing to switch from."""
    check(space)
    name = "chunks_1"
    hot = segments.FIRST if space.segment_rows else None
    made = _CREATE.format(
        layout=_IN_SEGMENTS if hot else _PLAIN,
        chunks=sql.Identifier(name),
        type=sql.SQL("{}({})").format(sql.Identifier(space.element), sql.Literal(space.dimension)),
        storage=sql.SQL("PLAIN" if space.dimension * _WIDTH[space.element] <= _INLINE_BYTES else "EXTERNAL"),
        number=sql.Literal(1),
        config_hash=sql.Literal("\\x" + space.config_hash.hex()),
        config=sql.Literal(json.dumps(dict(space.description), sort_keys=True, ensure_ascii=False)),
        model=sql.Literal(space.model),
        dimension=sql.Literal(space.dimension),
        element=sql.Literal(space.element),
        metric=sql.Literal(space.metric),
        m=sql.Literal(space.m),
        ef=sql.Literal(space.ef_construction),
        table_name=sql.Literal(name),
        segment_rows=sql.Literal(space.segment_rows),
        hot=sql.Literal(hot),
    )
    return made + segments.added(1, name, hot) if hot else made


def check(space: VectorSpace) -> None:
    """Refuse a space that could be stored but never indexed."""
    largest = _LARGEST[space.element]
    if space.dimension > largest:
        fits = space.element == "vector" and space.dimension <= _LARGEST["halfvec"]
        other = " or set index.element: halfvec (up to 4000)" if fits else ""
        raise Stop(
            f"The model gives {space.dimension} dimensions.",
            f"An HNSW index over {space.element} takes at most {largest}.",
            f"Choose a smaller model{other}.",
        )


def require_same(connection: Connection[Any], generation: Generation, space: VectorSpace) -> None:
    """`Stop` unless `space` is what the generation's vectors were made with; names each setting that differs."""
    mine = {"element": space.element, "metric": space.metric}
    theirs = {"element": generation.element, "metric": generation.metric}
    if generation.config_hash == space.config_hash and mine == theirs:
        return
    row = connection.execute(_CONFIG, [generation.number]).fetchone()
    stored = json.loads(row[0]) if row else {}
    differing = _differences({**stored, **_index(theirs)}, {**space.description, **_index(mine)})
    raise Stop(
        f"The settings differ from those of the stored vectors (generation {generation.number}): {differing}.",
        "Vectors of two configurations cannot be compared, so nothing was written.",
        "Restore these settings, or set store.schema to a new schema and run `embed-consumer migrate`.",
    )


def _index(values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"index.{name}": value for name, value in values.items()}


def _differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    old, new = _flat(stored), _flat(wanted)
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return ", ".join(
        f"{name} ({_short(old.get(name))} is stored, {_short(new.get(name))} is set)" for name in names
    ) or ("config_hash")


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _short(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 48 else text[:45] + "…"
