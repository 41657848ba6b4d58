"""The real connector over a table of every type: one canonical row from snapshot and stream, on JSON of both kinds."""

from __future__ import annotations

import os

import pytest

from consumer.events import Form, Record, decode_event, is_placeholder
from consumer.local import Stack
from tests.all_types import CANONICAL, SCHEMAS, capture
from tests.toasted import COLUMNS, MODES, NULLS
from tests.toasted import capture as capture_update


@pytest.mark.parametrize(("mode", "overrides"), [("plain", {}), ("schema", SCHEMAS)])
@pytest.mark.semantics(
    "values",
    "every PostgreSQL type, from snapshot and stream, in every mode of the connector",
    "one canonical value, so that one row has one hash",
)
def test_snapshot_and_stream_give_one_canonical_row(stack: Stack, mode: str, overrides: dict[str, str]) -> None:
    form, rows = Form(), {}
    for op, (key, value) in capture(stack, f"values_{mode}_{os.getpid()}", overrides).items():
        event = decode_event(Record("t", "i", 0, 1, 1, key, value, 5), form)
        rows[op] = {**(event.after or {}), "id": 1}
        assert event.op == op
    assert rows == {"r": CANONICAL, "c": CANONICAL, "u": CANONICAL}


@pytest.mark.parametrize("mode", ["plain", "schema"])
@pytest.mark.semantics("TOAST", "placeholder of every column type, as the connector writes it", "recognised")
def test_an_update_leaves_large_columns_out_in_forms_we_know(stack: Stack, mode: str) -> None:
    overrides, more = MODES[mode]
    key, value = capture_update(stack, f"toasted_{mode}_{os.getpid()}", overrides)["u"]
    after = decode_event(Record("t", "i", 0, 1, 1, key, value, 5)).after or {}
    assert {name for name, item in after.items() if is_placeholder(item)} == COLUMNS.keys() - NULLS - more
