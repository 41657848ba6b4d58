"""Whether the topics that are read are still those whose offsets are stored.

A client goes on reading when a topic is deleted and made anew, at the offset where it was: what the new topic holds
before that offset would never be seen. So the broker is asked for the topics' ids, again and again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaException

from consumer.errors import Stop
from consumer.planning import Partition
from consumer.source.client import Broker
from consumer.source.partitions import Held

EVERY_SECONDS = 1.0


class Identity:
    """Compares the ids under which partitions were acquired with the broker's. Never waits for an answer."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._asked: dict[str, Future[Any]] = {}
        self._ask_at = 0.0

    def check(self, held: Mapping[Partition, Held]) -> None:
        """Look at the answers that are there, ask when it is time. Raises Stop for a topic that was made anew."""
        if self._asked and all(answer.done() for answer in self._asked.values()):
            answers = {topic: _id(answer) for topic, answer in self._asked.items()}
            self._asked = {}
            for (topic, _), state in held.items():
                if answers.get(topic) not in (None, state.topic_id):
                    raise _made_anew(topic)
        if not self._asked and held and time.monotonic() >= self._ask_at:
            self._ask_at = time.monotonic() + EVERY_SECONDS
            self._asked = self._broker.describe({topic for topic, _ in held})


def _id(answer: Future[Any]) -> str | None:
    """None where the broker does not know the topic, or did not answer: that is not this check's business."""
    try:
        return str(answer.result().topic_id)
    except KafkaException:
        return None


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
