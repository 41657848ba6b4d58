"""The settings tree. Each room takes its own section; the docstrings here are the reference the JSON Schema carries."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ByteSize, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from consumer.settings.kafka_properties import refuse


class Section(BaseModel):
    """Unknown keys are errors, and a loaded section does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class KafkaSettings(Section):
    """The cluster that the topics are in."""

    bootstrap_servers: str = Field("localhost:9092", description="host:port of one or more brokers, comma-separated")
    properties: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="any librdkafka property (SASL, TLS, …) that the product does not own"
    )

    @field_validator("properties")
    @classmethod
    def _passes(cls, value: dict[str, Any]) -> dict[str, Any]:
        refuse(value)
        return value


class RegistrySettings(Section):
    url: str = Field(
        "http://localhost:8081",
        pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$",
        description="Confluent-compatible schema registry (Apicurio's ends with /apis/ccompat/v7), for Avro topics; "
        "to be set where a table's format is auto and its records may be Avro",
    )
    framing: Literal["auto", "confluent", "apicurio8", "headers"] = Field(
        "auto", description="how records name their schema; auto reads headers, 8-byte and 4-byte ids"
    )
    user: str | None = Field(None, description="for basic authentication, with registry.password")
    password: SecretStr | None = None
    token: SecretStr | None = Field(None, description="bearer token, in place of user and password")
    ca_file: Path | None = Field(None, description="PEM certificates to trust in place of the system's, for https")
    certificate_file: Path | None = Field(None, description="PEM client certificate, with registry.key_file")
    key_file: Path | None = Field(None, description="PEM key of the client certificate, without a passphrase")

    @model_validator(mode="after")
    def _credentials_are_whole(self) -> RegistrySettings:
        if "@" in self.url.split("://", 1)[1].split("/", 1)[0]:
            raise ValueError("url must not carry a user or password; set registry.user and registry.password")
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password go together")
        if self.user is not None and self.token is not None:
            raise ValueError("set user and password, or token, not both")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together")
        return self


