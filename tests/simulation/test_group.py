"""The group's membership under a seeded scheduler: every partition is read by its owner, from where it stands, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, cast

import pytest

from consumer.errors import Retry, Stop
from consumer.planning import Advance, Batch
from consumer.source import Claim, Holdings, KafkaSource
from consumer.store import Acquired
from tests.simulation.group import TOPIC, Client, Coordinator

SEEDS = 1_000
PATIENT = 60.0  # seconds that pass in a round at rest: longer than any pause between two tries


class Member:
    """A process of the group: `KafkaSource`, and its loop a step at a time."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.jobs: list[Batch] = []
        self.source = KafkaSource(
            cast(Any, group.coordinator), "g", [TOPIC], Holdings(group.max_events, 1 << 20), group.acquire,
            lambda *_, **__: None, lambda: group.seconds,
        )  # fmt: skip
        self.source.before_revoke = self.finish if group.random.random() < 0.5 else lambda: None
        self.client = cast(Client, self.source._consumer)

    def step(self) -> None:
        """As `pipeline.run`: what arrives in other partitions while a batch is under way may be taken too."""
        if self.jobs and self.source.full:
            self.source.hold()
        else:
            self.source.poll(0)
        if not self.jobs or self.group.random.random() < self.group.impatience:
            taken = self.source.take_idle() if self.jobs else self.source.take()
            self.jobs += [taken] if taken else []

    def finish(self) -> None:
        """The worker has done a batch."""
        if self.jobs:
            stored, fenced = self.group.apply(self.jobs.pop(0))
            self.source.stored(stored)
            self.source.fenced(fenced)


class Group:
    """Members, partitions, and the offsets that the store has."""

    def __init__(self, seed: int, *, partitions: int = 3, max_events: int = 0) -> None:
        self.random = Random(seed)
        self.coordinator = Coordinator([0] * partitions)
        self.max_events = max_events or self.random.choice((1, 3, 10))
        self.rows = {partition: Acquired(0, 0) for partition in range(partitions)}
        self.seconds, self.trouble = 0.0, 0.1
        self.impatience = self.random.choice((0.0, 0.5))
        self.members = [Member(self) for _ in range(3)]
        self.ended = 0

    def acquire(self, claims: Sequence[Claim]) -> Mapping[tuple[str, int], Acquired]:
        if self.random.random() < self.trouble:
            raise Retry("No answer.")
        for claim in claims:
            epoch, position = self.rows[claim.partition]
            self.rows[claim.partition] = Acquired(epoch + 1, position)
        return {(TOPIC, claim.partition): self.rows[claim.partition] for claim in claims}

    def apply(self, batch: Batch) -> tuple[list[Advance], list[Advance]]:
        """The fence, and what must be true behind it: no record is left out and none comes twice."""
        stored, fenced = [], []
        for span in batch.spans.values():
            if self.rows[span.partition] != (span.epoch, span.start):
                fenced.append(span)
                continue
            read = [record.offset for record in batch.records if record.partition == span.partition]
            assert read == list(range(span.start, span.end)), f"{read} of {span}"
            self.rows[span.partition] = Acquired(span.epoch, span.end)
            stored.append(span)
        return stored, fenced

    def live(self, moves: int) -> None:
        """Whatever happens next."""
        for _ in range(moves):
            member, partition = self.random.choice(self.members), self.random.randrange(len(self.rows))
            match self.random.choices(
                ("write", "step", "finish", "move", "lose", "end", "wait"), (4, 12, 5, 2, 1, 0.3, 1)
            )[0]:
                case "write":
                    self.coordinator.ends[partition] += self.random.randint(1, 12)
                case "step":
                    self._do(member, member.step)
                case "finish":
                    self._do(member, member.finish)
                case "move":
                    self.coordinator.move(partition, member.client)
                case "lose":
                    self.coordinator.move(partition, member.client, lost=True)
                case "end":
                    self._end(member)
                case "wait":
                    self.seconds += self.random.choice((0.1, 1, 10, 100))

    def rest(self) -> None:
        """No more trouble: all that is there is read."""
        self.trouble = 0.0
        for partition in self.rows:
            if partition not in self.coordinator.owners:
                self.coordinator.move(partition, self.members[0].client)
        for _ in range(sum(self.coordinator.ends) + 100):
            self.seconds += PATIENT
            for member in self.members:
                member.step()
                member.finish()
        assert [row.next_offset for row in self.rows.values()] == self.coordinator.ends

    def _do(self, member: Member, what: Any) -> None:
        try:
            what()
        except Stop:  # fenced three times in a minute, by one that was taken for dead: it ends, and says so
            self._end(member)

    def _end(self, member: Member) -> None:
        """It is gone, and another one starts in its place."""
        self.ended += 1
        self.members[self.members.index(member)] = Member(self)
        self.coordinator.gone(member.client, [each.client for each in self.members])


@pytest.mark.semantics("faults", "partition that goes to another member and comes back")
def test_every_partition_is_read_by_its_owner_from_where_it_stands_whatever_happens() -> None:
    failing = []
    for seed in range(SEEDS):
        group = Group(seed)
        try:
            group.live(150)
            group.rest()
        except (AssertionError, KeyError) as wrong:
            failing.append(f"Group({seed}): {wrong}")
    assert not failing, "\n".join(failing[:10])


@pytest.mark.semantics("faults", "partition that goes to another member and comes back")
def test_a_partition_that_was_paused_as_it_went_is_read_when_it_comes_back() -> None:
    """The client keeps the pause through another member's ownership."""
    group = Group(0, partitions=2, max_events=2)
    group.trouble = group.impatience = 0.0
    first, second, _ = group.members
    for partition in group.rows:
        group.coordinator.move(partition, first.client)
        group.coordinator.ends[partition] = 6
    while first.client._paused != {0, 1}:  # it holds, and all it has is paused
        first.step()
        group.seconds += 1
    group.coordinator.move(1, second.client)
    while 1 in first.client._at:
        first.step()
    second.step()
    first.finish()
    first.step()  # goes on with what it still has, and that alone is resumed
    assert first.client._paused == {1}
    group.coordinator.move(1, first.client)
    second.step()
    group.rest()
