"""A row of every type that the stack's Postgres has, as the real connector reads and streams it in every mode.

`python -m tests.all_types FOLDER` records it anew into tests/recorded/ with the stack that is kept in FOLDER. The
Postgres of the stack has no hstore, citext, ltree, xml or PostGIS: those are made by hand in the tests.
"""

from __future__ import annotations

import gzip
import json
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from confluent_kafka import Consumer
from psycopg import sql

from consumer.local import Endpoints, Stack

RECORDED = Path(__file__).parent / "recorded"
Raw = tuple[bytes, bytes]  # key, value

SCHEMAS = {"key.converter.schemas.enable": "true", "value.converter.schemas.enable": "true"}
MODES: dict[str, Mapping[str, str]] = {
    "plain": {},
    "schema": SCHEMAS,
    "precise": SCHEMAS
    | {
        "decimal.handling.mode": "precise",
        "time.precision.mode": "adaptive",
        "interval.handling.mode": "numeric",
    },
    "double": SCHEMAS
    | {"decimal.handling.mode": "double", "time.precision.mode": "connect", "binary.handling.mode": "hex"},
    "micros": SCHEMAS | {"time.precision.mode": "microseconds", "binary.handling.mode": "base64"},
    "nanos": SCHEMAS | {"time.precision.mode": "nanoseconds", "binary.handling.mode": "base64-url-safe"},
    "adaptive_time": SCHEMAS | {"time.precision.mode": "adaptive_time_microseconds"},
}

