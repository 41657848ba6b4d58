"""Debezium records as bytes, and a tokenizer of one token a word, for tests of the pure rooms."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from consumer.content import ChunkSpec, ContentSpec, TableContent
from consumer.events import Record
from consumer.planning import Table

TOPIC = "shop.public.items"
HEARTBEATS = "__debezium-heartbeat.shop"


def record(
    offset: int,
    op: str | None,
    row: dict[str, Any] | None = None,
    *,
    key: dict[str, Any] | None = None,
    partition: int = 0,
    lsn: int | None = None,
    ts_us: int | None = None,
    topic: str = TOPIC,
    topic_id: str = "topic-1",
    wrapped: bool = False,
    other_key: dict[str, Any] | None = None,
) -> Record:
    """One record; `op` None is a tombstone. `lsn` gives the sequence [lsn, lsn], none for a read.

    `other_key` makes it one half of a key change: the new key of a delete, the old key of an insert.
    """
    envelope = {
        "before": None,
        "after": row,
        "source": {
            "connector": "postgresql",
            "ts_ms": (ts_us or offset * 1000) // 1000,
            "ts_us": ts_us or offset * 1000,
            "sequence": None if lsn is None else json.dumps([str(lsn), str(lsn)]),
        },
        "op": op,
        "ts_ms": 1,
    }
    value = json.dumps({"schema": {"type": "struct"}, "payload": envelope} if wrapped else envelope).encode()
    identity = json.dumps(key or {"id": (row or {}).get("id", 1)}).encode()
    header = "__debezium.newkey" if op == "d" else "__debezium.oldkey"
    headers = ((header, json.dumps(other_key).encode()),) if other_key else ()
    return Record(topic, topic_id, partition, offset, 1, identity, None if op is None else value, 5, headers)


@dataclass(frozen=True)
class Words:
    """An encoding of one token a word."""

    ids: Sequence[int]
    offsets: Sequence[tuple[int, int]]
    word_ids: Sequence[int | None]


class WordTokenizer:
    """One token for each word; no special tokens."""

    max_tokens = 1000
    added_tokens = 0

    def encode(self, text: str) -> Words:
        found = list(re.finditer(r"\S+", text))
        ids = [sum(word[0].encode()) % 30000 for word in found]
        return Words(ids, [word.span() for word in found], list(range(len(found))))

    def encode_batch(self, texts: Sequence[str]) -> list[Words]:
        return [self.encode(text) for text in texts]


def table(text: str = "{{ title }} {{ body }}", when: str | None = None, max_tokens: int = 8, **rest: Any) -> Table:
    """A table of items with columns id, title, body, price."""
    content = ContentSpec("items", text, when, ("price",), ChunkSpec(max_tokens, 0, "windows"))
    return Table("items", TOPIC, TableContent(content), **rest)
