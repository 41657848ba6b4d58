"""How the demo looks at what the consumer did: the store, read as its reader, and the consumer's own counters."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, LiteralString, NamedTuple, Self

import psycopg
from prometheus_client.parser import text_string_to_metric_families
from psycopg import sql

from consumer.errors import Exit, Stop
from consumer.local.demo.home import SCHEMA, SOURCE, Home

_SEEN_WITHIN = 30.0
_LOOK_EVERY = 0.002
_ALIVE_EVERY = 1.0


class StoredChunk(NamedTuple):
    """One row of the view `chunks`."""

    id: int
    no: int
    content: str
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Counts:
    """What the consumer has counted so far, of the demo's source."""

    events: Counter[str]
    embedded: int
    reused: int


class Eyes:
    """One connection to the store as its reader."""

    def __init__(self, dsn: str, home: Home) -> None:
        self._home = home
        self._connection = psycopg.connect(dsn, autocommit=True, options=f"-c search_path={SCHEMA},public")
        (self._table,) = self._all("SELECT chunk_table FROM generations WHERE state = 'live'")[0]

    def embedded(self) -> int:
        """Documents that are searchable."""
        return int(self._all("SELECT count(*) FROM documents WHERE state = 'embedded'")[0][0])

    def failed(self) -> int:
        """Documents that could not be applied."""
        return int(self._all("SELECT count(*) FROM failed_documents")[0][0])

    def chunks(self) -> list[StoredChunk]:
        """The whole view `chunks`, in order; anything from another topic would be counted as the demo's too."""
        rows = self._all(
            "SELECT (source_key->>'id')::int, chunk_no, content, metadata FROM chunks ORDER BY 1, 2",
        )
        return [StoredChunk(*row) for row in rows]

    def without_provenance(self) -> int:
        """Chunks of the view that do not say which event of which topic wrote them, when, and by which model."""
        return int(
            self._all(
                "SELECT count(*) FROM chunks WHERE (kafka_topic = %s AND kafka_partition >= 0 AND kafka_offset >= 0"
                " AND source_committed_at <= now() AND embedded_at <= now() AND model <> '') IS NOT TRUE",
                SOURCE,
            )[0][0]
        )

    def documents(self) -> dict[int, tuple[int, int]]:
        """By id: the document's number in the store, and its version, which every write raises."""
        rows = self._all(
            "SELECT (source_key->>'id')::int, document_id, version FROM documents WHERE state <> 'deleted'"
        )
        return {key: (number, version) for key, number, version in rows}

    def embeddings(self, document: int) -> list[tuple[str, Any]]:
        """The vectors of one document, as text, and when each was made."""
        return self._chunks(
            "SELECT embedding::text, embedded_at FROM {} WHERE document_id = %s ORDER BY chunk_no", document
        )

    def shows(self, document: int, words: str) -> bool:
        """Whether a chunk of the document has these words: asked by primary key, quicker than the view allows."""
        return bool(
            self._chunks("SELECT 1 FROM {} WHERE document_id = %s AND position(%s in content) > 0", document, words)
        )

    def reviewed(self, document: int) -> bool:
        """Whether all chunks of the document carry the new metadata."""
        return not self._chunks("SELECT 1 FROM {} WHERE document_id = %s AND metadata->>'reviewed' <> 'true'", document)

    def gone(self, document: int) -> bool:
        """Whether the document has no chunk left."""
        return not self._chunks("SELECT 1 FROM {} WHERE document_id = %s", document)

    def keys(self, *ids: int) -> set[int]:
        """Which of these ids the view `chunks` has."""
        rows = self._all(
            "SELECT DISTINCT (source_key->>'id')::int FROM chunks WHERE (source_key->>'id')::int = ANY(%s)", list(ids)
        )
        return {key for (key,) in rows}

    def state(self, key: int) -> str | None:
        """The state of the document of this id; None if there is none."""
        rows = self._all("SELECT state FROM documents WHERE source_key = jsonb_build_object('id', %s::int)", key)
        return str(rows[0][0]) if rows else None

    def indexed(self) -> bool:
        """Whether the vector index is there and used."""
        return bool(
            self._all(
                "SELECT 1 FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam"
                " WHERE i.indrelid = %s::regclass AND a.amname = 'hnsw' AND i.indisvalid",
                f"{SCHEMA}.{self._table}",
            )
        )

    def counts(self) -> Counts:
        """The consumer's counters, from its /metrics."""
        events: Counter[str] = Counter()
        chunks: Counter[str] = Counter()
        for family in text_string_to_metric_families(self._home.page("metrics") or ""):
            for sample in family.samples:
                if sample.labels.get("source") != SOURCE:
                    continue
                if sample.name == "embedding_pipeline_events_total" and sample.labels["op"] != "tombstone":
                    events[sample.labels["outcome"]] += int(sample.value)
                elif sample.name == "embedding_pipeline_chunks_total":
                    chunks[sample.labels["outcome"]] += int(sample.value)
        return Counts(events, chunks["embedded"], chunks["reused"])

    def until(
        self,
        condition: Callable[[], object],
        what: str,
        *,
        seconds: float = _SEEN_WITHIN,
        every: float = _LOOK_EVERY,
    ) -> float:
        """`time.perf_counter()` when `condition` first held, looked at `every` so many seconds.

        Raises Stop if it does not hold within `seconds`, or if the consumer ends meanwhile.
        """
        began = asked = time.perf_counter()
        while not condition():
            now = time.perf_counter()
            if now - asked > _ALIVE_EVERY:
                asked = now
                if self._home.consumer_pid is None:
                    raise self._did_not(what, "The consumer has ended.")
            if now - began > seconds:
                raise self._did_not(what, f"{seconds:.0f} s have passed.")
            time.sleep(every)
        return time.perf_counter()

    def _did_not(self, what: str, why: str) -> Stop:
        log = self._home.consumer_log
        return Stop(f"This did not come true: {what}.", why, f"The consumer's log: {log}.", exit_code=Exit.FAILED)

    def _all(self, statement: LiteralString, *values: Any) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement, values).fetchall()

    def _chunks(self, statement: LiteralString, *values: Any) -> list[tuple[Any, ...]]:
        named = sql.SQL(statement).format(sql.Identifier(self._table))
        return self._connection.execute(named, values).fetchall()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
