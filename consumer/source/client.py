"""How to reach the broker: the owned librdkafka properties, topic ids, watermarks, and errors as faults."""

from __future__ import annotations

import difflib
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from consumer.errors import Exit, Retry, Stop

TIMEOUT_SECONDS = 5.0
# What people set: named where something is misspelt. The client itself does not tell which properties it has.
OFTEN_SET = (
    "broker.address.family",
    "client.id",
    "client.rack",
    "enable.ssl.certificate.verification",
    "fetch.max.bytes",
    "fetch.min.bytes",
    "fetch.wait.max.ms",
    "group.instance.id",
    "group.protocol",
    "heartbeat.interval.ms",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "metadata.max.age.ms",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "receive.message.max.bytes",
    "sasl.mechanisms",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.method",
    "sasl.oauthbearer.scope",
    "sasl.oauthbearer.token.endpoint.url",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "session.timeout.ms",
    "socket.keepalive.enable",
    "socket.timeout.ms",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "statistics.interval.ms",
)
_REFUSED = {
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
}


class _Seldom(logging.Filter):
    """One line of a kind in a while: while a broker is away, librdkafka says the same twenty times a second."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Its lines begin with their kind: FAIL, ERROR, MAXPOLL, …"""
        kind, now = record.getMessage().split(" ", 1)[0], time.monotonic()
        if now - self._said.get(kind, -self._seconds) < self._seconds:
            return False
        self._said[kind] = now
        return True


_librdkafka = logging.getLogger("librdkafka")
_librdkafka.addFilter(_Seldom(60.0))
_unheard = logging.getLogger("librdkafka.unheard")
_unheard.disabled = True


