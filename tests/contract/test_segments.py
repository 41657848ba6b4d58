"""A chunk table in segments, on the real Postgres: the same rows whatever is sealed, indexed or merged meanwhile."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from math import inf
from pathlib import Path

import numpy as np
import psycopg
import pytest

from consumer.store import Applied, Conflict, Store, Tender
from consumer.store.truncates import lock_key
from tests.integration.postgres import throwaway_postgres
from tests.integration.store_bench import (
    VECTORS,
    Bench,
    chunk,
    chunk_hash,
    delete,
    kept,
    key,
    other_space,
    plan,
    write,
)


class Segmented(Bench):
    """A bench on a table in segments, and its tender."""

    def add(self, *numbers: int) -> None:
        """A document of two chunks for each number."""
        self.applied(*(write(n, n, insert=(chunk(f"{n} a"), chunk(f"{n} b", 1))) for n in numbers))

    def tend(self, quiet_seconds: float = inf) -> list[str]:
        """What a new tender does."""
        done: list[str] = []
        Tender(self.dsn, self.schema, self.generation, quiet_seconds=quiet_seconds).tend(done.append)
        return done

    def contents(self) -> list[str]:
        return sorted(row["content"] for row in self.rows("SELECT content FROM chunks"))

    def where(self) -> dict[str, int]:
        """The segment of each chunk."""
        return {row["content"]: row["segment"] for row in self.rows("SELECT content, segment FROM chunks_1")}

    def segments(self) -> list[int]:
        """Those that are searched, the hot one too."""
        leaves = "SELECT relid::text AS name FROM pg_partition_tree('chunks_1') WHERE isleaf"
        return sorted(int(row["name"].removeprefix("chunks_1_s")) for row in self.rows(leaves))

    def finish(self) -> None:
        """Tend until nothing is left to do; a process that was killed may hold its lock for a moment."""
        self.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory')")
        while self.tend(quiet_seconds=0):
            pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with throwaway_postgres() as dsn:
        yield dsn


@pytest.fixture
def bench(server: str) -> Iterator[Segmented]:
    made = segmented(server)
    yield made
    made.store.close()


def segmented(server: str, rows: int = 2, dimension: int = 4) -> Segmented:
    """Sealed at so many rows."""
    return Segmented.on(server, other_space(segment_rows=rows, dimension=dimension))


def pairs(*numbers: int) -> list[str]:
    return sorted(f"{n} {letter}" for n in numbers for letter in "ab")


# --- sealing


def test_new_rows_are_in_the_hot_segment_until_it_is_full(bench: Segmented) -> None:
    assert bench.tend() == []
    bench.add(1)
    assert set(bench.where().values()) == {1}
    assert bench.tend() == ["sealed segment 1", "built the vector index of segment 1"]
    assert bench.store.index_status(bench.generation).segments == 1
    bench.add(2)
    assert bench.where() == {"1 a": 1, "1 b": 1, "2 a": 2, "2 b": 2}
    assert bench.contents() == pairs(1, 2)


def test_few_rows_are_sealed_when_no_more_come(server: str) -> None:
    bench = segmented(server, rows=1100)
    bench.applied(*(write(n, n, insert=(chunk(f"text {n}"),)) for n in range(999)))
    assert bench.tend(quiet_seconds=0) == [], "so few are read as quickly as an index"
    bench.applied(write(999, 999, insert=(chunk("text 999"),)))
    assert bench.tend() == []
    assert bench.tend(quiet_seconds=0) == ["sealed segment 1", "built the vector index of segment 1"]
    bench.store.close()


def test_one_process_tends_at_a_time(bench: Segmented, server: str) -> None:
    bench.add(1)
    with psycopg.connect(server) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [lock_key(bench.schema, "index of 1")])
        assert bench.tend() == []
    bench.until("SELECT 1 WHERE NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory')")
    assert bench.tend()[0] == "sealed segment 1"


def test_a_table_that_nobody_tends_is_told(bench: Segmented) -> None:
    for number in range(6):
        bench.add(number)
    bench.rows("ANALYZE chunks_1_s1")
    assert bench.store.index_status(bench.generation).state == "missing"
    bench.finish()
    assert bench.store.index_status(bench.generation).state == "ready"


# --- writing


def test_a_document_is_edited_and_deleted_in_whatever_segments_its_chunks_lie(bench: Segmented) -> None:
    bench.add(1, 2)
    bench.tend()
    bench.applied(
        write(1, 10, bench.stored(1), insert=(chunk("1 c", 2),), update=(kept("1 b", 0),), delete=(one("1 a"),))
    )
    bench.tend()
    assert bench.where() == {"1 b": 1, "1 c": 2, "2 a": 1, "2 b": 1}
    rows = [(row["content"], row["chunk_no"], row["kafka_offset"]) for row in bench.chunks(1)]
    assert rows == [("1 b", 0, 10), ("1 c", 2, 10)]
    outcome = bench.applied(delete(1, 20, bench.stored(1)), delete(2, 21, bench.stored(2)))
    assert outcome.chunks_deleted == 4
    assert bench.contents() == []


def one(text: str) -> tuple[bytes, int]:
    return chunk_hash(text), 0


def test_a_write_on_another_version_changes_no_segment(bench: Segmented) -> None:
    bench.add(1)
    before = bench.stored(1)
    bench.tend()
    bench.applied(write(1, 10, before, insert=(chunk("1 c", 2),)))
    outcome = bench.apply(write(1, 11, before, insert=(chunk("1 d", 3),), delete=(one("1 a"),)))
    assert outcome == Conflict(frozenset({key(1)}))
    assert bench.contents() == ["1 a", "1 b", "1 c"]


def test_a_transaction_that_began_before_a_segment_was_merged_away_loses_nothing(bench: Segmented, server: str) -> None:
    """It has read that segment 1 is hot, and writes to it when that one is sealed, indexed and copied."""
    bench.add(1)
    late = """
        INSERT INTO chunks_1 SELECT (jsonb_populate_record(c, '{"chunk_hash": "\\\\x99", "content": "late"}')).*
        FROM chunks_1 AS c WHERE content = '1 a'
    """
    with psycopg.connect(server) as writer:
        writer.execute("SELECT pg_advisory_xact_lock_shared(%s)", [lock_key(bench.schema, "generations")])
        writer.execute(f"SET search_path TO {bench.schema}, public")  # from here on it holds no snapshot
        bench.tend()
        bench.add(2)
        merging = threading.Thread(target=lambda: bench.tend(quiet_seconds=0))
        merging.start()
        bench.until("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND NOT granted")
        writer.execute(late)
    merging.join(60)
    bench.finish()
    assert bench.contents() == [*pairs(1, 2), "late"]
    assert 1 not in bench.segments()


# --- merging


def test_small_segments_become_one_with_every_column_as_it_was(bench: Segmented) -> None:
    everything = "SELECT to_jsonb(c) - 'segment' AS row FROM chunks_1 AS c ORDER BY content"
    bench.add(1)
    bench.tend()
    bench.add(2)
    before = bench.rows(everything)
    done = bench.tend(quiet_seconds=0)
    assert done[-1] == "merged segments 1, 2 into 4"
    assert bench.segments() == [3, 4]
    assert bench.rows(everything) == before
    assert bench.store.index_status(bench.generation).segments == 1


def test_what_is_written_while_segments_are_merged_is_in_what_they_become(server: str) -> None:
    """Writers go on until enough has been merged beneath them; then every document is as its last write left it."""
    wanted: dict[int, set[str]] = {}
    enough, failures, merged = threading.Event(), list[BaseException](), list[str]()
    bench = segmented(server, rows=20)

    def edit(first: int) -> None:
        dice = np.random.default_rng(first)
        try:
            with Store(bench.dsn, bench.schema) as store:
                for turn in itertools.takewhile(lambda _: not enough.is_set(), itertools.count()):
                    apply(store, wanted, first + 2 * int(dice.integers(0, 30)), turn)
        except BaseException as failure:
            failures.append(failure)

    def told(done: str) -> None:
        merged.extend([done] * done.startswith("merged"))
        if len(merged) >= 8:
            enough.set()

    writers = [threading.Thread(target=edit, args=(first,)) for first in (0, 1)]
    for writer in writers:
        writer.start()
    tender = Tender(bench.dsn, bench.schema, bench.generation)
    while not enough.is_set() and not failures:
        tender.tend(told)
    enough.set()
    for writer in writers:
        writer.join(60)
    assert failures == []
    bench.finish()
    assert bench.contents() == sorted(text for texts in wanted.values() for text in texts)
    bench.store.close()


def apply(store: Store, wanted: dict[int, set[str]], number: int, turn: int) -> None:
    """Give a document a new text, take one away or keep it and number it anew, or delete it whole."""
    stored = store.lookup([key(number)]).get(key(number))
    texts = wanted.get(number, set())
    if turn % 7 == 6 and stored is not None:
        made, now = delete(number, turn, stored), set[str]()
    else:
        gone = {min(texts)} if len(texts) > 2 else set()
        new = f"{number} in turn {turn}"
        made = write(
            number, turn, stored, insert=(chunk(new),), delete=tuple(map(one, gone)),
            update=tuple(kept(text, turn) for text in sorted(texts - gone)),
        )  # fmt: skip
        now = texts - gone | {new}
    outcome = store.apply(plan(made), VECTORS)
    assert isinstance(outcome, Applied), outcome
    assert outcome.chunks_updated == len(made.update)
    assert outcome.chunks_deleted == (len(texts) if made.delete_all else len(made.delete))
    wanted[number] = now


def test_a_document_that_is_read_while_segments_are_merged_is_whole(bench: Segmented, server: str) -> None:
    """The reader has its snapshot, and waits for the documents: by then its chunks must not have moved."""
    for number in (1, 2):
        bench.add(number)
        bench.tend()
    document, seen = bench.stored(1).document_id, list[int]()
    with psycopg.connect(server) as other:
        other.execute(f"LOCK TABLE {bench.schema}.documents IN ACCESS EXCLUSIVE MODE")
        reader = threading.Thread(
            target=lambda: seen.append(len(bench.store.details(bench.generation, [document])[document].chunks))
        )
        reader.start()
        bench.until(f"SELECT 1 FROM pg_locks WHERE relation = '{bench.schema}.documents'::regclass AND NOT granted")
        bench.tend(quiet_seconds=0)
    reader.join(60)
    assert seen == [2]
    bench.finish()
    assert bench.contents() == pairs(1, 2)


def test_a_reader_who_takes_long_defers_a_merge_and_is_not_disturbed(bench: Segmented, server: str) -> None:
    bench.add(1)
    bench.tend()
    bench.add(2)
    with psycopg.connect(server) as reader:
        assert reader.execute(f"SELECT count(*) FROM {bench.schema}.chunks").fetchone() == (4,)
        assert not any(done.startswith("merged") for done in bench.tend(quiet_seconds=0))
        assert bench.segments() == [1, 2, 3]
        bench.add(3)
        bench.applied(delete(1, 30, bench.stored(1)))
    assert "merged segments 1, 2 into 4" in bench.tend(), "the copy is used, brought up to date"
    assert bench.contents() == pairs(2, 3)


def test_what_has_lost_most_of_its_rows_is_made_anew_and_what_is_empty_goes(bench: Segmented) -> None:
    bench.add(1, 2, 3)
    bench.tend()
    assert bench.segments() == [1, 2]
    bench.applied(delete(1, 10, bench.stored(1)), delete(2, 11, bench.stored(2)))
    bench.rows("VACUUM chunks_1")
    assert bench.tend() == ["merged segments 1 into 3"]
    assert bench.contents() == pairs(3)
    bench.applied(delete(3, 12, bench.stored(3)))
    bench.rows("VACUUM chunks_1")
    bench.tend()
    assert bench.segments() == [2]
    bench.add(4)
    assert bench.contents() == pairs(4)


# --- searching


def filled(server: str, rows: int, each: int, dimension: int) -> tuple[Segmented, np.ndarray]:
    """Rows in as many batches, tended after each but the last, which stays in the hot segment."""
    bench = segmented(server, rows=each, dimension=dimension)
    vectors = np.random.default_rng(7).normal(size=(rows, dimension)).astype(np.float32)
    for start in range(0, rows, each):
        numbers = range(start, min(start + each, rows))
        named = {chunk_hash(f"chunk {n}"): vectors[n] for n in numbers}
        bench.store.apply(plan(*(write(n, n, insert=(chunk(f"chunk {n}"),)) for n in numbers)), named)
        if start + each < rows:
            bench.tend()
    return bench, vectors


def test_the_nearest_of_all_segments_are_those_of_an_exact_scan(server: str) -> None:
    bench, vectors = filled(server, 700, 200, 8)
    assert bench.segments() == [1, 2, 3, 4]
    found = 0
    for query in vectors[::45] + np.float32(0.01):
        cosine = vectors @ query / np.linalg.norm(vectors, axis=1)
        exact = {f"chunk {number}" for number in np.argsort(-cosine)[:10]}
        hits = bench.store.search(bench.generation, query, 10)
        assert [hit.distance for hit in hits] == sorted(hit.distance for hit in hits)
        found += len(exact & {hit.content for hit in hits})
    assert found >= 0.98 * 10 * len(vectors[::45])
    bench.store.close()


def test_a_plain_query_on_the_view_merges_the_indexes_of_all_segments(server: str) -> None:
    bench, _ = filled(server, 5500, 1500, 64)
    query = f"EXPLAIN SELECT content FROM chunks ORDER BY embedding <=> '[{','.join(['0.5'] * 64)}]' LIMIT 10"
    lines = "\n".join(row["QUERY PLAN"] for row in bench.rows(query))
    assert "Merge Append" in lines
    assert [lines.count(f"Index Scan using chunks_1_s{number}_hnsw") for number in (1, 2, 3)] == [1, 1, 1]
    assert "Seq Scan on chunks_1_s4" in lines
    bench.store.close()


# --- crashes


def test_what_is_left_of_an_index_build_that_broke_off_is_built_anew(bench: Segmented) -> None:
    bench.add(1)
    bench.tend()
    bench.rows("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'chunks_1_s1_hnsw'::regclass")
    assert bench.store.index_status(bench.generation).state == "missing"
    assert bench.tend() == ["built the vector index of segment 1"]
    assert bench.store.index_status(bench.generation).state == "ready"


# Forks a tender for each line that it reads, and answers how that one ended.
TENDERS = """
import os, sys
from consumer.store import Store, Tender
from tests.crash_points import arm
for line in sys.stdin:
    schema, point = line.split()
    with Store(sys.argv[1], schema) as store:
        generation = store.generation()
    if not (child := os.fork()):
        arm(point)
        Tender(sys.argv[1], schema, generation, quiet_seconds=0).tend()
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def tenders(server: str) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-c", TENDERS, server]
    root = Path(__file__).parents[2]
    with subprocess.Popen(argv, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.semantics(
    "faults",
    "kill -9 while segments are sealed, indexed or merged",
    "every row stays searchable, once; the next goes on",
)
def test_a_tender_killed_at_each_statement_leaves_a_whole_table(server: str, tenders: subprocess.Popen[str]) -> None:
    """Before each: what stood before is committed, or its transaction is open."""
    point, ended, kills = "/psycopg/connection.py:Connection.execute:call", -9, 0
    while ended == -9:
        bench = segmented(server)
        bench.add(1)
        bench.tend()
        bench.add(2)
        ended = asked(tenders, f"{bench.schema} {point}:{kills + 3}")
        kills += 1
        assert bench.contents() == pairs(1, 2), kills
        bench.applied(delete(1, 10, bench.stored(1)), write(3, 11, insert=(chunk("3 a"), chunk("3 b", 1))))
        assert bench.contents() == pairs(2, 3), kills
        bench.finish()
        assert bench.contents() == pairs(2, 3), kills
        assert bench.store.index_status(bench.generation).state == "ready", kills
        assert bench.rows("SELECT 1 FROM segments WHERE merges IS NOT NULL") == [], kills
        assert len(bench.segments()) == len(bench.rows("SELECT 1 FROM segments")) <= 3, kills
        bench.store.close()
    assert ended == 0
    assert kills > 30, "it was killed too seldom"


def asked(tenders: subprocess.Popen[str], line: str) -> int:
    """How the tender ended that was started for this line."""
    assert tenders.stdin is not None
    assert tenders.stdout is not None
    tenders.stdin.write(line + "\n")
    tenders.stdin.flush()
    return int(tenders.stdout.readline())
