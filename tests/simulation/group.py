"""A consumer group in memory: the broker's log, the coordinator, and clients that behave as librdkafka's do.

`KafkaSource` itself runs on it. What a client keeps that its caller may not expect is kept here too: a partition that
was paused as it went is still paused when it comes back, and callbacks come only inside `poll`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import OFFSET_END, KafkaError, KafkaException, TopicPartition

TOPIC = "items"
Callback = Callable[[Any, list[TopicPartition]], None]


@dataclass(frozen=True)
class Letter:
    """What the client hands out: a record, or the news that a partition has no more."""

    place: int
    at: int
    end: bool = False

    def topic(self) -> str:
        return TOPIC

    def partition(self) -> int:
        return self.place

    def offset(self) -> int:
        return self.at

    def key(self) -> bytes:
        return b"key"

    def value(self) -> bytes:
        return b"%d" % self.at

    def timestamp(self) -> tuple[int, int]:
        return (0, -1)

    def headers(self) -> None:
        return None

    def error(self) -> KafkaError | None:
        return KafkaError(KafkaError._PARTITION_EOF) if self.end else None


class Client:
    """One member's `Consumer`."""

    def __init__(self, coordinator: Coordinator) -> None:
        self.coordinator = coordinator
        self.news: list[tuple[str, int]] = []  # what the coordinator has decided, and poll has not told yet
        self._at: dict[int, int] = {}
        self._told_end: dict[int, int] = {}
        self._paused: set[int] = set()  # outlives an assignment
        self._callbacks: dict[str, Callback] = {}

    def subscribe(self, topics: list[str], **callbacks: Callback) -> None:
        self._callbacks = callbacks

    def poll(self, timeout: float) -> Letter | None:
        if self.news:
            what, partition = self.news.pop(0)
            self._callbacks[what](self, [TopicPartition(TOPIC, partition)])
            if what != "on_assign":
                self._at.pop(partition, None)
                self.coordinator.given_up(self, partition)
            return None
        return next(iter(self._fetched(1)), None)

    def consume(self, count: int, timeout: float) -> list[Letter]:
        return self._fetched(count)

    def _fetched(self, count: int) -> list[Letter]:
        letters: list[Letter] = []
        for partition in sorted(self._at.keys() - self._paused):
            while len(letters) < count and self._at[partition] < self.coordinator.ends[partition]:
                letters.append(Letter(partition, self._at[partition]))
                self._at[partition] += 1
            end = self._at[partition]
            if len(letters) < count and self._told_end.get(partition) != end:
                self._told_end[partition] = end
                letters.append(Letter(partition, end, end=True))
        return letters

    def assignment(self) -> list[TopicPartition]:
        return [TopicPartition(TOPIC, partition) for partition in self._at]

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        for p in partitions:
            self._at[p.partition] = self.coordinator.ends[p.partition] if p.offset == OFFSET_END else p.offset
            self._told_end.pop(p.partition, None)

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None:
        for p in partitions:
            del self._at[p.partition]

    def pause(self, partitions: list[TopicPartition]) -> None:
        self._paused |= {p.partition for p in partitions}

    def resume(self, partitions: list[TopicPartition]) -> None:
        self._paused -= {p.partition for p in partitions}

    def seek(self, place: TopicPartition) -> None:
        if place.partition not in self._at:
            raise KafkaException(KafkaError(KafkaError._STATE))
        self._at[place.partition] = place.offset
        self._told_end.pop(place.partition, None)

    def get_watermark_offsets(self, place: TopicPartition, **_: object) -> tuple[int, int]:
        return 0, self.coordinator.ends[place.partition]

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> None:
        assert asynchronous
        assert {p.partition for p in offsets} <= self._at.keys(), "a commit for what is another's"

    def close(self) -> None: ...


@dataclass
class Coordinator:
    """Who owns what. As `Broker`, where KafkaSource asks for a client and for topics' ids."""

    ends: list[int]
    owners: dict[int, Client] = field(default_factory=dict)
    servers: str = "nowhere"
    _heirs: dict[int, Client] = field(default_factory=dict)

    def member(self, group: str, on_error: Callable[[KafkaError], None]) -> Client:
        return Client(self)

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        return dict.fromkeys(topics, "id")

    def describe(self, topics: Iterable[str]) -> Mapping[str, Future[Any]]:
        return {}

    def move(self, partition: int, heir: Client, *, lost: bool = False) -> None:
        """Give it to `heir` when the owner has let go; or at once, where the owner is taken for dead (`lost`)."""
        owner = self.owners.get(partition)
        if partition in self._heirs or owner is heir:
            return
        if owner is None:
            self._give(partition, heir)
        else:
            owner.news.append(("on_lost" if lost else "on_revoke", partition))
            if lost:
                self._give(partition, heir)
            else:
                self._heirs[partition] = heir

    def given_up(self, owner: Client, partition: int) -> None:
        """The owner has heard that the partition is not its own."""
        if heir := self._heirs.pop(partition, None):
            self._give(partition, heir)

    def gone(self, client: Client, others: Sequence[Client]) -> None:
        """A process has ended: what it had, and what it was to have, goes to another."""
        for partition in [p for p, heir in self._heirs.items() if heir is client]:
            self._heirs[partition] = others[0]
        for partition in [p for p, owner in self.owners.items() if owner is client]:
            self._give(partition, self._heirs.pop(partition, others[0]))

    def _give(self, partition: int, heir: Client) -> None:
        self.owners[partition] = heir
        heir.news.append(("on_assign", partition))
