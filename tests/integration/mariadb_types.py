"""A row of every type that MariaDB has and the connector carries, with what the store gets of each."""

from __future__ import annotations

from typing import NamedTuple


class Column(NamedTuple):
    """One column: its type, the literal that is inserted, and its value as the store has it."""

    type: str
    literal: str
    value: object


COLUMNS = {
    "tiny": Column("tinyint", "-128", -128),
    "tiny_unsigned": Column("tinyint unsigned", "255", 255),
    "truth": Column("boolean", "true", 1),  # MariaDB knows it as tinyint(1)
    "small_unsigned": Column("smallint unsigned", "65535", 65535),
    "medium": Column("mediumint", "-8388608", -8388608),
    "medium_unsigned": Column("mediumint unsigned", "16777215", 16777215),
    "whole": Column("int", "-2147483648", -2147483648),
    "whole_unsigned": Column("int unsigned", "4294967295", 4294967295),
    "big": Column("bigint", "-9223372036854775808", -9223372036854775808),
    "big_unsigned": Column("bigint unsigned", "18446744073709551615", 18446744073709551615),
    "money": Column("decimal(20,4)", "-1234.5600", "-1234.5600"),
    "long_decimal": Column(
        "decimal(40,0)", "'12345678901234567890123456789012345'", "12345678901234567890123456789012345"
    ),
    "single": Column("float", "1.1", 1.1),
    "twofold": Column("double", "-1.5e-7", -1.5e-7),
    "day": Column("date", "'2026-02-28'", "2026-02-28Z"),
    "early_day": Column("date", "'0050-01-02'", "0050-01-02Z"),  # a year of two digits is not moved to 2050
    "moment": Column("datetime", "'2026-01-02 03:04:05'", "2026-01-02T03:04:05Z"),
    "last_moment": Column("datetime(6)", "'9999-12-31 23:59:59.999999'", "9999-12-31T23:59:59.999999Z"),
    "instant": Column("timestamp NULL", "'2026-01-02 03:04:05'", "2026-01-01T21:34:05Z"),  # the server is at +05:30
    "fine_instant": Column("timestamp(6) NULL", "'2026-01-02 03:04:05.678901'", "2026-01-01T21:34:05.678901Z"),
    "hour": Column("time(3)", "'23:59:59.250'", "23:59:59.25Z"),
    "year": Column("year", "2026", 2026),
    "one_of": Column("enum('small','größer')", "'größer'", "größer"),
    "some_of": Column("set('x','y','z')", "'z,x'", "x,z"),
    "document": Column("json", """'{"b": 1, "a": [1.50, null]}'""", '{"b": 1, "a": [1.50, null]}'),
    "flag": Column("bit(1)", "b'1'", True),
    "flags": Column("bit(12)", "b'101010101010'", "qgo="),  # little-endian
    "padded": Column("binary(4)", "'ab'", "YWIAAA=="),
    "bytes": Column("varbinary(10)", "x'00ff10'", "AP8Q"),
    "blob_value": Column("blob", "x'deadbeef'", "3q2+7w=="),
    "empty_blob": Column("tinyblob", "''", ""),
    "code": Column("char(5)", "'ab '", "ab"),
    "name": Column("varchar(20)", "'Größe 👩\u200d🚀'", "Größe 👩\u200d🚀"),
    "latin": Column("varchar(20) CHARACTER SET latin1", "'naïve €'", "naïve €"),
    "small_text": Column("tinytext", "''", ""),
    "medium_text": Column("mediumtext", "'it''s \\\\ \"quoted\"'", 'it\'s \\ "quoted"'),
    "long_text": Column("longtext", "repeat('lang ', 3)", "lang lang lang "),
    "identity": Column("uuid", "'123e4567-e89b-12d3-a456-426655440001'", "123e4567-e89b-12d3-a456-426655440001"),
    "nothing": Column("varchar(10) DEFAULT 'something'", "NULL", None),
    "defaulted": Column("varchar(10) DEFAULT 'something'", "DEFAULT", "something"),
}
_DEFINITIONS = ", ".join(f"`{name}` {column.type}" for name, column in COLUMNS.items())
_LITERALS = ", ".join(column.literal for column in COLUMNS.values())
TABLE = f"CREATE TABLE kinds (id int PRIMARY KEY, {_DEFINITIONS});"


def insert(number: int) -> str:
    """The statement that writes the row under this key."""
    return f"INSERT INTO kinds VALUES ({number}, {_LITERALS});"
