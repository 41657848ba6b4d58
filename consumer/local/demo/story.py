"""The demo from the first download to the last check, in the order in which it is seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg

from consumer.content import ChunkSpec, chunk_batch
from consumer.embedding import Engine, EngineConfig, load_engine
from consumer.errors import Exit, Stop
from consumer.local.demo import searches
from consumer.local.demo.changes import Changes
from consumer.local.demo.eyes import Eyes, StoredChunk
from consumer.local.demo.figures import Checks, Report, Snapshot
from consumer.local.demo.home import CHUNK, METADATA, MODEL, SCHEMA, Home
from consumer.local.demo.screen import Screen
from consumer.local.demo.shop import Row, Shop
from consumer.local.demo.texts import Text, collect
from consumer.local.endpoints import Endpoints
from consumer.local.sql_script import write_sql_script
from consumer.store import Store

_SNAPSHOT_WITHIN = 900.0
_LOOK_EVERY = 0.1


@dataclass
class Demo:
    """One run. `migrate` is what `embed-consumer migrate` calls, given the settings file."""

    home: Home
    rows: int
    screen: Screen
    migrate: Callable[[Path], object]

    def __post_init__(self) -> None:
        self.report = Report(Checks(self.home.consumer_log))

    def run(self) -> Report:
        """Tells the whole story. Raises Stop or Retry at the first thing that does not hold or work."""
        try:
            return self._tell()
        except psycopg.Error as error:
            state = f"SQLSTATE {error.sqlstate}" if error.sqlstate else type(error).__name__
            log = self.home.stack.layout.log("postgres")
            raise Stop(f"Postgres failed the demo ({state}).", f"Its log: {log}.", exit_code=Exit.FAILED) from None

    def _tell(self) -> Report:
        began = time.monotonic()

        def phase(name: str) -> None:
            self.report.seconds, before = time.monotonic() - began, self.report.seconds
            self.report.phases[name] = self.report.seconds - before

        with ExitStack() as open_until_end:
            endpoints, engine, shop = self._set_up(open_until_end)
            phase("set up")
            eyes = open_until_end.enter_context(Eyes(endpoints.reader_dsn, self.home))
            asker = searches.Asker(engine, open_until_end.enter_context(Store(endpoints.reader_dsn, SCHEMA)))
            self._snapshot(shop, eyes, engine)
            phase("snapshot")
            story = searches.choose(shop.rows(), asker)
            self._change(shop, eyes, story)
            phase("changes")
            self.report.searches = searches.tell(story, asker, self.report.checks)
            self.screen.searches(self.report.searches)
            self._compare(shop, eyes, engine, "at the end")
            self._nothing_failed(eyes)
            phase("searches")
        return self.report

    def _set_up(self, open_until_end: ExitStack) -> tuple[Endpoints, Engine, Shop]:
        screen, home = self.screen, self.home
        screen.stage("The stack", "Postgres, Kafka and Debezium as local processes")
        with ThreadPoolExecutor(1) as beside:  # while the services start, which is mostly waiting
            texts, engine = beside.submit(collect, self.rows, searches.NAMES), beside.submit(_load)
            with screen.stack() as watcher:
                endpoints = home.stack.up(watcher)
            home.write_settings(endpoints)
            write_sql_script(home.sql, endpoints)
            shop = open_until_end.enter_context(Shop(endpoints.source_owner_dsn))
            self._fill(shop, texts)
            with screen.waiting("loading the model and migrating the store"):
                model = engine.result()
                self.migrate(home.settings)
        screen.line("store", f"schema migrated for {model.identity.model}, {model.dimension} dimensions")
        with screen.waiting("starting the consumer and the connector"):
            home.start_consumer()
            home.stack.register_connector()
            home.wait_for_consumer()
        screen.line("consumer", f"group demo, pid {home.consumer_pid}, model on {model.device}")
        return endpoints, model, shop

    def _fill(self, shop: Shop, texts: Future[list[Text]]) -> None:
        with self.screen.waiting("reading the docstrings of the standard library"):
            found = texts.result()
        shop.fill(found)
        modules = len({text.module for text in found})
        self.screen.line("source", f"table docs: {len(found):,} docstrings and manual topics of {modules} modules")

    def _snapshot(self, shop: Shop, eyes: Eyes, engine: Engine) -> None:
        self.screen.stage("The snapshot", "every row read, cut into chunks, embedded, stored")
        rows, began = len(shop.rows()), time.perf_counter()
        with self.screen.progress(rows) as shown:

            def all_stored() -> bool:
                shown(done := eyes.embedded())
                return done >= rows

            what = f"all {rows} rows are searchable"
            ended = eyes.until(all_stored, what, seconds=_SNAPSHOT_WITHIN, every=_LOOK_EVERY)
        self.report.snapshot = Snapshot(rows, len(eyes.chunks()), ended - began)
        self.screen.snapshot(self.report.snapshot)
        self._compare(shop, eyes, engine, "first load")
        chunks = self.report.snapshot.chunks

        def counted() -> bool:  # which the consumer does after its commit
            now = eyes.counts()
            return now.embedded + now.reused >= chunks

        eyes.until(counted, f"the consumer has counted {chunks} chunks")
        counts = eyes.counts()
        self.report.checks.require(
            "first load: each chunk was embedded once",
            counts.embedded + counts.reused == chunks,
            f"{counts.embedded} embedded, {counts.reused} reused, {chunks} chunks",
        )
        with self.screen.waiting("building the vector index"):
            eyes.until(eyes.indexed, "the vector index is built")

    def _change(self, shop: Shop, eyes: Eyes, story: searches.Story) -> None:
        self.screen.stage("Live changes", "committed on the source, looked for in the store")
        with self.screen.live(self.report.groups) as watch:
            Changes(shop, eyes, self.report, story.cast, watch).run()

    def _compare(self, shop: Shop, eyes: Eyes, engine: Engine, when: str) -> None:
        """Chunk by chunk: what the source says now, cut here, and what the store has."""
        wanted, stored = _expected(shop.rows(), engine), eyes.chunks()
        alike = sum(one == other for one, other in zip(wanted, stored, strict=False))
        self.report.checks.require(
            f"{when}: the store equals the source, chunk by chunk",
            wanted == stored,
            f"{len(wanted):,} expected, {len(stored):,} stored, {alike:,} equal in text, key and metadata",
        )

    def _nothing_failed(self, eyes: Eyes) -> None:
        without = eyes.without_provenance()
        self.report.checks.require("every chunk names the event it came from", without == 0, f"{without} do not")
        failed, alive = eyes.failed(), self.home.page("healthz") is not None
        self.report.checks.require(
            "nothing failed and the consumer is healthy",
            failed == 0 and alive,
            f"{failed} failed documents, consumer {'healthy' if alive else 'not healthy'}",
        )


def _load() -> Engine:
    return load_engine(EngineConfig(MODEL))


def _expected(rows: Sequence[Row], engine: Engine) -> list[StoredChunk]:
    texts = [f"{row.name}\n\n{row.text}" for row in rows]
    pieces = chunk_batch(texts, ChunkSpec(CHUNK["max_tokens"], CHUNK["overlap"]), engine.tokenizer)
    return [
        StoredChunk(row.id, piece.no, piece.text, {column: getattr(row, column) for column in METADATA})
        for row, found in zip(rows, pieces, strict=True)
        for piece in found
    ]
