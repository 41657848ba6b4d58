"""What the connector writes for an unchanged TOASTed column, in every mode, and what merely looks like it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from consumer.events import UNCHANGED, Form, declared_types, is_placeholder
from tests.all_types import recorded
from tests.toasted import COLUMNS, MODES, NULLS
from tests.unit.test_events_values import connect, decode, decode_as_avro

PLACEHOLDER = "__debezium_unavailable_value"
BASE64 = base64.b64encode(PLACEHOLDER.encode()).decode()
CODES = list(PLACEHOLDER.encode())
UUID = "b68a35a7-17ad-35b3-af2a-ae46edb4545a"
HSTORE = f'{{"{PLACEHOLDER}":"{PLACEHOLDER}"}}'


def holes(after: dict[str, Any] | None) -> set[str]:
    return {name for name, value in (after or {}).items() if is_placeholder(value)}


@pytest.mark.parametrize(
    ("wire", "mode"),
    [(decode, "plain"), *((wire, mode) for wire in (decode, decode_as_avro) for mode in list(MODES)[1:])],
)
@pytest.mark.semantics("TOAST", "placeholder of every column type, as the connector writes it")
def test_every_form_that_the_connector_writes_is_known(mode: str, wire: Any) -> None:
    event = wire(recorded(f"toast_{mode}")["u"])
    nulls = NULLS | MODES[mode][1]
    assert holes(event.after) == COLUMNS.keys() - nulls
    assert {name for name, value in (event.after or {}).items() if value is None} == nulls


def test_declared_types_do_not_hide_a_placeholder() -> None:
    types = {name: kind for name, (kind, _) in COLUMNS.items()}
    form = Form(types=declared_types("t", types | {"n": "numeric(10,2)"}))
    assert holes(decode(recorded("toast_plain")["u"], form).after) == COLUMNS.keys() - NULLS - {"a_d"}


TEXT = {"type": "string"}
JSON = {"type": "string", "name": "io.debezium.data.Json"}
BYTES = {"type": "bytes"}


def array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": {"optional": True, **items}}


LONG = {"type": "int64"}
MAP = {"type": "map", "keys": {"type": "string"}, "values": {"type": "string", "optional": True}}
UUIDS = array({"type": "string", "name": "io.debezium.data.Uuid"})
FORMS = [
    (PLACEHOLDER, TEXT),
    (PLACEHOLDER, JSON),
    (HSTORE, JSON),
    ({PLACEHOLDER: PLACEHOLDER}, MAP),
    (BASE64, BYTES),
    ([PLACEHOLDER], array(TEXT)),
    ([BASE64], array(BYTES)),
    (CODES, array({"type": "int32"})),
    (CODES, array(LONG)),
    (CODES, array({"type": "int32", "name": "io.debezium.time.Date"})),
    ([UUID], UUIDS),
]
DATA = [
    (BASE64, TEXT),
    (HSTORE, TEXT),
    (PLACEHOLDER.encode().hex(), TEXT),
    (f"about {PLACEHOLDER}", TEXT),
    (UUID, {"type": "string", "name": "io.debezium.data.Uuid"}),
    (base64.b64encode(b"a" + PLACEHOLDER.encode()).decode(), BYTES),
    ([PLACEHOLDER, PLACEHOLDER], array(TEXT)),
    ([PLACEHOLDER], UUIDS),
    ([UUID], array(TEXT)),
    ([BASE64], array(TEXT)),
    (CODES, array({"type": "int16"})),
    ([float(code) for code in CODES], array({"type": "double"})),
    (CODES[1:], array(LONG)),
    ([str(code) for code in CODES], array(TEXT)),
    ({PLACEHOLDER: PLACEHOLDER, "a": "b"}, MAP),
]


@pytest.mark.parametrize("wire", [decode, decode_as_avro])
@pytest.mark.parametrize(("value", "shape"), FORMS)
def test_with_a_schema_a_form_counts_for_its_type(value: Any, shape: dict[str, Any], wire: Any) -> None:
    assert wire(connect(value, **shape)).after == {"v": UNCHANGED}


@pytest.mark.parametrize("wire", [decode, decode_as_avro])
@pytest.mark.parametrize(("value", "shape"), DATA)
@pytest.mark.semantics(
    "TOAST",
    "user data that is or contains a placeholder",
    "data where schema or declared type tells it apart, and wherever it is more than the placeholder",
)
def test_with_a_schema_the_form_of_another_type_is_data(value: Any, shape: dict[str, Any], wire: Any) -> None:
    assert not holes(wire(connect(value, **shape)).after)


def plain(value: Any, **types: str) -> dict[str, Any] | None:
    form = Form(types=declared_types("t", types))
    return decode((b'{"id":1}', json.dumps({"op": "u", "after": {"v": value}}).encode()), form).after


@pytest.mark.parametrize("value", [value for value, _ in FORMS])
def test_without_a_schema_every_form_counts(value: Any) -> None:
    assert plain(value) == {"v": UNCHANGED}


@pytest.mark.parametrize(
    "value",
    [
        *(None, "", 1, 3.5, True, [], {}, UUID, "95", f"about {PLACEHOLDER}", PLACEHOLDER.encode().hex()),
        *([PLACEHOLDER] * 2, {"a": PLACEHOLDER}, [str(code) for code in CODES], CODES[1:]),
    ],
)
@pytest.mark.semantics("TOAST", "user data that is or contains a placeholder")
def test_without_a_schema_a_value_that_merely_contains_it_is_data(value: Any) -> None:
    assert plain(value) == {"v": value}


@pytest.mark.parametrize(
    ("kind", "form", "other"),
    [
        ("text", PLACEHOLDER, BASE64),
        ("bytea", BASE64, HSTORE[:-1]),
        ("bytea(hex)", PLACEHOLDER, "5f5f"),
        ("hstore", HSTORE, '{"a":"b"}'),
        ("int8[]", CODES, [1]),
        ("int2[]", None, CODES),
        ("float8[]", None, CODES),
        ("text[]", [PLACEHOLDER], [UUID]),
        ("uuid[]", [UUID], [PLACEHOLDER]),
    ],
)
def test_a_declared_type_tells_its_form_from_the_others(kind: str, form: Any, other: Any) -> None:
    assert not holes(plain(other, v=kind))
    assert form is None or plain(form, v=kind) == {"v": UNCHANGED}