# column: (type, value in SQL, canonical value)
COLUMNS: dict[str, tuple[LiteralString, LiteralString, Any]] = {
    "b": ("boolean", "true", True),
    "i2": ("smallint", "-7", -7),
    "i4": ("integer", "42", 42),
    "i8": ("bigint", "9007199254740993", 9007199254740993),
    "o": ("oid", "17", 17),
    "f4": ("real", "0.1", 0.1),
    "f4_big": ("real", "3.4e38", 3.4e38),
    "f4_small": ("real", "1e-45", 1.4e-45),
    "f4_nan": ("real", "'NaN'", "NaN"),
    "f8": ("double precision", "0.1", 0.1),
    "f8_inf": ("double precision", "'-Infinity'", "-Infinity"),
    "n2": ("numeric(10,2)", "12.30", "12.30"),
    "n_neg": ("numeric(8,3)", "-0.5", "-0.500"),
    "n_zero": ("numeric(8,3)", "0", "0.000"),
    "n0": ("numeric(5)", "7", "7"),
    "n_any": ("numeric", "1.5", "1.5"),
    "n_small": ("numeric", "0.0000000001", "0.0000000001"),
    "n_big": ("numeric", "1e40", "1" + 40 * "0"),
    "n_nan": ("numeric", "'NaN'", "NAN"),
    "n_inf": ("numeric", "'Infinity'", "POSITIVE_INFINITY"),
    "m": ("money", "'-1234567.5'", "-1234567.50"),
    "d": ("date", "'2024-02-29'", "2024-02-29Z"),
    "d_first": ("date", "'0001-01-01'", "0001-01-01Z"),
    "d_far": ("date", "'12024-01-01'", "+12024-01-01Z"),
    "d_inf": ("date", "'infinity'", "infinity"),
    "d_neg_inf": ("date", "'-infinity'", "-infinity"),
    "t": ("time", "'10:15:30.12'", "10:15:30.12Z"),
    "t3": ("time(3)", "'10:15:30.120'", "10:15:30.12Z"),
    "t_whole": ("time", "'10:15:00'", "10:15:00Z"),
    "t24": ("time", "'24:00:00'", "00:00:00Z"),
    "tz": ("timetz", "'10:15:30.12+02'", "08:15:30.12Z"),
    "ts": ("timestamp", "'2024-02-29 10:15:30.12'", "2024-02-29T10:15:30.12Z"),
    "ts3": ("timestamp(3)", "'2024-02-29 10:15:30.123'", "2024-02-29T10:15:30.123Z"),
    "ts_whole": ("timestamp", "'2024-02-29 10:15:00'", "2024-02-29T10:15:00Z"),
    "ts_bc": ("timestamp", "'0044-03-15 10:00:00 BC'", "-0043-03-15T10:00:00Z"),
    "ts_inf": ("timestamp", "'infinity'", "infinity"),
    "ts_neg_inf": ("timestamp", "'-infinity'", "-infinity"),
    "tstz": ("timestamptz", "'2024-02-29 10:15:30.12+02'", "2024-02-29T08:15:30.120000Z"),
    "tstz3": ("timestamptz(3)", "'2024-02-29 10:15:30.12+02'", "2024-02-29T08:15:30.120Z"),
    "tstz_bc": ("timestamptz", "'0044-03-15 10:00:00+00 BC'", "-0043-03-15T10:00:00.000000Z"),
    "tstz_inf": ("timestamptz", "'infinity'", "infinity"),
    "iv": ("interval", "'1 year 2 mons 3 days 04:05:06.78'", "P1Y2M3DT4H5M6.78S"),
    "iv_neg": ("interval", "'-1 day -00:00:01'", "P0Y0M-1DT0H0M-1S"),
    "u": ("uuid", "'6f4e2b1a-1111-4222-8333-444455556666'", "6f4e2b1a-1111-4222-8333-444455556666"),
    "j": ("json", """'{"b": 1,  "a": [1, 2.50]}'""", '{"b": 1,  "a": [1, 2.50]}'),
    "jb": ("jsonb", """'{"b": 1,  "a": [1, 2.50]}'""", '{"a": [1, 2.50], "b": 1}'),
    "c5": ("char(5)", "'ab'", "ab   "),
    "vc": ("varchar(10)", "'ab'", "ab"),
    "tx": ("text", """'té"x\nt'""", 'té"x\nt'),
    "by": ("bytea", r"'\xdeadbeeffbff'", "3q2+7/v/"),
    "bit1": ("bit(1)", "B'1'", True),
    "bit5": ("bit(5)", "B'10101'", "FQ=="),
    "vb": ("varbit", "B'101010101010'", "qgo="),
    "ip": ("inet", "'10.1.2.3/24'", "10.1.2.3/24"),
    "ci": ("cidr", "'10.1.0.0/16'", "10.1.0.0/16"),
    "mac": ("macaddr", "'08:00:2b:01:02:03'", "08:00:2b:01:02:03"),
    "pt": (
        "point",
        "'(1.5,2)'",
        {"x": 1.5, "y": 2.0, "wkb": "AQEAAAAAAAAAAAD4PwAAAAAAAABA", "srid": None},
    ),
    "r4": ("int4range", "'[1,5]'", "[1,6)"),
    "rn": ("numrange", "'[1.5,2.50)'", "[1.5,2.50)"),
    "rts": ("tsrange", "'[2024-01-01,2024-02-01 10:00)'", '["2024-01-01 00:00:00","2024-02-01 10:00:00")'),
    "rtstz": ("tstzrange", "'[2024-01-01 00:00+02,)'", '["2023-12-31 22:00:00+00",)'),
    "rd": ("daterange", "'[2024-01-01,2024-01-05]'", "[2024-01-01,2024-01-06)"),
    "v": ("vector(3)", "'[0.1,2,-3.5]'", [0.1, 2.0, -3.5]),
    "hv": ("halfvec(3)", "'[0.1,2,-3.5]'", [0.099975586, 2.0, -3.5]),
    "sv": ("sparsevec(5)", "'{1:0.1,3:2.5}/5'", {"dimensions": 5, "vector": [[1, 0.1], [3, 2.5]]}),
    "tv": ("tsvector", "'fat:1 cat:2'", "'cat':2 'fat':1"),
    "a_i2": ("smallint[]", "'{1,2,NULL}'", [1, 2, None]),
    "a_i4": ("int[]", "'{1,2,NULL}'", [1, 2, None]),
    "a_empty": ("int[]", "'{}'", []),
    "a_i8": ("bigint[]", "'{1,2}'", [1, 2]),
    "a_f4": ("real[]", "'{0.1,NaN}'", [0.1, "NaN"]),
    "a_f8": ("double precision[]", "'{0.1}'", [0.1]),
    "a_n2": ("numeric(10,2)[]", "'{1.50,2}'", ["1.50", "2.00"]),
    "a_b": ("boolean[]", "'{t,f}'", [True, False]),
    "a_tx": ("text[]", """'{a,"b,c",NULL}'""", ["a", "b,c", None]),
    "a_c": ("char(3)[]", "'{a,b}'", ["a  ", "b  "]),
    "a_d": ("date[]", "'{2024-02-29,infinity}'", ["2024-02-29Z", "infinity"]),
    "a_t": ("time[]", "'{10:15:30.12}'", ["10:15:30.12Z"]),
    "a_ts": ("timestamp[]", "'{2024-02-29 10:15:30.12,infinity}'", ["2024-02-29T10:15:30.12Z", "infinity"]),
    "a_tstz": ("timestamptz[]", "'{2024-02-29 10:15:30.12+02}'", ["2024-02-29T08:15:30.120000Z"]),
    "a_u": ("uuid[]", "'{6f4e2b1a-1111-4222-8333-444455556666}'", ["6f4e2b1a-1111-4222-8333-444455556666"]),
    "a_jb": ("jsonb[]", """ARRAY['{"a": 1}']::jsonb[]""", ['{"a": 1}']),
    "a_by": ("bytea[]", r"ARRAY['\xdead']::bytea[]", ["3q0="]),
    "a_ip": ("inet[]", "'{10.1.2.3}'", ["10.1.2.3"]),
    "nothing": ("text DEFAULT 'something'", "NULL", None),
}
CANONICAL = {"id": 1} | {name: value for name, (_, _, value) in COLUMNS.items()}
# What a mode loses, or writes as a plain text or number whose type nobody names.
LOST: dict[str, dict[str, Any]] = {
    "precise": {
        "n_nan": None,
        "n_inf": None,
        "iv": 37091106780000,
        "iv_neg": -86401000000,
    },
    "double": {
        "n2": 12.3,
        "n_neg": -0.5,
        "n_zero": 0.0,
        "n0": 7.0,
        "n_any": 1.5,
        "n_small": 1e-10,
        "n_big": 1e40,
        "n_nan": "NaN",
        "n_inf": "Infinity",
        "m": -1234567.5,
        "a_n2": [1.5, 2.0],
        "by": "deadbeeffbff",
        "a_by": ["dead"],
    },
    "nanos": {"ts_bc": None, "by": "3q2-7_v_"},
}
DECLARED = {
    "double": {
        "n2": "numeric(10,2)",
        "n_neg": "numeric(8,3)",
        "n_zero": "numeric(8,3)",
        "n0": "numeric(5)",
        "n_any": "numeric",
        "n_small": "numeric",
        "n_big": "numeric",
        "n_nan": "numeric",
        "n_inf": "numeric",
        "m": "numeric(19,2)",
        "a_n2": "numeric(10,2)[]",
        "by": "bytea(hex)",
        "a_by": "bytea(hex)[]",
    },
    "nanos": {"by": "bytea"},
}


