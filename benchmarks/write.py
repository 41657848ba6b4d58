"""What the store takes in: pairs of one document and one chunk, through the door that the pipeline uses.

A pair is a text of about 500 characters and a vector of 384 numbers, without vector index, in batches of 1,000 of one
transaction each, with its offset. The baseline is a plain binary COPY of the same pairs into tables without keys, batch
by batch in turn with ours: what nothing that commits can exceed here. Then the index is built as after a first load.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector.psycopg import register_vector

from benchmarks.figures import Figure
from consumer.local import Endpoints
from consumer.store import Applied, VectorSpace, build_index
from tests.integration.store_bench import GROUP, Bench, advance, chunk, chunk_hash, key, plan, write

PAIRS, BATCH, DIMENSION = 100_000, 1_000, 384
WORDS = "a quiet morning in the harbour where the boats come home with the tide and the nets are full of silver fish "
SPACE = VectorSpace(b"\x02" * 32, {"model": "random", "revision": "1", "prompts": {"query": ""}}, "random", DIMENSION)


def measure(endpoints: Endpoints, folder: Path, pairs: int = PAIRS) -> Sequence[Figure]:
    """`write_pairs_per_s`, the same for texts that changed, and `index_build_rows_per_s`. Raises if a write fails."""
    del folder  # everything is in the database
    dsn = endpoints.admin_dsn
    bench, vectors = Bench(endpoints.store_dsn, endpoints.migrator_dsn, dsn, SPACE), _vectors()
    bench.acquire()
    batches = [range(start, start + BATCH) for start in range(0, pairs, BATCH)]
    with psycopg.connect(dsn, autocommit=True) as connection:
        plain = _copy_into(connection, vectors)
        new = _compared(batches, _apply_to(bench, vectors, "new"), plain)
        changed = _compared(batches[: len(batches) // 4], _apply_to(bench, vectors, "changed", before="new"), plain)
    begun = time.perf_counter()
    if (status := build_index(bench.dsn, bench.schema, bench.generation)).state != "ready":
        raise RuntimeError(f"the index is {status.state}")
    built = pairs / (time.perf_counter() - begun)
    copy = "plain binary COPY of the same pairs, same run"
    return [
        Figure("write_pairs_per_s", round(new[0]), "pairs/s", copy, round(new[1], 2)),
        Figure("write_changed_pairs_per_s", round(changed[0]), "pairs/s", copy, round(changed[1], 2)),
        Figure("index_build_rows_per_s", round(built), "rows/s", "write_pairs_per_s", round(built / new[0], 2)),
    ]


def _compared(
    batches: Sequence[range], mine: Callable[[range], float], baseline: Callable[[range], float]
) -> tuple[float, float]:
    """Pairs a second of the median batch, and the median of its ratios to the baseline's, by the seconds they say."""
    seconds = [(mine(batch), baseline(batch)) for batch in batches]
    return BATCH / statistics.median(own for own, _ in seconds), statistics.median(b / own for own, b in seconds)


def _apply_to(bench: Bench, vectors: NDArray[np.float32], text: str, before: str = "") -> Callable[[range], float]:
    """Look up what is stored and apply the plan, as the pipeline does; what it does before, is done before."""

    def store(batch: range) -> float:
        at = bench.store.offsets(GROUP)[0].next_offset
        texts = {number: chunk(f"{text} {number} {WORDS * 5}") for number in batch}
        known = {new.chunk_hash: vectors[number % len(vectors)] for number, new in texts.items()}
        keys = [key(number) for number in batch]
        begun = time.perf_counter()
        heads = bench.store.lookup(keys)
        spent = time.perf_counter() - begun
        writes = []
        for number, new in texts.items():
            gone = ((chunk_hash(f"{before} {number} {WORDS * 5}"), 0),) if before else ()
            writes.append(write(number, at, heads.get(key(number)), insert=(new,), delete=gone))
        made = plan(*writes, advance=advance(at, at + BATCH))
        begun = time.perf_counter()
        outcome = bench.store.apply(made, known)
        spent += time.perf_counter() - begun
        if not isinstance(outcome, Applied) or outcome.documents != BATCH:
            raise RuntimeError(f"not applied: {outcome}")
        return spent

    return store


def _copy_into(connection: psycopg.Connection[Any], vectors: NDArray[np.float32]) -> Callable[[range], float]:
    """The least that storing the same bytes can cost: two tables without any key, one COPY and one commit each."""
    connection.execute("CREATE TEMP TABLE plain_documents (key bytea, fields text)")
    connection.execute("CREATE TEMP TABLE plain_chunks (key bytea, content text, embedding vector)")
    register_vector(connection)

    def store(batch: range) -> float:
        rows = [(key(n).key_hash, WORDS * 5, vectors[n % len(vectors)]) for n in batch]
        begun = time.perf_counter()
        with connection.transaction(), connection.cursor() as cursor:
            with cursor.copy("COPY plain_documents FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(["bytea", "text"])
                for name, text, _ in rows:
                    copy.write_row((name, text))
            with cursor.copy("COPY plain_chunks FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(["bytea", "text", "vector"])
                for row in rows:
                    copy.write_row(row)
        return time.perf_counter() - begun

    return store


def _vectors() -> NDArray[np.float32]:
    """In clusters, as real ones are: an index over noise says little."""
    random = np.random.default_rng(7)
    centres = random.normal(size=(200, DIMENSION))
    vectors = centres[random.integers(0, 200, size=PAIRS)] + 0.5 * random.normal(size=(PAIRS, DIMENSION))
    made: NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return made
