"""The group's membership: assignment, epochs, the bounded buffer of the next batch, and commits to the broker.

Progress lives in Postgres. Every partition is acquired there (epoch + 1) inside the assignment callback and read from
the stored offset; the broker only learns of it afterwards, for lag exporters and autoscalers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition

from consumer.errors import Retry, Stop
from consumer.planning import HEARTBEAT_TOPIC, Advance, Batch, Partition
from consumer.source.claims import Acquire, Claim, Position
from consumer.source.client import Broker, fault_of
from consumer.source.identity import Identity, out_of_range
from consumer.source.messages import Notice, begin_again_at, place_of, record_of
from consumer.source.partitions import Held, Holdings

HOLD_AFTER_SECONDS = 0.25  # with the buffer full: batches without model work are done sooner
FURTHER = 100  # records at a time that are read on of partitions that do not fill it
ACQUIRE_AGAIN_SECONDS = 3.0  # each try may hold the loop up for as long as the database is given to answer
FENCES_ALLOWED = 3  # a minute; then somebody else really owns these partitions


class KafkaSource:
    """One member of the consumer group. Used from one thread, except for `owns`.

    `acquire` is called with the assigned partitions and must answer or raise Retry within seconds: a partition it
    cannot acquire is held back and tried again. `before_revoke` is called before partitions go to another member.
    """

    def __init__(
        self, broker: Broker, group: str, topics: Sequence[str], holdings: Holdings, acquire: Acquire, notice: Notice,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.holdings = holdings
        self.before_revoke: Callable[[], None] = lambda: None
        self._broker, self._acquire, self._notice, self._clock = broker, acquire, notice, clock
        self.identity = Identity(broker, topics)
        self._waiting: set[Partition] = set()  # assigned, not acquired
        self._acquire_at = 0.0
        self._paused: frozenset[Partition] = frozenset()  # those that fill the buffer
        self._full_since: float | None = None
        self._fault: Exception | None = None
        self._fences: dict[Partition, list[float]] = {}
        self._to_commit: dict[Partition, int] = {}
        self._consumer = broker.member(group, self._on_error)
        self._consumer.subscribe(
            list(topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    @property
    def full(self) -> bool:
        """Whether the next batch has all it may have: `poll` would take in nothing."""
        return self.holdings.full

    @property
    def waiting(self) -> frozenset[Partition]:
        """Partitions assigned to this member that the database has not given it yet: nothing of them is applied."""
        return frozenset(self._waiting)

    def poll(self, timeout: float) -> None:
        """Serve callbacks and buffer what arrives: returns with the first record, or after `timeout` seconds.

        `consume(n, t)` would wait for n messages or the whole of t; one `poll` and a `consume` without waiting do not.
        """
        self._full_since = None
        self._pause(frozenset())
        self._read(timeout, self.holdings.room)

    def hold(self) -> None:
        """In place of `poll` while the buffer is full and the model busy: keeps the membership, and reads on from the
        partitions that do not fill it. Pausing the others purges their prefetch, so that is not done for a moment."""
        if self._full_since is None:
            self._full_since = self._clock()
        if self._clock() - self._full_since >= HOLD_AFTER_SECONDS:
            self._pause(self.holdings.greedy())
            self._read(0.005, FURTHER)

    def take(self) -> Batch | None:
        """Everything that arrived, as a batch; None if nothing did."""
        return self.holdings.take()

    def take_idle(self) -> Batch | None:
        """What arrived in partitions of which no other batch is under way."""
        return self.holdings.take_idle()

    def stored(self, advances: Iterable[Advance]) -> None:
        """The database has these positions: tell the broker, without waiting for its answer."""
        advances = tuple(advances)
        self.holdings.stored(advances)
        self._to_commit |= {(a.topic, a.partition): a.end for a in advances if self.owns(a)}
        self._commit()

    def owns(self, advance: Advance) -> bool:
        """Whether the partition is still held under the epoch of `advance`."""
        held = self.holdings.held.get((advance.topic, advance.partition))
        return held is not None and held.epoch == advance.epoch

    def expect(self, *, changes: bool) -> None:
        """Whether the next batch, like the last, has something to write; one that has not may be larger."""
        self.holdings.expect(changes=changes)

    def fenced(self, advances: Iterable[Advance]) -> None:
        """Somebody else advanced these: if they are still ours, take the next epoch and read from the stored offset."""
        now = self._clock()
        for advance in advances:
            if not self.owns(advance):
                continue
            partition = (advance.topic, advance.partition)
            recent = [at for at in self._fences.get(partition, ()) if now - at < 60] + [now]
            self._fences[partition] = recent
            if len(recent) >= FENCES_ALLOWED:
                raise Stop(
                    f"Partition {partition[0]}[{partition[1]}] was taken over {len(recent)} times within a minute.",
                    "Another process writes to this schema as the same group without being in its consumer group.",
                    "End that process, or give it its own group and schema.",
                )
            self.holdings.drop([partition])
            self._waiting.add(partition)
            self._acquire_at = 0.0
        self._settle()

    def watermarks(self) -> None:
        """The partitions' ends as the last fetch answers told them; asks nobody."""
        for partition, held in self.holdings.held.items():
            _, high = self._consumer.get_watermark_offsets(TopicPartition(*partition), cached=True)
            held.end = max(held.end, high)

    def close(self) -> None:
        """Leave the group; uncommitted broker offsets do not matter."""
        self._consumer.close()

    def _read(self, timeout: float, room: int) -> None:
        first = self._consumer.poll(timeout)
        if first is not None:
            self._receive(first)
            if room > 1:
                for message in self._consumer.consume(room - 1, 0):
                    self._receive(message)
        self._settle()

    def _receive(self, message: Message) -> None:
        error = message.error()
        partition = place_of(message)
        held = self.holdings.held.get(partition)
        if error is None:
            if held is not None:
                self.holdings.add(record_of(message, partition, held.topic_id, held.epoch))
        elif error.code() == KafkaError._PARTITION_EOF:
            self.holdings.reached_end(partition, message.offset() or 0)
        elif error.code() in (KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET):
            self._lost(partition, held)
        else:
            self._on_error(error)

    def _lost(self, partition: Partition, held: Held | None) -> None:
        """The broker has no such offset. The record before the first may have expired since; the first must not."""
        if held is None:
            return  # it is not acquired yet, and no offset of it has been asked for
        if held.first >= held.fetched:
            raise out_of_range(partition, held.fetched)
        held.first = held.fetched
        begin_again_at(self._consumer, partition, held.fetched)

    def _settle(self) -> None:
        """After every poll: what callbacks could not raise, partitions to acquire, positions for the broker."""
        if self._fault:
            raise self._fault
        self.identity.check(self.holdings.held)
        if self._waiting and self._clock() >= self._acquire_at:
            self._take_over(sorted(self._waiting), seek=True)
            if self._fault:
                raise self._fault
        if self._to_commit:
            self._commit()

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        names = [(p.topic, p.partition) for p in partitions]
        self._waiting.update(names)
        self._take_over(names, seek=False)
        for p in partitions:
            held = self.holdings.held.get((p.topic, p.partition))
            p.offset = held.first if held else OFFSET_END  # paused below, and sought once it is acquired
        consumer.incremental_assign(partitions)
        # A partition that was paused as it went is still paused when it comes back, and nothing else would resume it.
        consumer.resume([p for p in partitions if (p.topic, p.partition) not in self._waiting])
        consumer.pause([p for p in partitions if (p.topic, p.partition) in self._waiting])

    def _take_over(self, partitions: Sequence[Partition], *, seek: bool) -> None:
        """Acquire and start at the stored offsets; what fails is tried again a little later, and never skipped."""
        began = self._clock()
        try:
            claims, marks = self._claims(partitions)
            acquired = self._acquire(claims)
            for claim in claims:
                place = (claim.topic, claim.partition)
                self._begin(claim, acquired[place], *marks[place], seek)
        except Retry as retry:
            self._acquire_later(partitions, began, str(retry))
        except KafkaException as error:
            self._acquire_later(partitions, began, error.args[0].name())
        except Exception as fault:  # a callback must not raise: the loop does, right after it
            self._fault = fault

    def _acquire_later(self, partitions: Sequence[Partition], began: float, reason: str) -> None:
        """After at least as long as the try took: a former owner's locks must not keep what is held already waiting."""
        now = self._clock()
        self._acquire_at = now + max(ACQUIRE_AGAIN_SECONDS, now - began)
        self._notice("not acquired yet", partitions=len(partitions), reason=reason)

    def _claims(self, partitions: Sequence[Partition]) -> tuple[list[Claim], dict[Partition, tuple[int, int]]]:
        """What to ask the database for, and each partition's first and end offset."""
        ids = self._broker.topic_ids({topic for topic, _ in partitions})
        claims, marks = [], {}
        for topic, partition in partitions:
            low, high = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=5)
            needed = 0 if topic.startswith(HEARTBEAT_TOPIC) else low  # heartbeats that expired are no loss
            claims.append(Claim(topic, ids[topic], partition, needed))
            marks[topic, partition] = (low, high)
        return claims, marks

    def _begin(self, claim: Claim, position: Position, low: int, end: int, seek: bool) -> None:
        partition, start = (claim.topic, claim.partition), position.next_offset
        outside = not low <= start <= end
        if outside and not claim.topic.startswith(HEARTBEAT_TOPIC):
            raise out_of_range(partition, start)
        begin = low if outside else start
        first = max(begin - 1, low)  # a tombstone is told by the record before it
        if seek:  # before it counts as held: should it fail, the prefetch of somewhere else must not be taken in
            self._consumer.seek(TopicPartition(*partition, first))
            self._consumer.resume([TopicPartition(*partition)])
        self.holdings.acquire(partition, claim.topic_id, position.epoch, start, end)
        self.holdings.reached_end(partition, begin)
        held = self.holdings.held[partition]
        held.fetched, held.first = begin, first
        self._waiting.discard(partition)
        self._to_commit[partition] = start

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.before_revoke()
        self._on_lost(consumer, partitions)
        consumer.incremental_unassign(partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        names = {(p.topic, p.partition) for p in partitions}
        self.holdings.drop(names)
        self._waiting -= names
        self._paused -= names
        for name in names:
            self._to_commit.pop(name, None)

    def _pause(self, greedy: frozenset[Partition]) -> None:
        """Let these wait, and no others but those that are not acquired."""
        if greedy == self._paused:
            return
        ours = {(p.topic, p.partition) for p in self._consumer.assignment()} - self._waiting
        self._consumer.pause([TopicPartition(*place) for place in (greedy - self._paused) & ours])
        self._consumer.resume([TopicPartition(*place) for place in (self._paused - greedy) & ours])
        self._paused = greedy

    def _commit(self) -> None:
        offsets = [TopicPartition(*partition, offset) for partition, offset in self._to_commit.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
            self._to_commit.clear()
        except KafkaException as error:  # for display only: the next batch commits again
            self._notice("broker commit put off", reason=error.args[0].name())

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:  # joined as soon as it is there
            self._notice("a topic of the settings does not exist yet", reason=error.str())
            return
        fault = fault_of(error, self._broker.servers)
        if isinstance(fault, Stop):
            self._fault = fault
        else:
            self._notice("broker trouble", reason=str(fault))
