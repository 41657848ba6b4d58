"""Offsets for a person: where the group stands, and moving it when only a person can decide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition

from consumer.errors import Exit, Stop
from consumer.observe import get_logger
from consumer.operations.wiring import topics
from consumer.planning import Partition
from consumer.settings import Settings
from consumer.source import Broker, end_offsets, first_offsets
from consumer.store import Store, StoredOffset

JOBS = "replay:"  # jobs keep their progress beside the group's, under names that begin like this

_log = get_logger("offsets")


@dataclass(frozen=True, slots=True)
class Position:
    """One partition: `stored` is what counts, `committed` what the broker shows, `first` and `end` what it has.

    `stored` None: the group has not begun it. `recreated`: the topic has another id than the one the offset is of.
    """

    topic: str
    partition: int
    topic_id: str
    stored: int | None
    committed: int | None
    first: int
    end: int
    recreated: bool = False

    @property
    def lag(self) -> int:
        """Offsets not applied yet, those without a record included."""
        if self.recreated or self.stored is None:
            return self.end - self.first
        return max(self.end - self.stored, 0)


@dataclass(frozen=True, slots=True)
class Reset:
    """One partition's move to `to`."""

    position: Position
    to: int

    @property
    def consequence(self) -> str:
        """What the move means for the documents, in words."""
        at, stored = self.position, self.position.stored
        if stored is None:
            return f"begins at {self.to}"
        if at.recreated:
            return (
                f"the topic was made anew: reads the new one from {self.to}; what changed between the two is unknown, "
                "take a snapshot of the table"
            )
        if self.to > stored:
            return (
                f"skips {self.to - stored} of its offsets: their changes are missing until the rows change again; "
                f"later, `replay --topic {at.topic} --partition {at.partition} --from-offset {stored}` brings them back"
            )
        if self.to < stored:
            return f"reads {stored - self.to} of its offsets again: documents that are newer stay as they are"
        return "stays where it is"


def group_offsets(store: Store, group: str) -> dict[Partition, StoredOffset]:
    """The group's stored rows. Raises Stop if the schema belongs to another group."""
    rows = [row for row in store.offsets() if not row.group.startswith(JOBS)]
    if rows and all(row.group != group for row in rows):
        owner = rows[0].group
        raise Stop(
            f"The schema belongs to the group {owner}, this is {group}.",
            "A schema keeps the progress of one group.",
            f"Run it with --group {owner}, or correct store.schema.",
        )
    return {(row.topic, row.partition): row for row in rows if row.group == group}


def places(broker: Broker, wanted: Iterable[str]) -> list[Partition]:
    """Every partition of the topics in `wanted` that exist, by topic and partition."""
    return [(topic, number) for topic in sorted(set(wanted)) for number in broker.partitions(topic)]


def positions(
    broker: Broker, group: str, wanted: Iterable[str], stored: Mapping[Partition, StoredOffset]
) -> list[Position]:
    """Where the group stands on each of the `places`."""
    found = places(broker, wanted)
    if not found:
        return []
    ids = broker.topic_ids({topic for topic, _ in found})
    firsts, ends, committed = first_offsets(broker, found), end_offsets(broker, found), broker.committed(group, found)
    return [
        Position(
            *place,
            ids[place[0]],
            row.next_offset if (row := stored.get(place)) else None,
            committed.get(place),
            firsts[place],
            ends[place],
            row is not None and row.topic_id != ids[place[0]],
        )
        for place in found
    ]


def show(settings: Settings, broker: Broker, store: Store) -> list[Position]:
    """Where the group stands on every topic it reads."""
    return positions(broker, settings.group, topics(settings), group_offsets(store, settings.group))


def plan_reset(
    settings: Settings, broker: Broker, store: Store, topic: str, partition: int | None, to: str
) -> list[Reset]:
    """The moves that `offsets reset` would make; `to` is beginning, end or an offset. Changes nothing."""
    if topic not in topics(settings):
        raise Stop(
            f"The settings name no topic {topic}.",
            "",
            f"Topics of the group: {', '.join(topics(settings))}.",
            exit_code=Exit.USAGE,
        )
    found = positions(broker, settings.group, [topic], group_offsets(store, settings.group))
    if not found:
        raise Stop(
            f"Kafka has no topic {topic}.",
            "",
            "Its table has had no row yet, or the name is wrong.",
            exit_code=Exit.USAGE,
        )
    chosen = [position for position in found if partition in (None, position.partition)]
    if not chosen:
        raise Stop(f"{topic} has no partition {partition}.", f"Its last one is {len(found) - 1}.", exit_code=Exit.USAGE)
    if to.isdecimal() and len(chosen) > 1:
        raise Stop(
            f"{topic} has {len(chosen)} partitions.",
            "One offset means something else in each.",
            "Name one with --partition.",
            exit_code=Exit.USAGE,
        )
    return [Reset(position, _target(position, to)) for position in chosen]


def reset(settings: Settings, broker: Broker, store: Store, resets: Sequence[Reset]) -> None:
    """Make the moves, and take every partition's epoch. Raises Stop while the group has live members."""
    if count := broker.members(settings.group):
        raise Stop(
            f"The group {settings.group} has {count} live {'member' if count == 1 else 'members'}.",
            "A live member would go on from where it is.",
            "End the group's consumers first; one that was killed is forgotten after its session timeout (45 s).",
        )
    for move in resets:
        at = move.position
        store.reset_offset(settings.group, at.topic, at.topic_id, at.partition, move.to)
    _commit(broker, settings.group, resets)


def _target(position: Position, to: str) -> int:
    if to == "beginning":
        return position.first
    if to == "end":
        return position.end
    if not to.isdecimal() or not position.first <= int(to) <= position.end:
        raise Stop(
            f"{to} is no offset of {position.topic}[{position.partition}].",
            f"It holds {position.first} to {position.end}.",
            "Give an offset in between, beginning or end.",
            exit_code=Exit.USAGE,
        )
    return int(to)


def _commit(broker: Broker, group: str, resets: Sequence[Reset]) -> None:
    """Show the new positions at the broker too; if that fails, the next start of the consumer does it."""
    moved = [TopicPartition(move.position.topic, move.position.partition, move.to) for move in resets]
    try:
        answer = broker.admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, moved)])
        answer[group].result()
    except KafkaException as error:
        _log.warning("the broker shows the old offsets until the consumer starts", reason=error.args[0].name())
