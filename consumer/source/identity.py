"""Whether the topics that are read are still those whose offsets are stored, and how many partitions they have.

A client goes on reading when a topic is deleted and made anew, at the offset where it was: what the new topic holds
before that offset would never be seen. So the broker is asked for the topics' ids, again and again.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from consumer.errors import Stop
from consumer.planning import Partition
from consumer.source.client import Broker
from consumer.source.partitions import Held

EVERY_SECONDS = 1.0


class Identity:
    """Compares the ids under which partitions were acquired with the broker's. Never waits for an answer.

    `partitions`: how many each topic of `topics` has, as last told; 0 where Kafka does not know it.
    """

    def __init__(self, broker: Broker, topics: Collection[str]) -> None:
        self._broker, self._topics = broker, topics
        self._asked: dict[str, Future[Any]] = {}
        self._ask_at = 0.0
        self.partitions: Mapping[str, int] = {}

    def check(self, held: Mapping[Partition, Held]) -> None:
        """Look at the answers that are there, ask when it is time. Raises Stop for a topic that was made anew."""
        if self._asked and all(answer.done() for answer in self._asked.values()):
            answers = {topic: _answer(asked) for topic, asked in self._asked.items()}
            self._asked = {}
            self.partitions = {**self.partitions, **{topic: told[1] for topic, told in answers.items() if told}}
            for (topic, _), state in held.items():
                if (told := answers.get(topic)) and told[0] not in (None, state.topic_id):
                    raise _made_anew(topic)
        if not self._asked and time.monotonic() >= self._ask_at:
            self._ask_at = time.monotonic() + EVERY_SECONDS
            self._asked = self._broker.describe(self._topics)


def _answer(asked: Future[Any]) -> tuple[str | None, int] | None:
    """(id, partitions) of a topic, (None, 0) where the broker does not know it, None where it did not answer."""
    try:
        described = asked.result()
    except KafkaException as error:
        return (None, 0) if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART else None
    return str(described.topic_id), len(described.partitions)


def _made_anew(topic: str) -> Stop:
    return Stop(
        f"The topic {topic} was deleted and created again while it was read.",
        "Offsets of the old one mean nothing in the new one.",
        f"Decide with `embed-consumer offsets reset --topic {topic} --to beginning --execute`, "
        "then take a snapshot of the table.",
    )
