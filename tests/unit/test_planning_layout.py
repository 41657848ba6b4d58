"""DDL between two events of a row: a column left out is filled only from a row that certainly had the same column."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from consumer.events import AvroSchema, Form, Record, SchemaRef, are_same, decode_event, layout_of
from consumer.planning import Table
from tests.connect_avro import to_avro
from tests.unit.records import TOPIC, table
from tests.unit.test_planning_planner import Memory

TOAST = "__debezium_unavailable_value"
Columns = Sequence[tuple[str, str]]  # name and type of Connect's schema
Event = Callable[..., Record]

ROW: Columns = (("id", "int32"), ("title", "string"), ("body", "string"), ("price", "int32"))
SWAPPED: Columns = (("id", "int32"), ("body", "string"), ("title", "string"), ("price", "int32"))
TITLE_FROM_BODY: Columns = (("id", "int32"), ("title", "string"), ("price", "int32"))
OTHER_BEFORE: Columns = (("id", "int32"), ("old_title", "string"), ("body", "string"), ("price", "int32"))


def plain(offset: int, columns: Columns, row: dict[str, Any], op: str = "u") -> Record:
    """An event as the connector writes it without schemas: columns in the order of the table."""
    source = {"ts_us": offset * 1000, "sequence": None}
    after = {name: row.get(name) for name, _ in columns} if op != "d" else None
    value = {"before": None, "after": after, "source": source, "op": op}
    return _record(offset, json.dumps(value).encode(), row["id"])


def wrapped(offset: int, columns: Columns, row: dict[str, Any], op: str = "u") -> Record:
    """The same with the schema of its columns before it."""
    after = {"type": "struct", "fields": _fields(columns), "optional": True, "name": "t.Value", "field": "after"}
    fields = [after, {"type": "string", "optional": False, "field": "op"}]
    schema = {"type": "struct", "fields": fields, "optional": False, "name": "t.Envelope"}
    value = plain(offset, columns, row, op).value or b""
    return _record(offset, b'{"schema":%s,"payload":%s}' % (json.dumps(schema).encode(), value), row["id"])


def _fields(columns: Columns) -> list[dict[str, Any]]:
    return [{"type": kind, "optional": True, "field": name} for name, kind in columns]


def _record(offset: int, value: bytes, number: int) -> Record:
    return Record(TOPIC, "topic-1", 0, offset, 1, json.dumps({"id": number}).encode(), value, 5)


EITHER = pytest.mark.parametrize("event", [plain, wrapped])


def read(text: str = "{{ title }} {{ body }}") -> Table:
    return table(text, form=Form(columns=("title", "body", "price") if "body" in text else ("title", "price")))


def states(store: Memory) -> list[str]:
    return [head.state for head in store.heads.values()]


def fields(store: Memory) -> dict[str, Any]:
    (detail,) = store.details.values()
    return dict(msgspec.json.decode(detail.fields or b"{}"))


@EITHER
@pytest.mark.parametrize("together", [False, True])
@pytest.mark.semantics(
    "TOAST",
    "placeholder after columns swapped names or were made anew",
    "not filled, for its name may mean another column now: `incomplete` until a full event or a snapshot",
)
def test_two_columns_that_swap_their_names_are_not_taken_for_each_other(event: Event, together: bool) -> None:
    store = Memory(read())
    first = event(1, ROW, {"id": 1, "title": "a", "body": "long", "price": 1})
    second = event(2, SWAPPED, {"id": 1, "title": TOAST, "body": "a", "price": 2})
    for records in ([first, second],) if together else ([first], [second]):
        writes = store.apply(*records)
    assert [write.failure and write.failure.error_type for write in writes] == ["incomplete"]
    assert fields(store) == {"body": "a", "price": 2}
    store.apply(event(3, SWAPPED, {"id": 1, "title": "long", "body": "b", "price": 2}))
    store.apply(event(4, SWAPPED, {"id": 1, "title": TOAST, "body": "c", "price": 2}))
    assert (states(store), fields(store)) == (["embedded"], {"title": "long", "body": "c", "price": 2})


@EITHER
@pytest.mark.parametrize(
    "later",
    [
        (("id", "int32"), ("old", "string"), ("price", "int32"), ("title", "string")),  # a new column took the name
        (("id", "int32"), ("price", "int32"), ("title", "string")),  # so too, the old one is gone
        (("id", "int32"), ("old", "string"), ("title", "string"), ("price", "int32")),  # one before was renamed
    ],
)
def test_a_name_that_moved_to_another_place_is_another_column(event: Event, later: Columns) -> None:
    store = Memory(read("{{ title }}"))
    store.apply(event(1, (("id", "int32"), ("title", "string"), ("price", "int32")), {"id": 1, "title": "a"}))
    store.apply(event(2, later, {"id": 1, "title": TOAST, "price": 2}))
    assert states(store) == ["failed"]


@EITHER
@pytest.mark.semantics(
    "TOAST", "placeholder after columns were added", "filled as before: PostgreSQL puts new columns at the end"
)
def test_columns_that_are_added_change_nothing(event: Event) -> None:
    store, added = Memory(read()), (*ROW, ("note", "string"), ("stock", "int32"))
    store.apply(event(1, ROW, {"id": 1, "title": "a", "body": "long", "price": 1}))
    for offset, columns in enumerate((added, (*added, ("more", "string"))), 2):
        store.apply(event(offset, columns, {"id": 1, "title": f"b{offset}", "body": TOAST, "price": 2}))
        assert fields(store) == {"title": f"b{offset}", "body": "long", "price": 2}
    assert states(store) == ["embedded"]


def test_with_a_schema_a_dropped_column_that_is_never_left_out_changes_nothing() -> None:
    """A number, a date or a uuid cannot be what a text is mistaken for. Without types nothing tells."""
    gone, renamed = [("stock", "int32"), ("flag", "boolean")], [("stock_level", "int32"), ROW[1]]
    for event, state in ((wrapped, "embedded"), (plain, "failed")):
        for later in (ROW, (ROW[0], *renamed, *ROW[2:])):
            store = Memory(read())
            store.apply(event(1, (ROW[0], *gone, *ROW[1:]), {"id": 1, "title": "long", "body": "a", "price": 1}))
            store.apply(event(2, later, {"id": 1, "title": TOAST, "body": "b", "price": 1}))
            assert states(store) == [state]


@EITHER
@pytest.mark.semantics(
    "TOAST",
    "placeholder after another column was dropped or renamed",
    "filled as before, unless one was dropped beside it: that one may have its name now",
)
def test_a_column_that_is_dropped_elsewhere_changes_nothing(event: Event) -> None:
    """Between the two stands one that is still there: the dropped one cannot have taken the place."""
    more: Columns = (*ROW[:3], ("price", "string"), ("extra", "string"))
    for later in (more[:-1], (*more[:-1], ("renamed", "string")), (*more[:-1], ("new", "string"), ("newer", "string"))):
        store = Memory(read())
        store.apply(event(1, more, {"id": 1, "title": "a", "body": "long", "price": "1", "extra": "e"}))
        store.apply(event(2, later, {"id": 1, "title": "b", "body": TOAST, "price": "1"}))
        assert (states(store), fields(store)["body"]) == (["embedded"], "long")


@EITHER
@pytest.mark.semantics(
    "TOAST",
    "placeholder after another column was dropped or renamed",
    "filled as before, unless one was dropped beside it: that one may have its name now",
)
def test_a_column_beside_it_that_is_renamed_changes_nothing(event: Event) -> None:
    """It is still in its place, so that it has no other's name."""
    renamed: Columns = (ROW[0], ("heading", "string"), *ROW[2:])
    store = Memory(read("{{ body }}"))
    store.apply(event(1, ROW, {"id": 1, "title": "a", "body": "long", "price": 1}))
    store.apply(event(2, renamed, {"id": 1, "heading": "b", "body": TOAST, "price": 2}))
    assert (states(store), fields(store)["body"]) == (["embedded"], "long")


