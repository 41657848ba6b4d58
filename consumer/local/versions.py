"""What the local stack is made of; docker-compose.yml names the same, and a test holds the two together."""

from __future__ import annotations

from typing import Final

KAFKA: Final = "4.3.0"
DEBEZIUM: Final = "3.6.3.Final"
DEBEZIUM_MARIADB: Final = "3.5.0.Final"  # the newest that the Maven repository has of this connector
APICURIO: Final = "2.6.13.Final"
LOG4J: Final = "2.25.4"
POSTGRES_MAJOR: Final = "18"
PGVECTOR: Final = "0.8.5"

SOURCE_DATABASE: Final = "shop"
STORE_DATABASE: Final = "vectors"
TOPIC_PREFIX: Final = "shop"
HEARTBEAT_TOPIC: Final = f"__debezium-heartbeat.{TOPIC_PREFIX}"
SIGNAL_TOPIC: Final = f"{TOPIC_PREFIX}-signal"  # where the connector looks if no other name is set
# The connector file of each wire format. They share slot and topics: only one of them may run.
CONNECTORS: Final = {"json": "postgres-json", "avro": "postgres-avro"}
CONNECTOR: Final = CONNECTORS["json"]
# The roles of ops/postgres, each with the variable that brings its password there.
ROLES: Final[dict[str, str]] = {
    "debezium": "DEBEZIUM_PASSWORD",
    "shop_owner": "SHOP_OWNER_PASSWORD",
    "embedding_migrator": "MIGRATOR_PASSWORD",
    "embedder": "EMBEDDER_PASSWORD",
    "embedding_reader": "READER_PASSWORD",
}

# Logical decoding, and nothing of the source's text in the server log.
POSTGRES_SETTINGS: Final[dict[str, str]] = {
    "wal_level": "logical",
    "max_wal_senders": "16",
    "max_replication_slots": "16",
    "shared_buffers": "1GB",
    "max_wal_size": "2GB",
    "log_min_error_statement": "panic",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

# One broker: internal topics with one replica and few partitions, and no wait before a group's first rebalance.
KAFKA_SETTINGS: Final[dict[str, str]] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "BROKER",
    "auto.create.topics.enable": "false",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "8",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
}

# Secrets reach connectors through the environment, and only these names of it.
CONNECT_SETTINGS: Final[dict[str, str]] = {
    "group.id": "connect",
    "key.converter": "org.apache.kafka.connect.json.JsonConverter",
    "value.converter": "org.apache.kafka.connect.json.JsonConverter",
    "config.storage.topic": "connect-configs",
    "offset.storage.topic": "connect-offsets",
    "status.storage.topic": "connect-status",
    "config.storage.replication.factor": "1",
    "offset.storage.replication.factor": "1",
    "status.storage.replication.factor": "1",
    "offset.storage.partitions": "1",
    "status.storage.partitions": "1",
    "offset.flush.interval.ms": "1000",
    "plugin.discovery": "service_load",
    "scheduled.rebalance.max.delay.ms": "0",
    "connector.client.config.override.policy": "All",
    "config.providers": "env",
    "config.providers.env.class": "org.apache.kafka.common.config.provider.EnvVarConfigProvider",
    "config.providers.env.param.allowlist.pattern": "(SOURCE|TOPIC|REGISTRY)_.*",
}