def create(endpoints: Endpoints, table: str) -> None:
    """The table, with one row, in the source database."""
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind)) for name, (kind, _, _) in COLUMNS.items()
    )
    with psycopg.connect(endpoints.admin_source_dsn, autocommit=True) as source:
        source.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
        source.execute("SET lc_monetary = 'C'")
        source.execute("SET ROLE shop_owner")
        source.execute(
            sql.SQL("CREATE TABLE {} (id int PRIMARY KEY, {})").format(sql.Identifier("public", table), columns)
        )
    insert(endpoints, table, 1)


def insert(endpoints: Endpoints, table: str, number: int) -> None:
    """One more row of the same values."""
    values = sql.SQL(", ").join(sql.SQL(value) for _, value, _ in COLUMNS.values())
    names = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
    statement = sql.SQL("INSERT INTO {} (id, {}) VALUES ({}, {})")
    with psycopg.connect(endpoints.admin_source_dsn, autocommit=True) as source:
        source.execute("SET lc_monetary = 'C'")
        source.execute(statement.format(sql.Identifier("public", table), names, number, values))


def capture(stack: Stack, name: str, overrides: Mapping[str, str]) -> dict[str, Raw]:
    """What a connector of its own makes of a new table: the records by op, r of row 1, c of row 2, u of row 1."""
    endpoints = stack.endpoints()
    create(endpoints, name)
    own = {"topic.prefix": name, "slot.name": name, "table.include.list": f"public.{name}"}
    stack.register_connector(name=name, overrides={**own, **overrides})
    try:
        found = read(endpoints, f"{name}.public.{name}", {"r"})
        insert(endpoints, name, 2)
        with psycopg.connect(endpoints.admin_source_dsn, autocommit=True) as source:
            source.execute(sql.SQL("UPDATE {} SET id = id WHERE id = 1").format(sql.Identifier("public", name)))
        found = read(endpoints, f"{name}.public.{name}", {"r", "c", "u"})
    finally:
        end(endpoints, name)
    return found