@EITHER
@pytest.mark.parametrize("together", [False, True])
@pytest.mark.semantics(
    "TOAST",
    "placeholder after a snapshot, whose rows have generated columns and others that the stream never has",
    "filled as before",
)
def test_a_column_that_only_snapshots_have_changes_nothing(event: Event, together: bool) -> None:
    """PostgreSQL streams no generated column, nor one that the publication leaves out."""
    whole: Columns = (ROW[0], ("slug", "string"), *ROW[1:3], ("search", "string"), ROW[3])
    store = Memory(read())
    row = {"id": 1, "title": "a", "body": "long", "price": 1}
    store.apply(event(1, whole, row, "r"))
    for offset in (2, 5):
        edit = event(offset, ROW, {"id": 1, "title": f"b{offset}", "body": TOAST, "price": 2})
        again = event(offset + 1, whole, row | {"title": "c"}, "r")
        last = event(offset + 2, (*ROW, ("note", "string")), {"id": 1, "title": "d", "body": TOAST, "price": 2})
        for records in ([edit, again, last],) if together else ([edit], [again], [last]):
            store.apply(*records)
            assert (states(store), fields(store)["body"]) == (["embedded"], "long")


@EITHER
@pytest.mark.parametrize("together", [False, True])
def test_after_a_snapshot_too_names_that_changed_hands_are_not_mistaken(event: Event, together: bool) -> None:
    for later in (SWAPPED, (ROW[0], *ROW[2:], ROW[1])):
        store = Memory(read("{{ title }}"))
        first = event(1, (*ROW, ("search", "string")), {"id": 1, "title": "a", "body": "long", "price": 1}, "r")
        second = event(2, later, {"id": 1, "title": TOAST, "body": "a", "price": 2})
        for records in ([first, second],) if together else ([first], [second]):
            store.apply(*records)
        assert states(store) == ["failed"]


