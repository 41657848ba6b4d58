"""The consumer: start in the right order, run until told to stop, leave in order.

The model is loaded and warm before the group is joined, so that a partition never waits for a start.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from threading import Event

from consumer import __version__
from consumer.embedding import Engine
from consumer.errors import Abandoned, Retry, patiently
from consumer.observe import Metrics, get_logger, serve
from consumer.operations.chores import INDEX_AGAIN_SECONDS, Chores
from consumer.operations.failed import RetryWorker
from consumer.operations.first_load import FirstLoad
from consumer.operations.refusals import refuse_no_tables
from consumer.operations.slots import SlotWatch
from consumer.operations.telemetry import Telemetry
from consumer.operations.wiring import (
    build_pipeline,
    build_tables,
    check_registry,
    load_model,
    migrator_dsn,
    open_broker,
    open_store,
    topics,
    vector_space,
)
from consumer.pipeline import run
from consumer.planning import Partition, Table
from consumer.settings import Settings
from consumer.source import Broker, Claim, Holdings, KafkaSource, is_foreign
from consumer.store import Acquired, Generation, Store, Tender, Wanted, build_index

ASSIGNMENT_SECONDS = 5.0  # the database must answer within this inside a rebalance
POSITIONS_EVERY_SECONDS = 1.0
TEND_EVERY_SECONDS = 5.0

_log = get_logger("consumer")


def prepare(settings: Settings, *, wait: bool = True) -> Engine:
    """The model, warm. What can be refused without it is refused before the seconds that it takes.

    Raises Stop where going on would be wrong, and Retry for a missing dependency with `wait` false.
    """
    refuse_no_tables(settings)
    if not wait:
        open_broker(settings).check()
        check_registry(settings)
    try:
        with open_store(settings, answer_within=ASSIGNMENT_SECONDS) as store:
            store.check(settings.group)
    except Retry:  # asked again, and waited for, when the model is there
        if not wait:
            raise
    _log.info("loading the model", model=settings.embedding.model)
    engine = load_model(settings)
    engine.warm_up()
    return engine


def run_consumer(settings: Settings, engine: Engine, stopping: Event, *, wait: bool = True) -> None:
    """Run until `stopping` is set; a batch under way is finished. With `wait` false a missing dependency raises Retry.

    Raises Stop where going on would be wrong; the message names what resolves it.
    """
    metrics = Metrics(settings.slo.threshold_seconds, settings.slo.objective)
    metrics.declare([table.source for table in settings.tables])
    broker = open_broker(settings)
    tables = build_tables(settings, engine)
    prefixes = {table.topic: table.prefix for table in settings.tables}
    telemetry = Telemetry(metrics, tables, prefixes=prefixes)
    telemetry.health.set_ready("model", True, f"{engine.identity.model} on {engine.device}")
    _build_info(metrics, engine)
    with serve(settings.http.listen, metrics, telemetry.health) as http, open_store(settings) as store:
        if http.moved:
            _log.warning("the port is taken, the next free one is used", wanted=settings.http.listen, url=http.url)
        _log.info("ready to join", http=http.url, model=engine.identity.model, device=engine.device)
        ready = partial(_ready, settings, broker, store, engine)
        try:
            generation = patiently(ready, stopping.wait, telemetry.retrying) if wait else ready()
        except Abandoned:
            return
        telemetry.health.set_ready("store", True, "reachable")
        _consume(settings, broker, store, generation, engine, tables, telemetry, http.check, stopping)


def _ready(settings: Settings, broker: Broker, store: Store, engine: Engine) -> Generation:
    broker.check()
    return store.live_generation(vector_space(settings, engine))


def _consume(
    settings: Settings,
    broker: Broker,
    store: Store,
    generation: Generation,
    engine: Engine,
    tables: Mapping[str, Table],
    telemetry: Telemetry,
    check_http: Callable[[], None],
    stopping: Event,
) -> None:
    pipeline = build_pipeline(settings, engine, store, generation, tables, telemetry, stopping)

    in_segments = generation.segment_rows is not None
    retrying = RetryWorker(store, broker, pipeline, group=settings.group, tables=tables, generation=generation)
    chores = Chores(
        store,
        pipeline,
        telemetry,
        list(tables.values()),
        generation,
        retrying.retry_due,
        _tending(settings, generation) if in_segments else _building(settings, broker, generation),
        measure_slots=_slots(settings, telemetry.metrics),
        index_while_loading=in_segments,
        index_again_seconds=TEND_EVERY_SECONDS if in_segments else INDEX_AGAIN_SECONDS,
    )
    with open_store(settings, answer_within=ASSIGNMENT_SECONDS) as claims_store:
        source = KafkaSource(
            broker,
            settings.group,
            topics(settings),
            Holdings(settings.batch.max_events, int(settings.batch.max_bytes)),
            partial(_acquire, claims_store, settings.group),
            telemetry.notice,
        )
        telemetry.metrics.topic_partitions.computed_by(partial(_topics, settings, source))
        try:
            run(source, pipeline.process, chores.next, _Ticking(telemetry, source, chores, check_http), stopping)
        finally:
            source.close()
    _log.info("left the group; what is not stored is read again")


def _topics(settings: Settings, source: KafkaSource) -> dict[tuple[str, ...], float]:
    told = source.identity.partitions
    return {(t.source, t.topic, t.prefix): told[t.topic] for t in settings.tables if t.topic in told}


def _building(settings: Settings, broker: Broker, generation: Generation) -> Callable[[], bool]:
    """Builds the one vector index, once other processes have loaded their partitions too; whether it is there."""
    dsn, schema, load = migrator_dsn(settings), settings.store.schema_name, FirstLoad(settings, broker)

    def build() -> bool:
        if behind := load.behind():
            _log.info("the vector index waits for partitions of other processes", partitions=len(behind))
            return False
        return build_index(dsn, schema, generation).state == "ready"

    return build


def _tending(settings: Settings, generation: Generation) -> Callable[[], bool]:
    """Does what the table's segments need now; it is never done."""
    tender = Tender(migrator_dsn(settings), settings.store.schema_name, generation)

    def tend() -> bool:
        tender.tend(_log.info)
        return False

    return tend


