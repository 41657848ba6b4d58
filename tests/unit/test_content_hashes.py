"""Hashes tell apart whatever rendering could tell apart, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.content import ChunkSpec, ContentSpec, chunk_hash, content_hash, fields_hash, table_hash
from consumer.errors import Reject

LOOKALIKES: list[dict[str, object]] = [
    {},
    {"a": None},
    {"a": ""},
    {"a": "null"},
    {"a": 1},
    {"a": "1"},
    {"a": 1.0},
    {"a": True},
    {"a": False},
    {"a": 0},
    {"a": Decimal(1)},
    {"a": b"1"},
    {"a": float("nan")},
    {"a": "nan"},
    {"a": float("inf")},
    {"a": float("-inf")},
    {"a": []},
    {"a": {}},
    {"a": "[]"},
    {"a": ["missing"]},
    {"a": ["list"]},
    {"a": ["float", "nan"]},
    {"a": [None]},
    {"a": [float("nan")]},
    {"a": {"b": None}},
    {"a": {"b": float("nan")}},
    {"a": 2**80},
    {"a": str(2**80)},
]

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(("one", "other"), list(combinations(LOOKALIKES, 2)))
@pytest.mark.semantics(
    "values",
    'values that look alike (1, "1", true, [1], …)',
    "have different hashes: a change between them is a change",
)
def test_lookalikes_differ(one: dict[str, object], other: dict[str, object]) -> None:
    assert fields_hash(("a",), one) != fields_hash(("a",), other)


@given(st.dictionaries(st.sampled_from("abcdef"), json_values), st.randoms())
@pytest.mark.semantics("values", "order of keys in a row", "does not matter to the hash")
def test_the_order_of_keys_does_not_matter(row: dict[str, Any], random: Any) -> None:
    keys = list(row)
    random.shuffle(keys)
    assert fields_hash("abcdef", row) == fields_hash("abcdef", {key: row[key] for key in keys})


@given(json_values, json_values)
def test_equal_hash_means_equal_value(one: object, other: object) -> None:
    same = fields_hash("a", {"a": one}) == fields_hash("a", {"a": other})
    assert same == (json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True))


def test_values_do_not_move_between_columns() -> None:
    assert fields_hash(("a", "b"), {"a": "x", "b": "y"}) != fields_hash(("a", "b"), {"a": "y", "b": "x"})
    assert fields_hash(("a", "b"), {"a": "x"}) != fields_hash(("a", "b"), {"b": "x"})


def test_unused_columns_do_not_matter() -> None:
    assert fields_hash(("a",), {"a": 1, "z": 1}) == fields_hash(("a",), {"a": 1, "z": 2})


@pytest.mark.parametrize("row", [{"a": "\ud800"}, {"a": ["\ud800"]}])
def test_text_that_is_not_unicode_is_rejected_without_showing_it(row: dict[str, object]) -> None:
    with pytest.raises(Reject) as fault:
        fields_hash(("a",), row)
    assert fault.value.error_type == "invalid_unicode"


def test_every_hash_has_32_bytes() -> None:
    spec = ContentSpec("t", "{{ a }}")
    for digest in (fields_hash("a", {}), content_hash(""), chunk_hash("x"), table_hash(spec)):
        assert len(digest) == 32


def test_table_hash_follows_the_content_settings_and_not_the_name() -> None:
    spec = ContentSpec("t", "{{ a }}", when="{{ b }}", metadata=("c",))
    assert table_hash(spec) == table_hash(replace(spec, table="u"))
    others = [
        replace(spec, text="{{ a }} "),
        replace(spec, when=None),
        replace(spec, when=""),
        replace(spec, metadata=("c", "d")),
        replace(spec, chunk=ChunkSpec(255)),
        replace(spec, chunk=ChunkSpec(overlap=31)),
    ]
    assert len({table_hash(other) for other in [spec, *others]}) == len(others) + 1
