"""Settings to parts: the one place where rooms are put together."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Mapping
from threading import Event

from consumer.content import ChunkSpec, ContentSpec, TableContent, check_chunking
from consumer.embedding import Engine, EngineConfig, load_engine
from consumer.events import Form, declared_types
from consumer.observe import adopt_library_loggers
from consumer.pipeline import Pipeline, Report
from consumer.planning import HEARTBEAT_TOPIC, Planner, Table
from consumer.settings import Settings, TableSettings
from consumer.source import Access, Broker, NoRegistry, SchemaRegistry
from consumer.steps import Registry
from consumer.store import Generation, Store, VectorSpace


def open_broker(settings: Settings) -> Broker:
    """The Kafka cluster of the settings; connects on first use."""
    return Broker(settings.kafka.bootstrap_servers, settings.kafka.properties)


def open_store(settings: Settings, *, answer_within: float = 60.0) -> Store:
    """The vector store under the writer's role; connects on first use."""
    return Store(settings.store.dsn.get_secret_value(), settings.store.schema_name, answer_within=answer_within)


def open_registry(settings: Settings) -> Registry:
    """The schema registry of the settings; connects when the first Avro record comes, so that JSON needs none."""
    if "url" not in settings.registry.model_fields_set and not _in_avro(settings):
        return NoRegistry()
    return _schema_registry(settings)


def check_registry(settings: Settings) -> None:
    """Raises Retry where a table is in Avro and the registry does not answer."""
    if _in_avro(settings):
        _schema_registry(settings).check()


def _in_avro(settings: Settings) -> bool:
    return any(table.format == "avro" for table in settings.tables)


def _schema_registry(settings: Settings) -> SchemaRegistry:
    given = settings.registry
    return SchemaRegistry(
        Access(
            given.url,
            given.user or "",
            given.password.get_secret_value() if given.password else "",
            given.token.get_secret_value() if given.token else "",
            given.ca_file,
            given.certificate_file,
            given.key_file,
        )
    )


def migrator_dsn(settings: Settings) -> str:
    """The DSN of the role that may create tables and indexes."""
    return (settings.store.migrator_dsn or settings.store.dsn).get_secret_value()


def load_model(settings: Settings) -> Engine:
    """The engine exactly as configured; not warmed up. Raises Stop if that is not possible."""
    chosen = settings.embedding
    engine = load_engine(
        EngineConfig(
            model=chosen.model,
            revision=chosen.revision,
            device=chosen.device,
            dtype=chosen.dtype,
            token_budget=chosen.token_budget,
            document_prompt=chosen.document_prompt,
            query_prompt=chosen.query_prompt,
            normalize=chosen.normalize,
        )
    )
    adopt_library_loggers()
    return engine


def vector_space(settings: Settings, engine: Engine) -> VectorSpace:
    """What the engine would write: compared with the live generation before anything is written."""
    identity, index = engine.identity, settings.index
    return VectorSpace(
        config_hash=identity.config_hash,
        description=identity.describe(),
        model=identity.model,
        dimension=identity.dimension,
        element=index.element,
        metric=index.metric,
        m=index.m,
        ef_construction=index.ef_construction,
        segment_rows=index.segment_rows,
    )


def content_spec(entry: TableSettings) -> ContentSpec:
    """What one entry of `tables` says about content."""
    chunk = ChunkSpec(entry.chunk.max_tokens, entry.chunk.overlap, entry.chunk.method)
    return ContentSpec(entry.source, entry.text, entry.when, entry.metadata, chunk)


def build_tables(settings: Settings, engine: Engine) -> dict[str, Table]:
    """Every entry of `tables` by topic. Raises Stop for a template, type or chunk size that cannot work."""
    tables = {}
    for entry in settings.tables:
        spec = content_spec(entry)
        check_chunking(entry.source, spec.chunk, engine.tokenizer)
        content, types = TableContent(spec), declared_types(entry.source, entry.columns)
        form = Form(entry.format, settings.registry.framing, content.columns, types)
        tables[entry.topic] = Table(entry.source, entry.topic, content, entry.on_truncate, form)
    return tables


def topics(settings: Settings) -> list[str]:
    """The tables' topics and the heartbeat topics of their prefixes."""
    heartbeats = {HEARTBEAT_TOPIC + table.prefix for table in settings.tables}
    return [*(table.topic for table in settings.tables), *sorted(heartbeats)]


def build_pipeline(
    settings: Settings,
    engine: Engine,
    store: Store,
    generation: Generation,
    tables: Mapping[str, Table],
    report: Report,
    stopping: Event,
    *,
    group: str | None = None,
    force: bool = False,
) -> Pipeline:
    """The pipeline for the group, or for a job that keeps its progress under another name."""
    _keep_what_is_loaded()
    return Pipeline(
        Planner(tables.values(), generation.number, engine.tokenizer),
        engine,
        store,
        open_registry(settings),
        report,
        stopping,
        generation=generation,
        tables=tables,
        group=group or settings.group,
        max_events=settings.batch.max_events,
        max_seconds=settings.batch.max_seconds,
        force=force,
    )


def _keep_what_is_loaded() -> None:
    """Model and libraries live as long as the process: the garbage collector need not walk through them ever again.

    Else every batch of a thousand events brings a full walk nearer, of a third of a second. What is kept so to the end
    libraries report as leaks, thirty lines behind the last word of a command.
    """
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)
