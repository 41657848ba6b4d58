"""Rows become text as the settings say; what cannot become text is rejected by name and never by value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.content import ChunkSpec, ContentSpec, Rendered, TableContent, content_hash
from consumer.errors import Exit, Reject, Stop

SECRET = "canary-4711"


def table(text: str = "{{ a }}", when: str | None = None, metadata: tuple[str, ...] = ()) -> TableContent:
    return TableContent(ContentSpec("shop.products", text, when, metadata))


def rejected(content: TableContent, row: dict[str, object]) -> Reject:
    with pytest.raises(Reject) as fault:
        content.render(row)
    assert fault.value.stage == "render"
    assert SECRET not in str(fault.value)
    assert "shop.products" in str(fault.value)
    return fault.value


def test_a_row_becomes_text_metadata_and_hash() -> None:
    content = table("{{ title }}\n\n{{ body }}", "{{ status == 'published' }}", ("price",))
    row = {"title": "Lamp", "body": "It <glows>", "status": "published", "price": 9.5, "unused": 1}
    assert content.render(row) == Rendered("Lamp\n\nIt <glows>", {"price": 9.5}, content_hash("Lamp\n\nIt <glows>"))


def test_columns_are_everything_that_can_be_read() -> None:
    content = table("{% set b = a %}{{ b }}{% for i in list %}{{ i }}{% endfor %}", "{{ c and range }}", ("m", "a"))
    assert content.columns == ("a", "c", "list", "m", "range")


@given(st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.integers(0, 1) | st.none(), min_size=4))
def test_equal_fields_hash_means_equal_content(row: dict[str, int | None]) -> None:
    content = table("{% if a %}{{ b }}{% endif %}", "{{ c == 1 }}")
    other = {**row, "d": None}
    assert content.fields_hash(row) == content.fields_hash(other)
    assert content.render(row) == content.render(other)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ a }}", ""),
        ("{{ a | upper }}", ""),
        ("{{ a | trim | title }}", ""),
        ("{{ a | join(', ') }}", ""),
        ("{{ 'x' ~ a ~ 'y' }}", "xy"),
        ("{{ ('x' ~ a) ~ (a ~ 'y') }}", "xy"),
        ("{{ a is none }}", "True"),
        ("{{ a | default('n/a', true) }}", "n/a"),
        ("{{ a or 'fallback' }}", "fallback"),
    ],
)
@pytest.mark.semantics("values", "NULL in a template", "no text, never the word None")
def test_null_is_no_text(template: str, expected: str) -> None:
    assert table(template).render({"a": None}).text == expected


@pytest.mark.parametrize(
    ("when", "row", "included"),
    [
        ("{{ a }}", {"a": True}, True),
        ("{{ a }}", {"a": None}, False),
        ("{{ a }}", {"a": 0}, False),
        ("{{ a }}", {"a": "false"}, False),
        ("{{ a }}", {"a": "No"}, False),
        ("{{ a }}", {"a": "yes"}, True),
        ("  {{ a == 'x' }}\n", {"a": "x"}, True),
        ("{{ a == 'x' }}", {"a": "y"}, False),
        ("{{ not a }}", {"a": None}, True),
        ("{{ a is defined }}", {}, False),
        ("{% if a > 3 %}true{% else %}false{% endif %}", {"a": 4}, True),
        ("{% if a > 3 %}true{% endif %}", {"a": 3}, False),
        ("true", {}, True),
    ],
)
@pytest.mark.semantics("values", "result of `when`", "true and false in their usual spellings; NULL and zero are false")
def test_when_decides(when: str, row: dict[str, object], included: bool) -> None:
    assert table("text", when).render(row).text == ("text" if included else "")


def test_an_excluded_row_needs_no_text_but_keeps_its_metadata() -> None:
    content = table("{{ missing }}", "{{ a }}", ("m",))
    assert content.render({"a": False, "m": 1}) == Rendered("", {"m": 1}, content_hash(""))


@pytest.mark.parametrize(
    ("text", "when", "error_type"),
    [
        ("{{ nosuch }}", None, "missing_column"),
        ("x", "{{ nosuch }}", "missing_column"),
        ("{{ range(3) }}", None, "missing_column"),
        ("{{ a.b.c }}", None, "template_error"),
        ("{{ a[a] }}{{ {}[a] }}", None, "template_error"),
        ("{{ a + 1 }}", None, "template_error"),
        ("{{ a.__class__.__mro__ }}", None, "template_error"),
        ("{{ 2 ** (a | length * 1000) }}", None, "template_error"),
        ("{{ a * 100000000 }}", None, "too_long"),
        ("{{ 100000000 * [a] }}", None, "too_long"),
        ("{% for i in a %}{% for j in a %}{{ '%10000000s' % j }}{% endfor %}{% endfor %}", None, "too_long"),
        ("x", "{{ a }}", "not_boolean"),
        ("x", "maybe {{ a }}", "not_boolean"),
    ],
)
@pytest.mark.semantics(
    "values",
    "column that the settings name and the event lacks; a template that fails or grows without bound",
    "failed document that names column or line",
)
def test_what_a_template_cannot_do_is_rejected(text: str, when: str | None, error_type: str) -> None:
    assert rejected(table(text, when), {"a": SECRET}).error_type == error_type


def test_a_fault_names_the_line_and_the_missing_column() -> None:
    assert "line 3" in str(rejected(table("one\n\n{{ a.b.c }}"), {"a": SECRET}))
    assert "nosuch" in str(rejected(table("{{ nosuch }}"), {}))
    assert "price" in str(rejected(table(metadata=("price",)), {"a": SECRET}))


@pytest.mark.parametrize(
    ("row", "error_type"),
    [
        ({"a": f"{SECRET}\0", "m": 1}, "nul_character"),
        ({"a": "x", "m": f"{SECRET}\0"}, "nul_character"),
        ({"a": "x", "m": [{SECRET: "\0"}]}, "nul_character"),
        ({"a": "x", "m": {"\0": SECRET}}, "nul_character"),
        ({"a": f"{SECRET}\ud800", "m": 1}, "invalid_unicode"),
    ],
)
@pytest.mark.semantics(
    "values",
    "NUL character or lone surrogate in a used column",
    "failed document `nul_character` or `invalid_unicode`",
)
def test_text_that_postgres_cannot_store_is_rejected(row: dict[str, object], error_type: str) -> None:
    assert rejected(table(metadata=("m",)), row).error_type == error_type


@pytest.mark.parametrize(
    ("text", "when", "named"),
    [
        ("{{ a", None, "Line 1"),
        ("\n{% if a %}", None, "Line 2"),
        ("{{ a | nofilter }}", None, "nofilter"),
        ("{% include 'secrets' %}", None, "include"),
        ("{% import 'x' as y %}", None, "import"),
        ("x", "{{ a = }}", "when"),
    ],
)
def test_a_template_that_cannot_work_stops_the_start(text: str, when: str | None, named: str) -> None:
    with pytest.raises(Stop, match=r"shop\.products") as fault:
        table(text, when)
    assert fault.value.exit_code is Exit.USAGE
    assert named in str(fault.value)


def test_an_overlap_of_a_whole_chunk_stops_the_start() -> None:
    with pytest.raises(Stop, match=r"64.*64") as fault:
        TableContent(ContentSpec("t", "x", chunk=ChunkSpec(64, 64)))
    assert fault.value.exit_code is Exit.USAGE


def test_a_template_cannot_change_the_row() -> None:
    row: dict[str, object] = {"a": [1]}
    assert rejected(table("{{ a.append(2) }}"), row).error_type == "template_error"
    assert row == {"a": [1]}
