"""Nearest chunks, exact and through the index, and the building of that index."""

from __future__ import annotations

import threading

import numpy as np
import psycopg
import pytest

from consumer.planning import NewChunk
from consumer.store import build_index
from tests.integration.store_bench import Bench, chunk, chunk_hash, delete, key, other_space, plan, write


def filled(server: str, rows: int = 300, **space: object) -> tuple[Bench, np.ndarray]:
    """A bench whose chunk i has row i of the array as vector; every third document is of the source `other`."""
    bench = Bench.on(server, other_space(**space))
    vectors = np.random.default_rng(7).normal(size=(rows, bench.generation.dimension)).astype(np.float32)
    writes = []
    for number in range(rows):
        source = "other" if number % 3 == 0 else "main"
        new: NewChunk = chunk(f"chunk {number}")
        writes.append(write(number, number, key=key(number, source), insert=(new,)))
    bench.store.apply(plan(*writes), {chunk_hash(f"chunk {number}"): vectors[number] for number in range(rows)})
    return bench, vectors


def expected(vectors: np.ndarray, query: np.ndarray, metric: str) -> np.ndarray:
    inner = vectors @ query
    distances = {
        "l2": np.linalg.norm(vectors - query, axis=1),
        "ip": -inner,
        "cosine": 1 - inner / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)),
    }
    return np.asarray(distances[metric])


@pytest.mark.parametrize("element", ["vector", "halfvec"])
@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_the_nearest_come_first_with_their_distance(server: str, metric: str, element: str) -> None:
    bench, vectors = filled(server, metric=metric, element=element, dimension=8)
    query = vectors[17] + np.float32(0.01)
    truth = expected(vectors, query, metric)
    nearest = np.argsort(truth)[:5]
    build_index(bench.dsn, bench.schema, bench.generation)
    hits = bench.store.search(bench.generation, query, 5)
    assert [hit.content for hit in hits] == [f"chunk {number}" for number in nearest]
    np.testing.assert_allclose([hit.distance for hit in hits], truth[nearest], atol=5e-3)
    assert (hits[0].source_key, hits[0].kafka_offset) == ({"id": int(nearest[0])}, nearest[0])
    bench.store.close()


def test_stored_halfvec_comes_back_as_float32(server: str) -> None:
    bench, vectors = filled(server, rows=3, element="halfvec")
    document = bench.store.lookup([key(1, "main")])[key(1, "main")].document_id
    found = bench.store.vectors(bench.generation, [(document, chunk_hash("chunk 1"))])[chunk_hash("chunk 1")]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, vectors[1].astype(np.float16).astype(np.float32))
    bench.store.close()


def test_a_filter_by_source_still_gives_k_rows_through_the_index(server: str) -> None:
    bench, vectors = filled(server, rows=600, dimension=8)
    build_index(bench.dsn, bench.schema, bench.generation)
    bench.store.close()
    bench.rows("ALTER DATABASE postgres SET enable_seqscan = off")  # so few rows would rather be scanned
    try:
        hits = bench.store.search(bench.generation, vectors[1], 150, source="other")
    finally:
        bench.rows("ALTER DATABASE postgres RESET enable_seqscan")
    truth = expected(vectors, vectors[1], "cosine")[::3]
    assert len(hits) == 150
    assert {hit.source for hit in hits} == {"other"}
    exact = {f"chunk {3 * number}" for number in np.argsort(truth)[:150]}
    assert len(exact & {hit.content for hit in hits}) >= 140
    bench.store.close()


def test_what_was_deleted_since_the_last_vacuum_takes_no_hits_place(server: str) -> None:
    """Until then the index keeps old vectors, here more of them near the question than it looks at first."""
    bench, vectors = filled(server, rows=600, dimension=8)
    build_index(bench.dsn, bench.schema, bench.generation)
    names = [f"old {number}" for number in range(200)]
    near = {chunk_hash(name): vectors[1] + np.float32(1e-4) * place for place, name in enumerate(names)}
    numbers = range(1000, 1200)
    writes = [write(n, n, insert=(chunk(name),)) for n, name in zip(numbers, names, strict=True)]
    bench.store.apply(plan(*writes), near)
    bench.applied(*(delete(n, n + 1000, bench.stored(n)) for n in numbers))
    bench.store.close()
    bench.rows("ALTER DATABASE postgres SET enable_seqscan = off")  # so few rows would rather be scanned
    try:
        hits = bench.store.search(bench.generation, vectors[1], 5)
    finally:
        bench.rows("ALTER DATABASE postgres RESET enable_seqscan")
    nearest = np.argsort(expected(vectors, vectors[1], "cosine"))[:5]
    assert [hit.content for hit in hits] == [f"chunk {number}" for number in nearest]
    bench.store.close()


