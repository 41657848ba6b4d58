"""One test's world on the shared stack: source tables, a store schema, a consumer group, and the real command."""

from __future__ import annotations

import secrets
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, LiteralString, TypeVar

import psycopg
import yaml
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from psycopg import sql
from psycopg.rows import dict_row

from consumer.local import Endpoints
from consumer.operations.migrate import migrate
from consumer.settings import load_settings
from tests.command import CommandProcess, Finished

__all__ = ["CommandProcess", "Finished", "World"]
T = TypeVar("T")
# A partition just made has no leader for a moment.
_LEADERLESS = {KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError._UNKNOWN_PARTITION}


@dataclass
class World:
    """Names are unique, so that tests share Kafka, Connect and Postgres without meeting."""

    endpoints: Endpoints
    folder: Path
    model: str
    name: str
    tables: list[dict[str, Any]]
    overrides: dict[str, Any] = field(default_factory=dict)
    processes: list[CommandProcess] = field(default_factory=list)
    prefix: str = "shop"  # of the topics: the connector's
    slot: str = "embed_consumer"  # the connector's replication slot
    suffixes: tuple[str, ...] = ("a", "b")

    @classmethod
    def create(cls, endpoints: Endpoints, folder: Path, *, model: str, suffixes: tuple[str, ...] = ("a", "b")) -> World:
        """Make source tables, by default `<name>_a` and `<name>_b` (id, title, body, category, price, status)."""
        name = f"t{secrets.token_hex(4)}"
        world = cls(endpoints, folder, model, name, [], suffixes=suffixes)
        for suffix in suffixes:
            world.source(
                sql.SQL(
                    "CREATE TABLE {} (id int PRIMARY KEY, title text, body text, category text, price numeric(10,2),"
                    " status text NOT NULL DEFAULT 'published')"
                ).format(sql.Identifier(f"{name}_{suffix}"))
            )
            world.tables.append(
                {
                    "topic": world.topic(suffix),
                    "when": "{{ status == 'published' }}",
                    "text": "{{ title }}\n\n{{ body }}",
                    "metadata": ["category", "price"],
                    "chunk": {"max_tokens": 64, "overlap": 8},
                }
            )
        return world

    def table(self, suffix: str = "a") -> sql.Identifier:
        """The SQL identifier of a source table."""
        return sql.Identifier(f"{self.name}_{suffix}")

    def topic(self, suffix: str = "a") -> str:
        return f"{self.prefix}.public.{self.name}_{suffix}"

    def source(self, statement: sql.Composed | LiteralString, values: Any = None) -> list[tuple[Any, ...]]:
        """Run one statement on the source, in its own transaction."""
        with psycopg.connect(self.endpoints.source_owner_dsn, autocommit=True) as connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def store(self, statement: LiteralString, values: Any = None) -> list[dict[str, Any]]:
        """Read or write the store as its migrator; unqualified names are the test schema's."""
        with psycopg.connect(self.endpoints.migrator_dsn, autocommit=True, row_factory=dict_row) as connection:
            connection.execute(sql.SQL("SET search_path = {}, public").format(sql.Identifier(self.name)))
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def settings(self, **overrides: Any) -> Path:
        """Write the settings file; `overrides` replace whole sections, later ones win."""
        self.overrides |= overrides
        content: dict[str, Any] = {
            "group": self.name,
            "kafka": {"bootstrap_servers": self.endpoints.bootstrap_servers},
            "store": {
                "dsn": self.endpoints.store_dsn,
                "migrator_dsn": self.endpoints.migrator_dsn,
                "schema": self.name,
            },
            "source": {"dsn": self.endpoints.source_dsn},
            "embedding": {"model": self.model},
            "http": {"listen": "127.0.0.1:0"},
            "log": {"format": "json"},
            "tables": self.tables,
            **self.overrides,
        }
        path, draft = self.folder / "embed-consumer.yaml", self.folder / "embed-consumer.yaml.new"
        draft.write_text(yaml.safe_dump(content), encoding="utf-8")
        return draft.replace(path)  # at once: a process that is starting may read it just now

    def command(self, *arguments: str, timeout: float = 120, environment: Mapping[str, str] | None = None) -> Finished:
        """Run `embed-consumer` in the world's folder to its end."""
        process = self.spawn(*arguments, environment=environment)
        code = process.wait(timeout)
        return Finished(code, process.out.read_text(encoding="utf-8"), process.output())

    def spawn(
        self, *arguments: str, environment: Mapping[str, str] | None = None, cpu: int | None = None
    ) -> CommandProcess:
        """Start `embed-consumer` in the world's folder; ended with the world at the latest."""
        self.settings()
        name = f"{arguments[0].strip('-')}-{len(self.processes)}"
        process = CommandProcess(arguments, self.folder, environment or {}, name, cpu)
        self.processes.append(process)
        return process

    def migrate(self) -> None:
        """What `embed-consumer migrate` does, without a process of its own."""
        migrate(load_settings(self.settings()).settings)

    def start(
        self, *arguments: str, environment: Mapping[str, str] | None = None, cpu: int | None = None
    ) -> CommandProcess:
        """Start a consumer of the world's group in the background."""
        return self.spawn("--group", self.name, *arguments, environment=environment, cpu=cpu)

    @contextmanager
    def consumer(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[CommandProcess]:
        """A consumer that is stopped by SIGTERM at the end, and must then exit with 0."""
        process = self.start(*arguments, environment=environment)
        yield process
        assert process.stop() == 0, process.output()[-3000:]

    def until(self, condition: Callable[[], T], timeout: float = 60) -> T:
        """The first truthy answer of `condition`; fails with the consumers' last lines if there is none in time."""
        deadline = time.monotonic() + timeout
        while not (answer := condition()):
            dead = [p for p in self.processes if not p.alive() and p.wait() not in (0, -signal.SIGKILL)]
            if dead or time.monotonic() > deadline:
                logs = "\n".join(f"--- {p.log.name}\n{p.output()[-2000:]}" for p in self.processes)
                raise AssertionError(f"{'a consumer died' if dead else 'not in time'}; last answer {answer!r}\n{logs}")
            time.sleep(0.05)
        return answer

    def create_topic(self, suffix: str = "a", partitions: int = 1) -> None:
        """Make a table's topic by hand, for records that no connector would write."""
        admin = AdminClient({"bootstrap.servers": self.endpoints.bootstrap_servers})
        admin.create_topics([NewTopic(self.topic(suffix), partitions)])[self.topic(suffix)].result(30)

    def delete_topic(self, suffix: str = "a") -> None:
        admin = AdminClient({"bootstrap.servers": self.endpoints.bootstrap_servers})
        admin.delete_topics([self.topic(suffix)])[self.topic(suffix)].result(30)

    def delete_records(self, before: int, suffix: str = "a") -> None:
        """Let the records of partition 0 expire that stand before an offset."""
        admin = AdminClient({"bootstrap.servers": self.endpoints.bootstrap_servers})
        place = TopicPartition(self.topic(suffix), 0, before)
        admin.delete_records([place])[place].result(30)

    def produce(self, *records: tuple[bytes | None, bytes | None], suffix: str = "a") -> list[int]:
        """Write raw (key, value) records into partition 0 of a table's topic; their offsets."""
        offsets: list[int] = []

        def written(error: Any, message: Any) -> None:
            assert error is None, error
            offsets.append(message.offset())

        producer = Producer({"bootstrap.servers": self.endpoints.bootstrap_servers, "linger.ms": 0})
        for key, value in records:
            producer.produce(self.topic(suffix), value=value, key=key, partition=0, on_delivery=written)
        assert producer.flush(30) == 0
        return offsets

    def short_sessions(self, **sections: Any) -> Path:
        """Settings under which the group notices a dead member within seconds; `sections` as in `settings`."""
        kafka = {
            "bootstrap_servers": self.endpoints.bootstrap_servers,
            "properties": {"session.timeout.ms": 6000, "heartbeat.interval.ms": 1000},
        }
        return self.settings(kafka=kafka, **sections)

    def end_offsets(self, *suffixes: str) -> dict[tuple[str, int], int]:
        """The end of every partition of the tables' topics, as the broker says now."""
        reader = Consumer({"bootstrap.servers": self.endpoints.bootstrap_servers, "group.id": "ends"})

        def ends() -> list[dict[tuple[str, int], int]]:
            found = {}
            try:
                for topic in map(self.topic, suffixes or self.suffixes):
                    for partition in reader.list_topics(topic, timeout=10).topics[topic].partitions:
                        place = TopicPartition(topic, partition)
                        found[topic, partition] = reader.get_watermark_offsets(place, timeout=10)[1]
            except KafkaException as error:
                if error.args[0].code() not in _LEADERLESS:
                    raise
                return []
            return [found]

        try:
            return self.until(ends)[0]
        finally:
            reader.close()

    def caught_up(self, *suffixes: str) -> bool:
        """Whether the store's offsets stand at the ends of all partitions."""
        stored = {
            (row["topic"], row["partition"]): row["next_offset"]
            for row in self.store("SELECT topic, partition, next_offset FROM offsets WHERE group_id = %s", [self.name])
        }
        return all(stored.get(place, 0) >= end for place, end in self.end_offsets(*suffixes).items())

    def settle(self, *suffixes: str, timeout: float = 60) -> None:
        """Wait until all that is committed on the source by now is in Kafka, and applied."""
        with psycopg.connect(self.endpoints.admin_source_dsn, autocommit=True) as source:
            (lsn,) = source.execute("SELECT pg_current_wal_lsn()::text").fetchone() or ("",)
            confirmed = "SELECT 1 FROM pg_replication_slots WHERE slot_name = %s AND confirmed_flush_lsn >= %s::pg_lsn"
            self.until(lambda: source.execute(confirmed, [self.slot, lsn]).fetchone(), timeout)
        self.until(lambda: self.caught_up(*suffixes), timeout)

    def committed(self, *suffixes: str) -> dict[tuple[str, int], int]:
        """What the group has committed to the broker, for lag exporters and autoscalers."""
        reader = Consumer({"bootstrap.servers": self.endpoints.bootstrap_servers, "group.id": self.name})
        try:
            asked = [TopicPartition(*place) for place in self.end_offsets(*suffixes)]
            return {(p.topic, p.partition): p.offset for p in reader.committed(asked, timeout=10)}
        finally:
            reader.close()

    def close(self) -> None:
        """End every process of this world."""
        for process in self.processes:
            if process.alive():
                process.kill()
