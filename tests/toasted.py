"""A row of large values that an update leaves alone: what the real connector writes in their place, by type and mode.

A whole row stays below the 1 MB of a Kafka message. `python -m tests.toasted FOLDER` records it anew into
tests/recorded/ with the stack that is kept in FOLDER.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg import sql

from consumer.local import Endpoints, Stack
from tests.all_types import SCHEMAS, Raw, end, read, record, until_slot

TEXT: LiteralString = "(SELECT string_agg(md5(g::text), '') FROM generate_series(1, 200) g)"


def _array(item: LiteralString, count: LiteralString = "600") -> LiteralString:
    return "(SELECT array_agg(" + item + ") FROM generate_series(1, " + count + ") g)"


_FLOATS = _array("random()", "1500")
# column: (type, value in SQL). For those in NULLS the connector (3.6.3) writes NULL, which no one can tell from NULL.
COLUMNS: dict[str, tuple[LiteralString, LiteralString]] = {
    "tx": ("text", TEXT),
    "vc": ("varchar", TEXT),
    "j": ("json", f"to_json({TEXT})"),
    "jb": ("jsonb", f"to_jsonb({TEXT})"),
    "by": ("bytea", f"convert_to({TEXT}, 'UTF8')"),
    "n": ("numeric", "(SELECT string_agg((g * 7919 % 9973)::text, '') FROM generate_series(1, 4000) g)::numeric"),
    "tv": ("tsvector", f"array_to_tsvector({_array('md5(g::text)', '300')})"),
    "a_tx": ("text[]", _array("md5(g::text)")),
    "a_vc": ("varchar(40)[]", _array("md5(g::text)")),
    "a_c": ("char(3)[]", _array("substr(md5(g::text), 1, 3)")),
    "a_j": ("json[]", _array("to_json(md5(g::text))")),
    "a_jb": ("jsonb[]", _array("to_jsonb(md5(g::text))")),
    "a_by": ("bytea[]", _array("decode(md5(g::text), 'hex')")),
    "a_i4": ("int[]", _array("g * 7919")),
    "a_i8": ("bigint[]", _array("g * 7919")),
    "a_d": ("date[]", _array("date '2000-01-01' + g")),
    "a_u": ("uuid[]", _array("gen_random_uuid()")),
    "vb": ("varbit", "repeat('10', 20000)::varbit"),
    "v": ("vector(1500)", f"{_FLOATS}::float4[]::vector"),
    "hv": ("halfvec(1500)", f"{_FLOATS}::float4[]::halfvec"),
    "sv": ("sparsevec(1500)", f"{_FLOATS}::float4[]::vector(1500)::sparsevec"),
    "a_i2": ("smallint[]", _array("g::smallint", "2500")),
    "a_f4": ("real[]", _array("random()::real")),
    "a_f8": ("float8[]", _array("random()")),
    "a_n": ("numeric[]", _array("g::numeric")),
    "a_b": ("boolean[]", _array("random() < 0.5", "2500")),
    "a_t": ("time[]", _array("time '00:00' + random() * interval '1 day'")),
    "a_ts": ("timestamp[]", _array("timestamp '2000-01-01' + random() * interval '1 day'")),
    "a_tstz": ("timestamptz[]", _array("timestamptz '2000-01-01' + random() * interval '1 day'")),
    "a_ip": ("inet[]", _array("('10.1.' || g % 250 || '.7')::inet")),
}
NULLS = {"vb", "v", "hv", "sv", "a_i2", "a_f4", "a_f8", "a_n", "a_b", "a_t", "a_ts", "a_tstz", "a_ip"}
# Mode by mode: overrides of the connector, and what else becomes NULL.
MODES: dict[str, tuple[Mapping[str, str], set[str]]] = {
    "plain": ({}, {"a_d"}),
    "schema": (SCHEMAS, {"a_d"}),
    "numbers": (SCHEMAS | {"decimal.handling.mode": "precise", "time.precision.mode": "adaptive"}, {"n"}),
    "hex": (SCHEMAS | {"binary.handling.mode": "hex"}, {"a_d", "a_by"}),
    "base64": (SCHEMAS | {"binary.handling.mode": "base64"}, {"a_d", "by", "a_by"}),
}


def capture(stack: Stack, name: str, overrides: Mapping[str, str]) -> dict[str, Raw]:
    """The record of an update that touches none of the columns."""
    endpoints = stack.endpoints()
    _create(endpoints, name)
    own = {"topic.prefix": name, "slot.name": name, "table.include.list": f"public.{name}", "snapshot.mode": "no_data"}
    stack.register_connector(name=name, overrides={**own, **overrides})
    until_slot(endpoints, name, active=True)  # what is committed before is not captured: no snapshot is taken
    try:
        with psycopg.connect(endpoints.admin_source_dsn, autocommit=True) as source:
            source.execute(sql.SQL("UPDATE {} SET k = 2").format(sql.Identifier("public", name)))
        return read(endpoints, f"{name}.public.{name}", {"u"})
    finally:
        end(endpoints, name)


def _create(endpoints: Endpoints, name: str) -> None:
    table = sql.Identifier("public", name)
    columns = sql.SQL(", ").join(
        sql.SQL("{} {} ").format(sql.Identifier(column), sql.SQL(kind)) for column, (kind, _) in COLUMNS.items()
    )
    external = sql.SQL(", ").join(
        sql.SQL("ALTER {} SET STORAGE EXTERNAL").format(sql.Identifier(column)) for column in COLUMNS
    )
    values = sql.SQL(", ").join(sql.SQL(value) for _, value in COLUMNS.values())
    with psycopg.connect(endpoints.admin_source_dsn, autocommit=True) as source:
        source.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
        source.execute("SET ROLE shop_owner")
        source.execute(sql.SQL("CREATE TABLE {} (id int PRIMARY KEY, k int, {})").format(table, columns))
        source.execute(sql.SQL("ALTER TABLE {} {}").format(table, external))
        source.execute(sql.SQL("INSERT INTO {} VALUES (1, 1, {})").format(table, values))


if __name__ == "__main__":
    running = Stack(Path(sys.argv[1]))
    for mode, (changed, _) in MODES.items():
        record(f"toast_{mode}", capture(running, f"toast_{mode}", changed))