class StoreSettings(Section):
    """The Postgres that the vectors are in."""

    dsn: SecretStr = Field(
        SecretStr("postgresql://embedder@localhost:5432/vectors"), description="where the vectors live (writer role)"
    )
    migrator_dsn: SecretStr | None = Field(
        None, description="the role that may create tables, for `migrate` and the index build; default: store.dsn"
    )
    schema_name: Annotated[str, Field(alias="schema", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")] = "embedding"

    @field_validator("schema_name")
    @classmethod
    def _not_postgres_own(cls, value: str) -> str:
        if value.startswith("pg_"):
            raise ValueError("names that begin with pg_ are PostgreSQL's own; choose another")
        return value


class SourceSettings(Section):
    """The database that the rows come from; the consumer never reads rows of it."""

    dsn: SecretStr | None = Field(
        None,
        description="the source Postgres, asked by doctor and for the metric of its replication slots; "
        "a role that may connect is enough",
    )
    slot: str | None = Field(
        None, description="the connector's slot.name, so that doctor knows which slot must be there; default: any"
    )
    publication: str | None = Field(
        None, description="the connector's publication.name, in which doctor looks for the tables; default: any"
    )
    connect_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$",
        description="REST address of Kafka Connect, asked by doctor for the state of the connector",
    )
    connector: str | None = Field(None, description="the connector's name in Kafka Connect; default: all that it has")


class EmbeddingSettings(Section):
    """The model, exactly: what is set here decides which vectors may be compared."""

    engine: Literal["torch"] = "torch"
    model: str = Field(
        "sentence-transformers/all-MiniLM-L6-v2", description="hub id, local folder, or package:<import name>"
    )
    revision: str | None = Field(None, description="full commit of a hub model; required for a hub id")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    token_budget: Literal["auto"] | Annotated[int, Field(ge=16)] = Field("auto", description="tokens of one pass")
    document_prompt: str = ""
    query_prompt: str = ""
    normalize: bool = True


class IndexSettings(Section):
    """How vectors are stored and indexed; the same for the life of a vector space."""

    metric: Literal["cosine", "l2", "ip"] = "cosine"
    m: int = Field(16, ge=2, le=100)
    ef_construction: int = Field(64, ge=4, le=1000)
    element: Literal["vector", "halfvec"] = "vector"
    segment_rows: int | None = Field(
        None,
        ge=100,
        description="null: one table with one vector index, which takes about a thousand rows a second; a number: a "
        "table in segments, each of which gets its own when it has so many rows (20000 for a start); `migrate` decides "
        "it when it makes the table",
    )


class BatchSettings(Section):
    """What one transaction may hold at most."""

    max_events: int = Field(1000, ge=1, le=100_000, description="events; four times as many while they change nothing")
    max_bytes: ByteSize = Field(ByteSize(64 * 1024 * 1024), description="bytes of Kafka records in one batch")
    max_seconds: float = Field(0.2, gt=0, description="seconds of model work, at the measured rate")


class SloSettings(Section):
    """The objective: this share of changes is searchable within so many seconds of its commit."""

    objective: float = Field(0.99, gt=0, lt=1)
    threshold_seconds: float = Field(60, gt=0)


class HttpSettings(Section):
    """Where `/metrics`, `/healthz` and `/readyz` are served, as host:port; if it is taken, on the next free port."""

    listen: str = Field("127.0.0.1:9464", pattern=r"^\S+:\d{1,5}$")


class LogSettings(Section):
    """What is logged, and how: `auto` is for people on a terminal and JSON elsewhere."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


class ChunkSettings(Section):
    """How a text is cut, the length of a chunk and what it shares with the one before, in tokens of the model."""

    method: Literal["stable", "windows"] = Field(
        "stable",
        description="stable: at sentence ends that the content chooses, so that an edit embeds little again; "
        "windows: every chunk as long as it may be",
    )
    max_tokens: int = Field(256, ge=8)
    overlap: int = Field(32, ge=0)


class TableSettings(Section):
    """One source table: which rows are in the index, and as what."""

    topic: str = Field(description="<topic.prefix>.<schema>.<table>, or the topic a router writes")
    source: str = Field(
        "", description="name of the source; default: the topic. For a routed topic: <topic.prefix>.<schema>.<table>"
    )
    topic_prefix: str = Field("", description="the connector's topic.prefix, where it contains a dot")
    format: Literal["auto", "json", "avro"] = "auto"
    when: str | None = Field(None, description="rows that do not match are not in the index")
    text: str = Field(description="sandboxed Jinja2 over the row's columns")
    metadata: tuple[str, ...] = Field((), description="columns kept beside the vectors for filters")
    columns: dict[str, str] = Field(default_factory=dict, description="types that schemaless JSON does not carry")
    chunk: ChunkSettings = ChunkSettings()
    on_truncate: Literal["delete", "ignore", "stop"] = Field(
        "delete", description="delete every row, but never of a source that may hold other tables' too: that stops"
    )

    @model_validator(mode="before")
    @classmethod
    def _source_defaults_to_topic(cls, value: Any) -> Any:
        if isinstance(value, dict) and not value.get("source"):
            return {**value, "source": value.get("topic", "")}
        return value

    @model_validator(mode="after")
    def _prefix_begins_a_name(self) -> TableSettings:
        begins = (name.startswith(f"{self.topic_prefix}.") for name in (self.topic, self.source))
        if self.topic_prefix and not any(begins):
            raise ValueError(f"topic_prefix {self.topic_prefix} is that of neither topic nor source")
        return self

    @property
    def prefix(self) -> str:
        """The connector's `topic.prefix`, by which its heartbeat topic is named.

        A routed topic says nothing of it: then `source` is written as `<prefix>.<schema>.<table>`.
        """
        if self.topic_prefix:
            return self.topic_prefix
        return (self.source if self.source.count(".") >= 2 else self.topic).split(".", 1)[0]


class Settings(BaseSettings):
    """Everything embed-consumer can be told. Priority: flags, environment (EMBEDDING_…), file, defaults."""

    model_config = SettingsConfigDict(
        env_prefix="EMBEDDING_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
    )

    group: str = Field("prod", pattern=r"^[A-Za-z0-9._-]{1,200}$")
    kafka: KafkaSettings = KafkaSettings()
    registry: RegistrySettings = RegistrySettings()
    store: StoreSettings = StoreSettings()
    source: SourceSettings = SourceSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    index: IndexSettings = IndexSettings()
    batch: BatchSettings = BatchSettings()
    slo: SloSettings = SloSettings()
    http: HttpSettings = HttpSettings()
    log: LogSettings = LogSettings()
    tables: tuple[TableSettings, ...] = ()

    @model_validator(mode="after")
    def _tables_are_distinct(self) -> Settings:
        for name in ("topic", "source"):
            seen: set[str] = set()
            for table in self.tables:
                value = getattr(table, name)
                if value in seen:
                    raise ValueError(f"two entries of tables share the {name} {value}")
                seen.add(value)
        return self

    @field_validator("tables")
    @classmethod
    def _topics_are_names(cls, value: tuple[TableSettings, ...]) -> tuple[TableSettings, ...]:
        for table in value:
            if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", table.topic):
                raise ValueError(f"{table.topic!r} is no Kafka topic name")
        return value
