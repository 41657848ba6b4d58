"""Reading ranges by assignment: every offset is covered once, whatever stands at it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from threading import Event

import pytest
from confluent_kafka import Producer, TopicPartition

from consumer.errors import Stop
from consumer.events import Record
from consumer.planning import Advance, Batch, Partition
from consumer.source import Broker, Holdings, KafkaSource, Range, Reader, end_offsets, first_offsets, offsets_at
from consumer.source.claims import Claim
from consumer.store import Acquired
from tests.world import World

pytestmark = pytest.mark.stack


def notice(what: str, **context: object) -> None:
    """Trouble that passes is no matter of these tests."""


@pytest.fixture
def broker(world: World) -> Broker:
    return Broker(world.endpoints.bootstrap_servers, {})


@pytest.fixture
def reader(broker: Broker) -> Iterator[Reader]:
    with Reader(broker, notice) as made:
        yield made


def transact(world: World, count: int, *, partition: int = 0, commit: bool = True) -> None:
    """Write records in a transaction: it leaves a control record, and aborted ones leave nothing to read."""
    config = {"bootstrap.servers": world.endpoints.bootstrap_servers, "transactional.id": f"{world.name}-{partition}"}
    producer = Producer(config)
    producer.init_transactions()
    producer.begin_transaction()
    for number in range(count):
        producer.produce(world.topic(), key=b"k", value=b"%d" % number, partition=partition)
    producer.flush()
    producer.commit_transaction() if commit else producer.abort_transaction()


def read(reader: Reader, ranges: list[Range], **bounds: int) -> list[Batch]:
    limits = {"max_events": 100, "max_bytes": 1 << 20, **bounds}
    return list(reader.batches(ranges, Event(), **limits))


def covered(batches: list[Batch], partition: int) -> list[Advance]:
    """The spans of one partition, which must follow each other without gap."""
    spans = [span for batch in batches for span in batch.advances if span.partition == partition]
    assert all(one.end == other.start for one, other in pairwise(spans))
    return spans


@pytest.mark.semantics(
    "order",
    "control records, aborted transactions, compaction gaps",
    "every offset is covered once; nothing aborted is read",
)
def test_every_offset_is_covered_once_across_control_records_and_aborted_transactions(
    world: World, broker: Broker, reader: Reader
) -> None:
    world.create_topic(partitions=2)
    transact(world, 10)  # 0 to 9, control record at 10
    transact(world, 5, commit=False)  # 11 to 15, control record at 16
    transact(world, 3)  # 17 to 19, control record at 20
    transact(world, 4, partition=1)
    topic_id = broker.topic_ids([world.topic()])[world.topic()]
    ranges = [Range(world.topic(), topic_id, 0, 7, 4, 21), Range(world.topic(), topic_id, 1, 8, 0, 2)]
    batches = read(reader, ranges, max_events=4)
    assert max(len(batch.records) for batch in batches) <= 4
    first, second = covered(batches, 0), covered(batches, 1)
    assert (first[0].start, first[-1].end) == (4, 21)
    assert (second[0].start, second[-1].end) == (0, 2)
    records = [record for batch in batches for record in batch.records]
    assert [r.offset for r in records if r.partition == 0] == [4, 5, 6, 7, 8, 9, 17, 18, 19]
    assert {(r.partition, r.epoch, r.topic_id) for r in records} == {(0, 7, topic_id), (1, 8, topic_id)}


def test_ends_in_the_middle_of_what_cannot_be_read_and_empty_ranges(
    world: World, broker: Broker, reader: Reader
) -> None:
    world.create_topic()
    transact(world, 5, commit=False)
    topic_id = broker.topic_ids([world.topic()])[world.topic()]
    (batch,) = read(reader, [Range(world.topic(), topic_id, 0, 1, 1, 3)])
    assert (batch.records, [(a.start, a.end) for a in batch.advances]) == ((), [(1, 3)])
    assert read(reader, [Range(world.topic(), topic_id, 0, 1, 3, 3)]) == []


def test_bytes_bound_a_batch_and_stopping_ends_it(world: World, broker: Broker, reader: Reader) -> None:
    world.create_topic()
    world.produce(*((b"k", b"x" * 1000) for _ in range(1500)))
    topic_id = broker.topic_ids([world.topic()])[world.topic()]
    whole = Range(world.topic(), topic_id, 0, 1, 0, 1500)
    batches = read(reader, [whole], max_events=2000, max_bytes=100_000)
    assert len(batches) >= 3  # one fetch from the client's queue may overshoot
    assert sum(len(batch.records) for batch in batches) == 1500
    stopping = Event()
    ends = []
    for batch in reader.batches([whole], stopping, max_events=10, max_bytes=1 << 20):
        ends.append(batch.advances[0].end)
        stopping.set()
    assert ends == [10]


def test_expired_offsets_are_an_error_for_a_range_and_an_absence_for_one_record(
    world: World, broker: Broker, reader: Reader
) -> None:
    world.create_topic()
    offsets = world.produce(*((b"k", b"%d" % number) for number in range(6)))
    for future in broker.admin.delete_records([TopicPartition(world.topic(), 0, 4)]).values():
        future.result()
    place = (world.topic(), 0)
    assert first_offsets(broker, [place]) == {place: 4}
    assert end_offsets(broker, [place]) == {place: offsets[-1] + 1}
    topic_id = broker.topic_ids([world.topic()])[world.topic()]
    with pytest.raises(Stop, match="not in the topic any more"):
        read(reader, [Range(world.topic(), topic_id, 0, 1, 2, 6)])
    assert reader.read_one(world.topic(), 0, 2) is None
    assert reader.read_one(world.topic(), 0, 6) is None
    found = reader.read_one(world.topic(), 0, 5)
    assert found is not None
    assert (found.offset, found.value, found.topic_id) == (5, b"5", topic_id)


def test_a_tombstone_at_the_beginning_of_a_range_is_told_by_the_record_before_it(
    world: World, broker: Broker, reader: Reader
) -> None:
    world.create_topic()
    world.produce((b"k", b"delete"), (b"k", None))
    topic_id = broker.topic_ids([world.topic()])[world.topic()]
    behind = Range(world.topic(), topic_id, 0, 1, 1, 2)
    (batch,) = read(reader, [behind])
    [tombstone] = batch.records
    assert (tombstone.offset, tombstone.delete is not None and tombstone.delete.value) == (1, b"delete")
    for future in broker.admin.delete_records([TopicPartition(world.topic(), 0, 1)]).values():
        future.result()
    (batch,) = read(reader, [behind])
    assert [(record.offset, record.delete) for record in batch.records] == [(1, None)]


def test_a_member_goes_on_where_the_record_before_its_first_expired_meanwhile(world: World, broker: Broker) -> None:
    world.create_topic()
    world.produce((b"k", b"delete"), (b"k", None))

    def acquire(claims: Sequence[Claim]) -> dict[Partition, Acquired]:
        """Retention comes between the question where the partition begins and the first fetch."""
        for future in broker.admin.delete_records([TopicPartition(world.topic(), 0, 1)]).values():
            future.result()
        return {(claim.topic, claim.partition): Acquired(1, 1) for claim in claims}

    holdings = Holdings(100, 1 << 20)
    source = KafkaSource(broker, world.name, [world.topic()], holdings, acquire, notice)

    def arrived() -> list[tuple[int, Record | None]]:
        source.poll(0.2)
        return [(record.offset, record.delete) for record in holdings.oldest().values()]

    try:
        assert world.until(arrived) == [(1, None)]
    finally:
        source.close()


def test_a_moment_becomes_an_offset_and_the_future_the_end(world: World, broker: Broker) -> None:
    world.create_topic()
    world.produce((b"k", b"before"), (b"k", b"before"))
    place, now_ms = (world.topic(), 0), int(time.time() * 1000)
    world.until(lambda: int(time.time() * 1000) > now_ms + 1)
    world.produce((b"k", b"after"))
    assert offsets_at(broker, [place], 0) == {place: 0}
    assert offsets_at(broker, [place], now_ms + 1) == {place: 2}
    assert offsets_at(broker, [place], now_ms + 3_600_000) == {place: 3}
