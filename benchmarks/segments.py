"""Past what one HNSW index takes in: a chunk table in segments beside a plain one with one index, in one run.

A row is a text of 200 characters and a vector of 384 numbers. 50,000 rows come at once, then 2,500 a second until
there are 210,000, while segments are sealed, indexed and merged; meanwhile another process asks both tables in turn
for the ten nearest, by one plain SELECT on the view. A minute after the last row they are asked again.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg.conninfo import make_conninfo

from benchmarks.figures import Figure, quantile
from benchmarks.write import SPACE, WORDS
from consumer.local import Endpoints
from consumer.store import Applied, Tender, build_index
from tests.integration.store_bench import GROUP, Bench, advance, chunk, plan, write

ROWS, BURST, PACE, BATCH, SEALED_AT = 210_000, 50_000, 2_500, 1_000, 20_000
MORE = 2_000  # rows into the table that has its index: what a peer does
ENOUGH = "-c maintenance_work_mem=1GB"
QUERIES, NEAREST, LOOK_SECONDS, AFTER_SECONDS = 200, 10, 5.0, 60.0
MS_PER_THOUSAND = 0.6  # that rows without index may cost a query

_ASK = "SELECT content FROM chunks ORDER BY embedding <=> %s::vector LIMIT 10"
_INDEXED = "SELECT coalesce(sum(rows), 0) FROM segments WHERE merges IS NULL"
_PARTS = "SELECT count(*) FROM segments WHERE merges IS NULL AND rows IS NOT NULL"


class Asked(NamedTuple):
    """One query, put to both tables: milliseconds, and rows without an index."""

    segments: float
    plain: float
    waiting: int


def measure(endpoints: Endpoints, folder: Path, rows: int = ROWS) -> Sequence[Figure]:
    """Rates of writing, recall and the p95 of queries, each against the plain table. Raises if a write fails."""
    del folder  # everything is in the database
    # A graph that does not fit this memory is built several times slower, whatever the layout.
    admin = endpoints.admin_dsn
    dsn, migrator = (make_conninfo(given, options=ENOUGH) for given in (endpoints.store_dsn, endpoints.migrator_dsn))
    vectors, queries = _vectors(rows + MORE), _vectors(QUERIES, seed=11)
    plain, parts = (Bench(dsn, migrator, admin, replace(SPACE, segment_rows=size)) for size in (None, SEALED_AT))
    for bench in (plain, parts):
        bench.acquire()
    bare = _load(plain, vectors, 0, rows)
    if (status := build_index(dsn, plain.schema, plain.generation)).state != "ready":
        raise RuntimeError(f"the index is {status.state}")
    with _tended(parts):
        burst = _load(parts, vectors, 0, BURST)
        with _asking(admin, parts.schema, plain.schema, queries) as asked:
            sustained = _load(parts, vectors, BURST, rows, PACE)
            during = asked()
        time.sleep(AFTER_SECONDS)
    with psycopg.connect(admin, autocommit=True) as connection:
        after = [_ask(connection, parts.schema, plain.schema, query) for query in queries]
        recalls = [_recall(connection, schema, queries, vectors[:rows]) for schema in (parts.schema, plain.schema)]
        connection.execute(f"SET search_path TO {parts.schema}")
        left = connection.execute(_PARTS).fetchone() or (0,)
    into_index = _load(plain, vectors, rows, rows + MORE)
    return [
        *_rates(bare, burst, sustained, into_index),
        Figure("segments_recall10", recalls[0], "share", "one HNSW", round(recalls[0] / recalls[1], 3)),
        *_queries(during, after),
        Figure("segments_left_after_60s", left[0], "segments with an index"),
    ]


def _rates(bare: float, burst: float, sustained: float, into_index: float) -> list[Figure]:
    without, one = "rows into a plain table without index, same run", "rows into one HNSW, same run"
    return [
        Figure("segments_burst_rows_per_s", round(burst), "rows/s", without, round(burst / bare, 2)),
        Figure("segments_sustained_rows_per_s", round(sustained), "rows/s", one, round(sustained / into_index, 2)),
        Figure("one_hnsw_rows_per_s", round(into_index), "rows/s"),
    ]


def _queries(during: Sequence[Asked], after: Sequence[Asked]) -> list[Figure]:
    """Of those under load, what the rows without index may cost is taken off before the ratio."""
    indexed = quantile([max(0.0, one.segments - MS_PER_THOUSAND * one.waiting / 1000) for one in during], 0.95)
    figures = [Figure("segments_waiting_rows_max", max(one.waiting for one in during), "rows without index")]
    baselines = {"during": during, "after": after}
    for when, found in baselines.items():
        mine, theirs = (quantile([one[place] for one in found], 0.95) for place in (0, 1))
        figures.append(
            Figure(f"segments_query_p95_{when}", round(mine, 2), "ms", f"one HNSW {when}", round(mine / theirs, 2))
        )
        if when == "during":
            what = "segments_query_p95_during_less_waiting_rows"
            figures.append(Figure(what, round(indexed, 2), "ms", "one HNSW during", round(indexed / theirs, 2)))
    return figures


def _load(bench: Bench, vectors: NDArray[np.float32], first: int, last: int, pace: float = 0.0) -> float:
    """Apply new documents in batches as the pipeline does, no faster than `pace` a second; rows a second reached."""
    begun, packing = time.perf_counter(), 0.0
    for start in range(first, last, BATCH):
        at = time.perf_counter()
        numbers = range(start, start + BATCH)
        texts = {number: chunk(f"{number} {WORDS * 2}"[:200]) for number in numbers}
        known = {new.chunk_hash: vectors[number] for number, new in texts.items()}
        offset = bench.store.offsets(GROUP)[0].next_offset
        writes = [write(number, offset, insert=(new,)) for number, new in texts.items()]
        packing += time.perf_counter() - at
        outcome = bench.store.apply(plan(*writes, advance=advance(offset, offset + BATCH)), known)
        if not isinstance(outcome, Applied) or outcome.chunks_inserted != BATCH:
            raise RuntimeError(f"not applied: {outcome}")
        if pace and (ahead := begun + (start + BATCH - first) / pace - time.perf_counter()) > 0:
            time.sleep(ahead)
    spent = time.perf_counter() - begun
    return (last - first) / (spent if pace else spent - packing)


@contextmanager
def _tended(bench: Bench) -> Iterator[None]:
    """A tender that looks every few seconds, as that of a consumer does."""
    done, tender = threading.Event(), Tender(bench.dsn, bench.schema, bench.generation)

    def tend() -> None:
        while not done.wait(LOOK_SECONDS):
            tender.tend(print)

    thread = threading.Thread(target=tend)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def _asking(dsn: str, parts: str, plain: str, queries: NDArray[np.float32]) -> Iterator[Any]:
    """A process that asks on and on; what is yielded ends it, and gives what it has seen."""
    context = multiprocessing.get_context("spawn")
    mine, its = context.Pipe()
    process = context.Process(target=_ask_on, args=(its, dsn, parts, plain, queries), daemon=True)
    process.start()

    def asked() -> list[Asked]:
        mine.send(None)
        found: list[Asked] = mine.recv()
        process.join()
        return found

    yield asked


def _ask_on(end: Connection, dsn: str, parts: str, plain: str, queries: NDArray[np.float32]) -> None:
    found: list[Asked] = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        while not end.poll(0.05):
            found.append(_ask(connection, parts, plain, queries[len(found) % len(queries)]))
    end.send(found)


def _ask(connection: psycopg.Connection[Any], parts: str, plain: str, query: NDArray[np.float32]) -> Asked:
    text, spent = _text(query), []
    for schema in (plain, parts):
        connection.execute(f"SET search_path TO {schema}, public")
        begun = time.perf_counter()
        connection.execute(_ASK, [text]).fetchall()
        spent.append((time.perf_counter() - begun) * 1000)
    (indexed,) = connection.execute(_INDEXED).fetchone() or (0,)
    (highest,) = connection.execute("SELECT coalesce(max(next_offset), 0) FROM offsets").fetchone() or (0,)
    return Asked(spent[1], spent[0], max(0, int(highest) - int(indexed)))


def _recall(
    connection: psycopg.Connection[Any], schema: str, queries: NDArray[np.float32], vectors: NDArray[np.float32]
) -> float:
    """The share of the nearest ten that the view gives, over all queries."""
    connection.execute(f"SET search_path TO {schema}, public")
    hits = 0
    for query in queries:
        exact = {str(number) for number in np.argpartition(-(vectors @ query), NEAREST)[:NEAREST]}
        found = {content.split(" ", 1)[0] for (content,) in connection.execute(_ASK, [_text(query)])}
        hits += len(exact & found)
    return round(hits / (NEAREST * len(queries)), 4)


def _text(vector: NDArray[np.float32]) -> str:
    return "[" + ",".join(map(str, vector)) + "]"


def _vectors(rows: int, seed: int = 7) -> NDArray[np.float32]:
    """In clusters, as real ones are; the clusters are the same for every seed."""
    dimension = SPACE.dimension
    centres = np.random.default_rng(7).normal(size=(200, dimension)).astype(np.float32)
    random = np.random.default_rng(seed)
    vectors = centres[random.integers(0, 200, size=rows)]
    vectors += 0.5 * random.standard_normal(size=(rows, dimension), dtype=np.float32)
    made: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return made
