"""The connector files: one behaviour, whatever the format on the wire."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

CONNECTORS = Path(__file__).parents[2] / "connectors"
# Avro is stricter about names than JSON.
AVRO_ONLY = {"schema.name.adjustment.mode": "avro", "field.name.adjustment.mode": "avro"}


def config(name: str) -> dict[str, str]:
    content: dict[str, str] = json.loads((CONNECTORS / f"{name}.json").read_text(encoding="utf-8"))
    return content


def test_json_and_avro_differ_in_the_values_converter_only() -> None:
    plain, avro = config("postgres-json"), config("postgres-avro")
    assert {name: avro.pop(name) for name in AVRO_ONLY} == AVRO_ONLY
    converters = [
        {name: given.pop(name) for name in list(given) if name.startswith("value.converter")} for given in (plain, avro)
    ]
    assert plain == avro
    assert converters[0]["value.converter"] != converters[1]["value.converter"]


def test_avro_keys_are_json_without_schemas() -> None:
    """A key whose bytes named a schema would move to another partition when the schema is registered again."""
    avro = config("postgres-avro")
    assert avro["key.converter"] == "org.apache.kafka.connect.json.JsonConverter"
    assert avro["key.converter.schemas.enable"] == "false"


def test_avro_values_name_their_schema_by_the_id_of_the_confluent_compatible_api() -> None:
    prefix = "value.converter.apicurio.registry."
    given = {n.removeprefix(prefix): v for n, v in config("postgres-avro").items() if n.startswith(prefix)}
    assert (given["headers.enabled"], given["as-confluent"], given["use-id"]) == ("false", "true", "contentId")


@pytest.mark.semantics("values", "NULL of a column with a default")
@pytest.mark.parametrize("name", ["postgres-json", "postgres-avro", "mariadb-json"])
def test_json_keeps_null_where_a_column_has_a_default(name: str) -> None:
    given = config(name)
    for part in ("key", "value"):
        if given[f"{part}.converter"] == "org.apache.kafka.connect.json.JsonConverter":
            assert given[f"{part}.converter.replace.null.with.default"] == "false"


@pytest.mark.parametrize("name", ["postgres-json", "postgres-avro"])
def test_the_heartbeats_of_the_log_are_routed_and_no_table_is(name: str) -> None:
    """Connect's RegexRouter takes a topic only if the whole name matches: a table may be called `message`."""
    given = config(name)
    pattern = re.compile(given["transforms.heartbeat.regex"])
    routed = pattern.fullmatch(f"{given['topic.prefix']}.message")
    assert routed is not None
    assert routed.expand(given["transforms.heartbeat.replacement"].replace("$1", r"\1")) == "__debezium-heartbeat.shop"
    assert pattern.fullmatch(f"{given['topic.prefix']}.public.message") is None