def test_a_plain_query_on_the_view_uses_the_index(server: str) -> None:
    bench, _ = filled(server, rows=600, dimension=8)
    build_index(bench.dsn, bench.schema, bench.generation)
    query = "EXPLAIN SELECT content FROM chunks ORDER BY embedding <=> '[1,2,3,4,5,6,7,8]' LIMIT 5"
    with psycopg.connect(server) as connection:
        connection.execute(f"SET search_path TO {bench.schema}, public")
        connection.execute("SET enable_seqscan = off")
        lines = [line for (line,) in connection.execute(query)]
    assert any("Index Scan using chunks_1_hnsw" in line for line in lines)
    bench.store.close()


def test_the_index_is_built_once_and_an_invalid_leftover_is_replaced(server: str) -> None:
    bench, _ = filled(server)
    assert bench.store.index_status(bench.generation).state == "missing"
    assert build_index(bench.dsn, bench.schema, bench.generation).state == "ready"
    first = bench.rows("SELECT 'chunks_1_hnsw'::regclass::oid AS oid")
    assert build_index(bench.dsn, bench.schema, bench.generation).state == "ready"
    assert bench.rows("SELECT 'chunks_1_hnsw'::regclass::oid AS oid") == first
    bench.rows("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'chunks_1_hnsw'::regclass")
    assert bench.store.index_status(bench.generation).state == "invalid"
    assert build_index(bench.dsn, bench.schema, bench.generation).state == "ready"
    assert bench.rows("SELECT 'chunks_1_hnsw'::regclass::oid AS oid") != first
    definition = bench.rows(
        "SELECT indexdef FROM pg_indexes WHERE indexname = 'chunks_1_hnsw' AND schemaname = current_schema()"
    )
    assert "m='16', ef_construction='64'" in definition[0]["indexdef"]
    bench.store.close()


WATCH_MEMORY = """
CREATE TABLE seen AS SELECT 0::bigint AS bytes WHERE false;
CREATE FUNCTION see() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS
    $$ BEGIN INSERT INTO {0}.seen VALUES (pg_size_bytes(current_setting('maintenance_work_mem'))); END $$;
CREATE EVENT TRIGGER see ON ddl_command_start WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION {0}.see();
"""


@pytest.mark.parametrize(("given", "kept"), [("1MB", False), ("512MB", True)])
def test_the_index_is_built_in_as_much_memory_as_its_table_takes(server: str, given: str, kept: bool) -> None:
    """No less than the server gives, and no more than its cache: what does not fit is built several times slower."""
    bench, _ = filled(server, rows=2000, dimension=200)
    taken = bench.rows("SELECT pg_table_size('chunks_1') AS n, pg_size_bytes(%s) AS given", [given])[0]
    assert taken["n"] > 2**20
    bench.rows(WATCH_MEMORY.format(bench.schema))
    try:
        limited = psycopg.conninfo.make_conninfo(bench.dsn, options=f"-c maintenance_work_mem={given}")
        assert build_index(limited, bench.schema, bench.generation).state == "ready"
    finally:
        bench.rows("DROP EVENT TRIGGER see")
    wanted = taken["given"] if kept else taken["n"] // 1024 * 1024
    assert [row["bytes"] for row in bench.rows("SELECT bytes FROM seen")] == [wanted]
    bench.store.close()


def test_a_build_under_way_is_seen_by_others_and_not_begun_twice(server: str) -> None:
    """A transaction that has written keeps CREATE INDEX CONCURRENTLY waiting: the build stands still to be seen."""
    bench, _ = filled(server)
    with psycopg.connect(server) as writer:
        writer.execute(f"DELETE FROM {bench.schema}.chunks_1")
        builder = threading.Thread(target=build_index, args=(bench.dsn, bench.schema, bench.generation))
        builder.start()
        bench.until("SELECT pid FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting%'")
        seen = bench.store.index_status(bench.generation)
        assert seen.state == "building"
        assert (seen.phase or "").startswith("waiting")
        assert build_index(bench.dsn, bench.schema, bench.generation).state == "building"
        writer.rollback()
        builder.join(20)
    assert bench.store.index_status(bench.generation).state == "ready"
    bench.store.close()
