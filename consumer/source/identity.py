"""Whether the topics that are read are still those whose offsets are stored, and how many partitions they have.

A client goes on reading when a topic is deleted and made anew, at the offset where it was: what the new topic holds
before that offset would never be seen. So the broker is asked for the topics' ids, again and again.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException

from consumer.errors import Stop
from consumer.planning import Partition
from consumer.source.client import Broker
from consumer.source.partitions import Held

EVERY_SECONDS = 1.0


class Identity:
    """Compares the ids under which partitions were acquired with the broker's. Never waits for an answer.

    What was told last, for any thread: `partitions`, how many each of `topics` has, 0 where Kafka does not know it;
    `answers`, whether there was an answer.
    """

    def __init__(self, broker: Broker, topics: Collection[str]) -> None:
        self._broker, self._topics = broker, topics
        self._asked: dict[str, Future[Any]] = {}
        self._ask_at = 0.0
        self.partitions: Mapping[str, int] = {}
        self.answers = True

    def check(self, held: Mapping[Partition, Held]) -> None:
        """Look at the answers that are there, ask when it is time. Raises Stop for a topic that was made anew."""
        if self._asked and all(answer.done() for answer in self._asked.values()):
            answers = {topic: _answer(asked) for topic, asked in self._asked.items()}
            self._asked = {}
            self.answers = any(told is not None for told in answers.values())
            counts = {topic: told.partitions for topic, told in answers.items() if told}
            self.partitions = {**self.partitions, **{t: count for t, count in counts.items() if count is not None}}
            for (topic, _), state in held.items():
                if (told := answers.get(topic)) and told.topic_id not in (None, state.topic_id):
                    raise _made_anew(topic)
        if not self._asked and time.monotonic() >= self._ask_at:
            self._ask_at = time.monotonic() + EVERY_SECONDS
            self._asked = self._broker.describe(self._topics)


class _Answer(NamedTuple):
    """What the broker says of a topic; None what it does not say, for it may refuse."""

    topic_id: str | None = None
    partitions: int | None = None


def _answer(asked: Future[Any]) -> _Answer | None:
    """None where no broker answered."""
    try:
        described = asked.result()
    except KafkaException as error:
        code = error.args[0].code()
        if code == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return _Answer(partitions=0)
        return _Answer() if code > 0 else None  # the client's own errors are below 0
    return _Answer(str(described.topic_id), len(described.partitions))


def _made_anew(topic: str) -> Stop:
    return Stop(
        f"The topic {topic} was deleted and created again while it was read.",
        "Offsets of the old one mean nothing in the new one.",
        f"Decide with `embed-consumer offsets reset --topic {topic} --to beginning --execute`, "
        "then take a snapshot of the table.",
    )


def out_of_range(partition: Partition, offset: int) -> Stop:
    """Why reading cannot begin at this offset."""
    topic, number = partition
    return Stop(
        f"Offset {offset} of {topic}[{number}] is not in the topic any more, or not yet.",
        "Events may have expired before they were applied, or the topic was made anew.",
        f"Decide with `embed-consumer offsets reset --topic {topic} --partition {number} --to beginning --execute`, "
        "then take a snapshot of the table.",
    )