class Broker:
    """Connection settings and metadata look-ups of one Kafka cluster."""

    def __init__(self, servers: str, properties: Mapping[str, Any]) -> None:
        self.servers = servers
        self._properties = dict(properties)
        self._admin: AdminClient | None = None

    @property
    def admin(self) -> AdminClient:
        """The shared admin client, connected on first use."""
        if self._admin is None:
            self._admin = AdminClient(self.client_config())
        return self._admin

    def client_config(self) -> dict[str, Any]:
        """Properties of any client; librdkafka's own log goes through ours."""
        return {
            **self._properties,
            "bootstrap.servers": self.servers,
            "logger": _librdkafka,
            "log.connection.close": False,
        }

    def reader_config(self) -> dict[str, Any]:
        """Properties of a consumer that assigns its partitions itself and commits nothing."""
        return {
            **{k: v for k, v in self.client_config().items() if k not in ("group.protocol", "group.instance.id")},
            "group.id": "embed-consumer-reader",  # demanded by the client, never joined
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "fetch.queue.backoff.ms": 10,
        }

    def consumer_config(self, group: str, on_error: Callable[[KafkaError], None]) -> dict[str, Any]:
        """Properties of a group member.

        `fetch.queue.backoff.ms` is 1000 by default, which starves large batches; metadata is refreshed often enough
        for a topic that appears later (a first row in a new table) to be joined within seconds. Few messages are
        fetched ahead (100,000 by default): what is fetched of a live partition stands behind them.
        """
        config = self.reader_config() | self.client_config() | {"group.id": group, "error_cb": on_error}
        if config.get("group.protocol", "classic") != "consumer":
            config["partition.assignment.strategy"] = "cooperative-sticky"
        config.setdefault("topic.metadata.refresh.interval.ms", 5000)
        config.setdefault("queued.min.messages", 5000)
        config["allow.auto.create.topics"] = False
        return config

    def member(self, group: str, on_error: Callable[[KafkaError], None]) -> Consumer:
        """A client that may join the group. Raises KafkaException for properties that it refuses."""
        return Consumer(self.consumer_config(group, on_error))

    def check_properties(self) -> None:
        """Raise Stop for properties that the client of a group member refuses; no broker is asked."""
        config = self.consumer_config("check", lambda _: None) | {"logger": _unheard}
        del config["bootstrap.servers"]
        try:
            Consumer(config).close()
        except KafkaException as error:
            raise fault_of(error.args[0], self.servers) from None

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        """The broker's id of each topic; a topic made anew under its old name has another. Raises Retry or Stop."""
        try:
            return {topic: str(future.result().topic_id) for topic, future in self.describe(topics).items()}
        except KafkaException as error:
            raise fault_of(error.args[0], self.servers) from None

    def describe(self, topics: Iterable[str]) -> dict[str, Future[Any]]:
        """Ask for the topics' descriptions, which carry `topic_id`; a future for each."""
        futures: dict[str, Future[Any]] = self.admin.describe_topics(
            TopicCollection(list(topics)), request_timeout=TIMEOUT_SECONDS
        )
        return futures

    def check(self) -> None:
        """Raise Retry if no broker answers, Stop if one refuses."""
        try:
            self.admin.list_topics(timeout=TIMEOUT_SECONDS)
        except KafkaException as error:
            raise fault_of(error.args[0], self.servers) from None

    def partitions(self, topic: str) -> list[int]:
        """The topic's partition numbers; none if it does not exist."""
        try:
            # Of all topics: to ask for one by name may create it.
            described = self.admin.list_topics(timeout=TIMEOUT_SECONDS).topics.get(topic)
        except KafkaException as error:
            raise fault_of(error.args[0], self.servers) from None
        return sorted(described.partitions) if described is not None and described.error is None else []

    def members(self, group: str) -> int:
        """How many live members the consumer group has."""
        try:
            described = self.admin.describe_consumer_groups([group], request_timeout=TIMEOUT_SECONDS)[group].result()
        except KafkaException as error:
            if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                return 0
            raise fault_of(error.args[0], self.servers) from None
        return len(described.members)

    def committed(self, group: str, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """The offsets the group has committed to the broker; a partition without one is left out."""
        from confluent_kafka import ConsumerGroupTopicPartitions

        asked = ConsumerGroupTopicPartitions(group, [TopicPartition(*p) for p in partitions])
        try:
            answer = self.admin.list_consumer_group_offsets([asked])[group].result(TIMEOUT_SECONDS)
        except KafkaException as error:
            raise fault_of(error.args[0], self.servers) from None
        return {(p.topic, p.partition): p.offset for p in answer.topic_partitions if p.offset >= 0}


def fault_of(error: KafkaError, servers: str) -> Retry | Stop:
    """What the caller must decide about a Kafka error. Refused credentials stop; everything else may pass."""
    if error.code() in _REFUSED:
        return Stop(
            f"Kafka at {servers} refuses access ({error.name()}).",
            "The credentials or the ACLs do not allow it.",
            "The consumer needs Read and Describe on its topics and Read on its group; see kafka.properties.",
            exit_code=Exit.UNREACHABLE,
        )
    if error.code() == KafkaError._INVALID_ARG:
        # Nothing else of the message: it may quote a value.
        named = re.search(r'(?:propert(?:y|ies):?|bool value for) "?([A-Za-z0-9._]+)', error.str())
        name = named[1] if named else "sasl.mechanisms" if "SASL mechanism" in error.str() else ""
        return Stop(
            f"The Kafka client refuses its settings{f': {name}' if name else ''}.",
            _why_refused(name, unknown="No such" in error.str()),
            "Correct kafka.properties; librdkafka's CONFIGURATION.md lists them.",
            exit_code=Exit.USAGE,
        )
    if error.fatal():
        return Stop(f"The Kafka client cannot go on ({error.name()}).", "", "Start the process again.")
    return Retry(
        f"Kafka at {servers} does not answer ({error.name()}).",
        "No broker runs there, it is still starting, or the network is in between.",
        "Start it, or correct kafka.bootstrap_servers (EMBEDDING_KAFKA__BOOTSTRAP_SERVERS).",
    )


def _why_refused(name: str, *, unknown: bool) -> str:
    if not unknown:
        return "A property has an impossible value, or lacks another one that goes with it."
    near = difflib.get_close_matches(name, OFTEN_SET, n=1, cutoff=0.75)
    return f"There is no such property{f'; the nearest one is {near[0]}' if near else ''}."