def _slots(settings: Settings, metrics: Metrics) -> SlotWatch | None:
    dsn = settings.source.dsn.get_secret_value() if settings.source.dsn else ""
    return SlotWatch(dsn, metrics) if dsn and not is_foreign(dsn) else None


def _acquire(store: Store, group: str, claims: Sequence[Claim]) -> dict[Partition, Acquired]:
    acquired = store.acquire(group, [Wanted(*claim) for claim in claims])
    return {(place.topic, place.partition): position for place, position in acquired.items()}


class _Ticking:
    """The main thread's part of the report: liveness every round, positions and the other threads about once a second.

    A thread that died ends the process: the worker's fault comes out of its future, those of the others out of here.
    """

    def __init__(
        self, telemetry: Telemetry, source: KafkaSource, chores: Chores, check_http: Callable[[], None]
    ) -> None:
        self._telemetry, self._source, self._chores, self._check_http = telemetry, source, chores, check_http
        self._due = 0.0

    def __call__(self) -> None:
        self._telemetry.tick()
        if (now := time.monotonic()) < self._due:
            return
        self._due = now + POSITIONS_EVERY_SECONDS
        self._source.watermarks()
        self._telemetry.positions(self._source.holdings.held, self._source.waiting)
        self._telemetry.broker(self._source.identity.answers)
        self._chores.index_when_loaded()
        self._check_http()


def _build_info(metrics: Metrics, engine: Engine) -> None:
    labels = (__version__, engine.identity.model, engine.identity.config_hash.hex()[:12], engine.device)
    metrics.build_info.set_all({labels: 1})
