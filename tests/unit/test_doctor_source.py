"""The doctor's verdicts about the source database, on plain data."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consumer.operations.doctor.finding import Finding
from consumer.operations.doctor.source import judge_server, judge_slots, table_of
from consumer.operations.doctor.tables import judge_table, nulled
from consumer.settings import TableSettings
from consumer.source import Column, Published, Slot, SourceServer, SourceTable

SERVER = SourceServer(180004, "logical", "shop", -1)
SLOT = Slot("embed", True, "reserved", 4096, None, None)
TEXT = Column("text", "text", "b", False, True)
NUMBERS = Column("real[]", "float4", "b", True, True)
PUBLISHED = Published("dbz", True, True, frozenset({"id", "title", "numbers"}), False)
TABLE = SourceTable("public.p", False, "d", True, {"id": TEXT, "title": TEXT, "numbers": NUMBERS}, (PUBLISHED,))


def judged(
    table: SourceTable | None, used: tuple[str, ...] = ("title",), publications: tuple[str, ...] = ("dbz",)
) -> dict[str, Finding]:
    """The findings by the first word of their check: publication, key, columns, table."""
    return {f.check.split()[0]: f for f in judge_table("shop.public.p", "public.p", table, publications, used)}


def test_a_healthy_table_passes() -> None:
    assert {name: finding.verdict for name, finding in judged(TABLE).items()} == {
        "publication": "pass",
        "key": "pass",
        "columns": "pass",
    }


def test_a_table_that_is_not_there_is_the_only_finding() -> None:
    assert [(name, finding.verdict) for name, finding in judged(None).items()] == [("table", "fail")]


@pytest.mark.parametrize(
    ("published", "publications", "verdict", "fix"),
    [
        ((), ("dbz",), "fail", "ALTER PUBLICATION dbz ADD TABLE public.p;"),
        ((), (), "fail", "CREATE PUBLICATION dbz_publication FOR TABLE public.p;"),
        ((), ("one", "two"), "fail", "ALTER PUBLICATION <publication.name of the connector> ADD TABLE public.p;"),
        ((PUBLISHED._replace(changes=False),), ("dbz",), "fail", "SET (publish ="),
        ((PUBLISHED._replace(truncates=False),), ("dbz",), "warn", "SET (publish ="),
        ((PUBLISHED._replace(filtered=True),), ("dbz",), "warn", "`when`"),
        ((PUBLISHED._replace(columns=frozenset({"id"})),), ("dbz",), "fail", "ADD TABLE public.p"),
        ((PUBLISHED._replace(columns=None),), ("dbz",), "pass", ""),
        ((PUBLISHED._replace(changes=False), PUBLISHED), ("dbz", "other"), "pass", ""),
    ],
)
def test_publications(published: tuple[Published, ...], publications: tuple[str, ...], verdict: str, fix: str) -> None:
    finding = judged(replace(TABLE, published=published), publications=publications)["publication"]
    assert finding.verdict == verdict
    assert fix in finding.fix


@pytest.mark.parametrize(
    ("identity", "primary_key", "verdict"),
    [
        *(("d", True, "pass"), ("f", True, "pass"), ("i", True, "pass"), ("n", True, "fail")),
        *(("d", False, "fail"), ("f", False, "warn"), ("i", False, "warn"), ("n", False, "fail")),
    ],
)
def test_a_change_must_say_which_row_it_is_of(identity: str, primary_key: bool, verdict: str) -> None:
    assert judged(replace(TABLE, identity=identity, primary_key=primary_key))["key"].verdict == verdict


def test_a_column_that_the_settings_name_must_be_there() -> None:
    finding = judged(TABLE, used=("title", "subtitle"))["columns"]
    assert (finding.verdict, "subtitle" in finding.what) == ("fail", True)


def test_a_column_may_be_named_as_avro_carries_it() -> None:
    table = replace(TABLE, columns={"sub-title": TEXT}, published=(PUBLISHED._replace(columns=None),))
    assert judged(table, used=("sub_title",))["columns"].verdict == "pass"


def test_a_type_that_comes_as_null_needs_the_full_identity_only_where_it_is_used() -> None:
    risky = judged(TABLE, used=("title", "numbers"))["columns"]
    assert (risky.verdict, risky.fix) == ("warn", "ALTER TABLE public.p REPLICA IDENTITY FULL;")
    assert "numbers (real[])" in risky.what
    assert judged(replace(TABLE, identity="f"), used=("title", "numbers"))["columns"].verdict == "pass"


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (Column("vector(3)", "vector", "b", False, True), True),
        (Column("text", "text", "b", False, True), False),
        (Column("numeric", "numeric", "b", False, True), False),  # as text it has a placeholder
        (Column("numeric[]", "numeric", "b", True, True), True),
        (Column("text[]", "text", "b", True, True), False),
        (Column("mood[]", "mood", "e", True, True), True),
        (Column("mood", "mood", "e", False, False), False),
        (Column("int4range[]", "int4range", "r", True, True), True),
        (Column("vector(3)", "vector", "b", False, False), False),  # STORAGE PLAIN never leaves the row
    ],
)
def test_types_that_come_as_null(column: Column, expected: bool) -> None:
    assert nulled(column) is expected


def test_wal_level() -> None:
    assert judge_server("here", SERVER).verdict == "pass"
    assert "wal_level = 'logical'" in judge_server("here", SERVER._replace(wal_level="replica")).fix


@pytest.mark.parametrize(
    ("slot", "keep_mib", "verdict"),
    [
        (SLOT, -1, "pass"),
        (SLOT._replace(safe_bytes=900 << 20), 1024, "pass"),
        (SLOT._replace(retained_bytes=900 << 20, safe_bytes=100 << 20), 1024, "fail"),
        (SLOT._replace(wal_status="unreserved"), 1024, "fail"),
        (SLOT._replace(wal_status="lost", active=False, retained_bytes=None), 1024, "fail"),
        (SLOT._replace(invalidation="rows_removed"), -1, "fail"),
        (SLOT._replace(active=False), -1, "fail"),
        (SLOT._replace(retained_bytes=5 << 30), -1, "warn"),
    ],
)
def test_slots(slot: Slot, keep_mib: int, verdict: str) -> None:
    (finding,) = judge_slots(SERVER._replace(keep_mib=keep_mib), [slot])
    assert (finding.verdict, bool(finding.fix)) == (verdict, verdict != "pass")


def test_no_slot_fails_and_one_that_nobody_reads_beside_a_read_one_is_a_risk() -> None:
    assert [finding.verdict for finding in judge_slots(SERVER, [])] == ["fail"]
    left = SLOT._replace(name="left", active=False)
    assert [finding.verdict for finding in judge_slots(SERVER, [SLOT, left])] == ["pass", "warn"]


def test_the_slot_that_the_settings_name_must_be_there_and_be_read_whatever_others_do() -> None:
    other = SLOT._replace(name="other")
    assert [f.verdict for f in judge_slots(SERVER, [SLOT, other], "embed")] == ["pass", "pass"]
    unread = judge_slots(SERVER, [SLOT._replace(active=False), other], "embed")
    assert [(f.check, f.verdict) for f in unread] == [("slot embed", "fail"), ("slot other", "pass")]
    left = judge_slots(SERVER, [SLOT, other._replace(active=False)], "embed")
    assert [f.verdict for f in left] == ["pass", "warn"], "nobody needs it, and it fills the disk"
    missing, _ = judge_slots(SERVER, [other], "embed")
    assert (missing.check, missing.verdict, "source.slot" in missing.fix) == ("slot embed", "fail", True)


@pytest.mark.parametrize(
    ("topic", "source", "expected"),
    [
        ("shop.public.products", "", ("public", "products")),
        ("shop.public.my.dots", "", ("public", "my.dots")),
        ("all-changes", "shop.public.products", ("public", "products")),
        ("all-changes", "", None),
    ],
)
def test_the_table_of_an_entry(topic: str, source: str, expected: tuple[str, str] | None) -> None:
    assert table_of(TableSettings(topic=topic, source=source, text="x")) == expected
