"""One Kafka broker in KRaft mode, on loopback."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from consumer.errors import Stop
from consumer.local import ports
from consumer.local.files import write_private
from consumer.local.java import LOCALE, Java, properties
from consumer.local.processes import Command
from consumer.local.services import Service
from consumer.local.state import Layout, State
from consumer.local.versions import KAFKA_SETTINGS, SIGNAL_TOPIC


def service(layout: Layout, state: State, java: Java) -> Service:
    """The broker as this stack runs it."""
    config, text = layout.config("kafka.properties"), _config(layout, state)
    command = Command(
        argv=(*java.command("kafka.Kafka", heap_mib=384), str(config)),
        marker=str(config),
        env=LOCALE,
        log=layout.log("kafka"),
        pid_file=layout.pid_file("kafka"),
        config=text,
    )

    def prepare() -> None:
        write_private(config, text)
        if not (layout.data("kafka") / "meta.properties").exists():
            _format(java, config, state.cluster_id, layout)

    port = state.port("kafka")
    return Service(
        "kafka",
        port,
        command,
        ready=lambda: _answers(port, state.cluster_id),
        prepare=prepare,
        settle=lambda: _create_signal_topic(port),
    )


def _config(layout: Layout, state: State) -> str:
    broker, controller = f"{ports.HOST}:{state.port('kafka')}", f"{ports.HOST}:{state.port('controller')}"
    return properties(
        KAFKA_SETTINGS
        | {
            "controller.quorum.voters": f"1@{controller}",
            "listeners": f"BROKER://{broker},CONTROLLER://{controller}",
            "advertised.listeners": f"BROKER://{broker}",
            "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(layout.data("kafka")),
        }
    )


def _format(java: Java, config: Path, cluster_id: str, layout: Layout) -> None:
    argv = java.command("kafka.tools.StorageTool", heap_mib=128)
    with layout.log("kafka-format").open("wb") as log:
        done = subprocess.run(
            [*argv, "format", "--ignore-formatted", f"--cluster-id={cluster_id}", "-c", str(config)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **LOCALE},
            check=False,
        )
    if done.returncode:
        raise Stop("Kafka's storage could not be formatted.", f"The log says why: {layout.log('kafka-format')}.")


def _create_signal_topic(port: int) -> None:
    """The topic that asks the connector for an ad-hoc snapshot; it must have one partition, or signals get lost."""
    client = AdminClient({"bootstrap.servers": f"{ports.HOST}:{port}", "log_level": 0})
    try:
        client.create_topics([NewTopic(SIGNAL_TOPIC, 1, 1)])[SIGNAL_TOPIC].result(30)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise


def _answers(port: int, cluster_id: str) -> bool:
    """Whether this stack's broker answers; another stack's may listen there by now."""
    if not ports.listening(port):
        return False
    client = AdminClient({"bootstrap.servers": f"{ports.HOST}:{port}", "log_level": 0})
    try:
        return bool(client.list_topics(timeout=2).cluster_id == cluster_id)
    except KafkaException:
        return False