@EITHER
@pytest.mark.parametrize("together", [False, True])
def test_a_dropped_column_beside_it_may_have_taken_its_name(event: Event, together: bool) -> None:
    """Add a column, fill it, drop the old one, rename: the way in which columns are replaced."""
    for both, later in (
        ((*ROW, ("body_new", "string")), (ROW[0], ROW[1], ROW[3], ("body", "string"))),
        ((ROW[0], ROW[1], ROW[3], ROW[2], ("body_new", "string")), (ROW[0], ROW[1], ROW[3], ROW[2])),
    ):
        store = Memory(read())
        first = event(1, both, {"id": 1, "title": "a", "body": "old", "body_new": "new", "price": 1})
        second = event(2, later, {"id": 1, "title": "a", "body": TOAST, "price": 2})
        for records in ([first, second],) if together else ([first], [second]):
            store.apply(*records)
        assert states(store) == ["failed"]


@EITHER
@pytest.mark.parametrize("body", ["y", TOAST])
def test_what_the_batch_has_changed_is_not_taken_from_the_store(event: Event, body: str) -> None:
    """Names are swapped, the row is written, and they are swapped back, all within a batch."""
    store = Memory(read())
    store.apply(event(1, ROW, {"id": 1, "title": "a", "body": "stored", "price": 1}))
    between = event(2, SWAPPED, {"id": 1, "title": "x", "body": body, "price": 1})
    store.apply(between, event(3, ROW, {"id": 1, "title": "b", "body": TOAST, "price": 1}))
    assert states(store) == ["failed"]


def test_another_wire_format_is_no_other_table() -> None:
    store = Memory(read())
    for offset, event in enumerate((plain, wrapped, plain), 1):
        body = "long" if offset == 1 else TOAST
        store.apply(event(offset, ROW, {"id": 1, "title": f"t{offset}", "body": body, "price": 1}))
    assert (states(store), fields(store)["body"]) == (["embedded"], "long")


@pytest.mark.parametrize("together", [False, True])
def test_a_row_that_moves_takes_no_value_along_that_may_be_another_columns(together: bool) -> None:
    old, new = plain(1, ROW, {"id": 1, "title": "a", "body": "long", "price": 1}), json.dumps({"id": 2}).encode()
    for later, state in ((SWAPPED, "failed"), ((*ROW, ("note", "string")), "embedded")):
        store = Memory(read())
        store.apply(old)
        gone = msgspec.structs.replace(plain(2, later, {"id": 1}, "d"), headers=(("__debezium.newkey", new),))
        came = plain(3, later, {"id": 2, "title": "a", "body": TOAST, "price": 1}, "c")
        came = msgspec.structs.replace(came, headers=(("__debezium.oldkey", b'{"id":1}'),))
        came = msgspec.structs.replace(came, value=(came.value or b"").replace(b'"ts_us": 3000', b'"ts_us": 2000'))
        for records in ([gone, came],) if together else ([gone], [came]):
            store.apply(*records)
        assert states(store) == ["deleted", state]


def test_a_layout_is_the_same_from_json_and_avro_and_tells_two_columns_of_hundreds_apart() -> None:
    record = wrapped(1, (*ROW, ("at", "int64")), {"id": 1, "title": "a"})
    schema, body = to_avro(record.value or b"")
    avro = msgspec.structs.replace(record, value=b"\0\0\0\0\1" + body)
    events = decode_event(record), decode_event(avro, schemas={SchemaRef("content", 1): AvroSchema(schema)})
    one, other = (layout_of(event.columns) for event in events)
    assert one is not None
    assert other is not None
    assert one.packed == other.packed
    wide = plain(1, [(f"c{number}", "string") for number in range(300)], {"id": 1})
    swapped = plain(1, [(f"c{number}", "string") for number in (*range(200), 201, 200, *range(202, 300))], {"id": 1})
    assert not are_same(["c200"], decode_event(swapped).columns, decode_event(wide).columns)


@EITHER
def test_an_event_that_changes_no_used_column_tells_that_a_large_one_is_about_to_be_replaced(event: Event) -> None:
    """The new column is filled for each row, then the old one's name is handed on, and all is as it was before."""
    last: Columns = (*ROW[:2], ROW[3], ROW[2])
    store = Memory(read())
    row = {"id": 1, "title": "a", "body": "old " * 500, "price": 1}
    store.apply(event(1, last, row))
    store.apply(event(2, (*last, ("body_new", "string")), row | {"body_new": "new " * 500}))
    store.apply(event(3, last, {"id": 1, "title": "b", "body": TOAST, "price": 1}))
    assert states(store) == ["failed"]


def test_names_that_no_database_has_are_not_remembered() -> None:
    """Each would stay in memory for as long as the process lives."""
    record = plain(1, [("x" * 100_000, "string")], {"id": 1})
    assert layout_of(decode_event(record).columns) is None