def read(endpoints: Endpoints, topic: str, ops: set[str]) -> dict[str, Raw]:
    """The topic's records by op, once all of `ops` are there."""
    settings = {"bootstrap.servers": endpoints.bootstrap_servers, "group.id": topic, "auto.offset.reset": "earliest"}
    reader = Consumer(settings | {"enable.auto.commit": False, "topic.metadata.refresh.interval.ms": 500})
    reader.subscribe([topic])
    found: dict[str, Raw] = {}
    deadline = time.monotonic() + 60
    try:
        while not ops <= found.keys():
            assert time.monotonic() < deadline, f"only {sorted(found)} came"
            message = reader.poll(1)
            if message is not None and not message.error():
                key, value = message.key() or b"", message.value() or b""
                envelope = json.loads(value)
                found[envelope.get("payload", envelope)["op"]] = key, value
    finally:
        reader.close()
    return found


def end(endpoints: Endpoints, name: str) -> None:
    """Take a connector and its slot away."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    url = f"{endpoints.connect_url}/connectors/{name}"
    opener.open(urllib.request.Request(url, method="DELETE"), timeout=30).close()
    until_slot(endpoints, name, active=False)
    with psycopg.connect(endpoints.admin_source_dsn, autocommit=True) as source:
        source.execute("SELECT pg_drop_replication_slot(%s)", [name])


def until_slot(endpoints: Endpoints, name: str, *, active: bool) -> None:
    """Wait until the connector reads its slot, or does no longer. A task that runs may not have made it yet."""
    state = "SELECT active FROM pg_replication_slots WHERE slot_name = %s"
    with psycopg.connect(endpoints.admin_source_dsn, autocommit=True) as source:
        deadline = time.monotonic() + 30
        while source.execute(state, [name]).fetchone() != (active,):
            assert time.monotonic() < deadline, f"the slot {name} never became {'' if active else 'in'}active"
            time.sleep(0.1)


def recorded(name: str) -> dict[str, Raw]:
    """Records of tests/recorded by op."""
    lines = gzip.decompress((RECORDED / f"{name}.jsonl.gz").read_bytes()).decode().splitlines()
    return {op: (key.encode(), value.encode()) for op, key, value in map(json.loads, lines)}


def record(name: str, found: Mapping[str, Raw]) -> None:
    """Write records so that `recorded` finds them."""
    lines = [json.dumps([op, key.decode(), value.decode()]) for op, (key, value) in sorted(found.items())]
    RECORDED.mkdir(exist_ok=True)
    (RECORDED / f"{name}.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))


if __name__ == "__main__":
    running = Stack(Path(sys.argv[1]))
    for mode, overrides in MODES.items():
        record(mode, capture(running, f"all_{mode}", overrides))
