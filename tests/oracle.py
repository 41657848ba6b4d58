"""What the store must hold, computed a second time: from the source tables and from the raw topics.

Nothing of the product is imported here. Templates are rendered by plain Jinja2, texts are cut by the documented rule
with the model's own tokenizer, vectors come from `SentenceTransformer.encode`, hashes from hashlib.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
import numpy as np
from tokenizers import Tokenizer

from tests.cuts import stable_spans, window_spans
from tests.states import Name, Row, StoreState, name_of
from tests.topic_log import Event, fold, up_to

MIN_COSINE = 0.9999


@dataclass(frozen=True)
class Content:
    """What a row is to become."""

    text: str
    chunks: tuple[str, ...]
    metadata: dict[str, Any]

    @property
    def hash(self) -> bytes:
        return hashlib.sha256(self.text.encode()).digest()


class Oracle:
    """Says what is wrong with a state of the store, for the tables of a settings file and a model in a folder."""

    def __init__(self, tables: Sequence[Mapping[str, Any]], model: Path) -> None:
        from sentence_transformers import SentenceTransformer

        self._tables = {table.get("source", table["topic"]): table for table in tables}
        self._sources = {table["topic"]: source for source, table in self._tables.items()}
        self._model_name = model.name
        self._model = SentenceTransformer(str(model), device="cpu", local_files_only=True)
        self._special_tokens = self._model.tokenizer.num_special_tokens_to_add()
        self._tokenizer = Tokenizer.from_str(self._model.tokenizer.backend_tokenizer.to_str())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._jinja = jinja2.Environment(finalize=lambda value: "" if value is None else value)
        self._templates: dict[str, jinja2.Template] = {}
        self._contents: dict[tuple[str, str], Content] = {}
        self._vectors: dict[str, Any] = {}

    # --- what a row becomes

    def content(self, source: str, row: Row) -> Content:
        """Text, chunks and metadata of a row: no chunks where `when` is not true or there is nothing to read."""
        place = (source, json.dumps(row, sort_keys=True))
        if place not in self._contents:
            table = self._tables[source]
            kept = "when" not in table or self._render(table["when"], row) == "True"
            text = self._render(table["text"], row) if kept else ""
            metadata = {column: row[column] for column in table.get("metadata", ())}
            self._contents[place] = Content(text, tuple(self._cut(text.strip(), table["chunk"])), metadata)
        return self._contents[place]

    def _render(self, template: str, row: Row) -> str:
        if template not in self._templates:
            self._templates[template] = self._jinja.from_string(template)
        return self._templates[template].render(row)

    def _cut(self, text: str, chunk: Mapping[str, Any]) -> Iterator[str]:
        """The chunks' texts: spans of whole words."""
        starts = self._words(text)
        room = chunk["max_tokens"] - self._special_tokens
        tokens = [0, *accumulate(size for _, size in starts)]
        if tokens[-1] <= room:
            yield from [text] if starts else []
            return
        characters = [0, *(start for start, _ in starts[1:]), len(text)]
        cut = window_spans if chunk.get("method") == "windows" else stable_spans
        for first, end in cut(text, characters, tokens, room, chunk["overlap"]):
            yield text[characters[first] : characters[end]].rstrip()

    def _words(self, text: str) -> list[tuple[int, int]]:
        """(first character, tokens) of each word; tokens that share a character are never parted."""
        encoded = self._tokenizer.encode(text, add_special_tokens=False)
        words: list[tuple[int, int]] = []
        before: tuple[int | None, int] = (None, 0)  # word and end of the token before
        for (start, stop), word in zip(encoded.offsets, encoded.word_ids, strict=True):
            if words and (start < before[1] or (word is not None and word == before[0])):
                words[-1] = (words[-1][0], words[-1][1] + 1)
            else:
                words.append((start, 1))
            before = (word, stop)
        return words

    def _columns(self, source: str) -> set[str]:
        """The columns that decide a document: those of text, filter and metadata."""
        table = self._tables[source]
        templates = (table["text"], table.get("when", ""))
        used = [jinja2.meta.find_undeclared_variables(self._jinja.parse(template)) for template in templates]
        return set().union(*used, table.get("metadata", ()))

    # --- what is wrong with the store

    def compare(self, state: StoreState, rows: Mapping[Name, Row]) -> list[str]:
        """The store against the source's rows: exactly these documents, each with exactly these chunks and vectors."""
        wrong = [f"{state.strays} chunk rows are strays"] if state.strays else []
        alive = {name for name, document in state.documents.items() if document["state"] != "deleted"}
        wrong += [f"{name}: missing" for name in sorted(rows.keys() - alive)]
        wrong += [f"{name}: must not be there" for name in sorted(alive - rows.keys())]
        wrong += [f"{name}: chunks without a living document" for name in sorted(state.chunks.keys() - alive)]
        for name in alive & rows.keys():
            content = self.content(name[0], rows[name])
            wrong += [f"{name}: {what}" for what in self._document(state, name, content)]
        return wrong + self._cosines(state)

    def _document(self, state: StoreState, name: Name, content: Content) -> Iterator[str]:
        document, chunks = state.documents[name], state.chunks.get(name, [])
        if document["state"] != "embedded":
            yield f"state {document['state']}"
        if document["content_hash"] != content.hash:
            yield "document's content hash"
        if [(chunk["chunk_no"], chunk["content"]) for chunk in chunks] != list(enumerate(content.chunks)):
            yield f"{len(chunks)} chunks differ from the {len(content.chunks)} expected"
        for chunk in chunks:
            if chunk["metadata"] != content.metadata:
                yield f"chunk {chunk['chunk_no']}: metadata"
            if chunk["content_hash"] != hashlib.sha256(chunk["content"].encode()).digest():
                yield f"chunk {chunk['chunk_no']}: content hash"
            if (chunk["model"], chunk["config_hash"]) != (self._model_name, state.config_hash):
                yield f"chunk {chunk['chunk_no']}: model or config hash"
            if chunk["kafka_topic"] != self._tables[name[0]]["topic"]:
                yield f"chunk {chunk['chunk_no']}: topic"

    def _cosines(self, state: StoreState) -> list[str]:
        """Each stored vector against the model's own of the stored text."""
        stored = [chunk for chunks in state.chunks.values() for chunk in chunks]
        new = sorted({chunk["content"] for chunk in stored} - self._vectors.keys())
        if new:
            with _one_thread():
                self._vectors |= dict(zip(new, self._model.encode(new, show_progress_bar=False), strict=True))
        if not stored:
            return []
        ours = np.stack([self._vectors[chunk["content"]] for chunk in stored])
        theirs = np.array([chunk["vector"] for chunk in stored], dtype=np.float32)
        with np.errstate(invalid="ignore"):  # a vector of zeros gives NaN, which is no good cosine
            cosine = (ours * theirs).sum(axis=1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
        return [
            f"{name_of(chunk)} chunk {chunk['chunk_no']}: vector, cosine {value:.6f}"
            for chunk, value in zip(stored, cosine, strict=True)
            if not value >= MIN_COSINE
        ]

    def compare_with_topics(self, state: StoreState, events: Iterable[Event]) -> list[str]:
        """The store against the topics read up to the stored offsets: nothing less, and nothing from beyond them."""
        applied = up_to(events, state.offsets)
        last = {(self._sources[topic], key): event for (topic, key), event in fold(applied).items()}
        wrong = self.compare(state, {name: event.after for name, event in last.items() if event.after is not None})
        histories: dict[Name, list[Event]] = defaultdict(list)
        for event in applied:
            histories[self._sources[event.topic], event.key].append(event)
        wrong += [f"{name}: no gravestone" for name in sorted(last.keys() - state.documents.keys())]
        wrong += [f"{name}: from beyond the stored offsets" for name in sorted(state.documents.keys() - last.keys())]
        for name in state.documents.keys() & last.keys():
            wrong += [f"{name}: {what}" for what in self._provenance(state, name, histories[name])]
        return wrong

    def _provenance(self, state: StoreState, name: Name, history: Sequence[Event]) -> Iterator[str]:
        """The coordinates of a document and of its chunks are those of events that had this very content."""
        document, by_place = state.documents[name], {(event.partition, event.offset): event for event in history}
        own = by_place.get((document["kafka_partition"], document["kafka_offset"]))
        if own is None:
            yield f"partition {document['kafka_partition']} offset {document['kafka_offset']} is no event of it"
            return
        columns = self._columns(name[0])
        skipped = [event for event in history if event.offset > own.offset]
        if any(_used(event, columns) != _used(own, columns) for event in skipped):
            yield "an event after the document's own was not applied"
        if document["version"] > len(history):
            yield f"written {document['version']} times for {len(history)} events"
        for chunk in state.chunks.get(name, []):
            writer = by_place.get((chunk["kafka_partition"], chunk["kafka_offset"]))
            if writer is None or writer.after is None:
                yield f"chunk {chunk['chunk_no']}: its coordinates are no event with a row"
                continue
            if chunk["content"] not in self.content(name[0], writer.after).chunks:
                yield f"chunk {chunk['chunk_no']}: the event at its coordinates had other text"
            if _micros(chunk["source_committed_at"]) != writer.ts_us:
                yield f"chunk {chunk['chunk_no']}: commit time"

    # --- how much work was due

    def embeds_due(self, events: Iterable[Event]) -> int:
        """Chunks that no event before had, summed over every version of every row: nobody may compute more vectors.

        Less is right: a batch skips the versions between the first and the last, and shares equal chunks.
        """
        versions: dict[Name, list[set[str]]] = defaultdict(lambda: [set()])
        for event in events:
            source = self._sources[event.topic]
            chunks = self.content(source, event.after).chunks if event.after is not None else ()
            versions[source, event.key].append(set(chunks))
        return sum(len(new - old) for steps in versions.values() for old, new in pairwise(steps))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Consumers use the other cores: threads that wait for each other there are slower than one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _used(event: Event, columns: Iterable[str]) -> dict[str, Any] | None:
    return None if event.after is None else {column: event.after[column] for column in columns}


def _micros(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)
