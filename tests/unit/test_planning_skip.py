"""The quick look at a lone update says what the fold of all events says, or leaves it to that."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from consumer.events import ChangeEvent, Order
from consumer.planning import StoredDocument, take_in
from consumer.planning.fold import Fold
from consumer.planning.skip import unchanged
from tests.unit.records import TOPIC, record, table

TABLE = table()
ROW = {"id": 1, "title": "one", "body": "two", "price": "1.00", "unused": "x"}
HASH = TABLE.content.fields_hash({name: ROW[name] for name in TABLE.content.columns})
STORED = StoredDocument(
    7, 3, "embedded", Order(TOPIC, "topic-1", 0, 10, (100, 100), 10_000), HASH, True, TABLE.content.table_hash, 1
)

heads = st.fixed_dictionaries(
    {},
    optional={
        "state": st.sampled_from(["failed", "deleted"]),
        "fields_hash": st.sampled_from([None, b"other"]),
        "fields_complete": st.just(False),
        "table_hash": st.sampled_from([None, b"other"]),
        "generation": st.sampled_from([None, 2]),
        "order": st.sampled_from([Order(TOPIC, "topic-1", 0, 10, None, None), Order(TOPIC, "topic-1", 0, 10, None, 1)]),
    },
)
rows = st.fixed_dictionaries(
    {"unused": st.sampled_from(["x", "y"])},
    optional={
        "title": st.sampled_from(["else", None, 1, "__debezium_unavailable_value", "\ud800"]),
        "price": st.just("2.00"),
    },
)


@settings(deadline=None)
@given(
    heads,
    rows,
    st.sampled_from(["u", "r", "c", "d"]),
    st.integers(8, 12),
    st.integers(0, 1),
    st.sampled_from([None, 50, 100, 150]),
    st.sampled_from([9_000, 10_000, 11_000]),
    st.sampled_from(["topic-1", "topic-2"]),
    st.booleans(),
)
def test_whatever_it_skips_the_fold_skips(
    head: dict[str, Any], row: dict[str, Any], op: str, offset: int, partition: int, lsn: int | None, ts_us: int,
    topic_id: str, moved: bool,
) -> None:  # fmt: skip
    stored = msgspec.structs.replace(STORED, **head)
    place: dict[str, Any] = {"partition": partition, "lsn": lsn, "ts_us": ts_us, "topic_id": topic_id}
    other: dict[str, Any] = {"other_key": {"id": 2}} if moved else {}
    after = None if op == "d" else {**ROW, **row}
    intake = take_in([record(offset, op, after, key={"id": 1}, **place, **other)], {TOPIC: TABLE})
    assume(intake.arrivals)
    ((key, arrivals),) = intake.arrivals.items()
    event = unchanged(arrivals, stored, TABLE, 1)
    fold = Fold(key, TABLE, stored, 1, force=False)
    draft = fold.fold(arrivals)
    if event is None:
        assert draft is not None or [outcome.outcome for outcome in fold.outcomes] != ["unchanged"]
    else:
        assert draft is None
        assert [(o.outcome, o.event) for o in fold.outcomes] == [("unchanged", event)]


def test_several_events_of_a_row_are_left_to_the_fold() -> None:
    events = [record(offset, "u", ROW, lsn=200 + offset, ts_us=20_000) for offset in (11, 12)]
    (arrivals,) = take_in(events, {TOPIC: TABLE}).arrivals.values()
    assert unchanged(arrivals, STORED, TABLE, 1) is None
    alone = unchanged(arrivals[:1], STORED, TABLE, 1)
    assert isinstance(alone, ChangeEvent)
    assert alone.order.offset == 11
    assert unchanged(arrivals[:1], None, TABLE, 1) is None
