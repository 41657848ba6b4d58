"""One draft and its stored detail to the write of one document: fields, text, and the difference in chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from consumer.content import Chunk, Rendered
from consumer.errors import Reject
from consumer.events import layout_of
from consumer.planning.fold import INCOMPLETE, Draft
from consumer.planning.model import DocumentWrite, Failure, Move, NewChunk, StoredChunk, StoredDetail
from consumer.planning.moves import Details, Known, Moves, filled, known, left_behind

# Postgres refuses a JSON string above 256 MiB and a row above 1 GiB; no single document may come near either.
MAX_DOCUMENT_BYTES = 64 * 1024 * 1024

_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder().decode


@dataclass(slots=True)
class Prepared:
    """A draft after merge and rendering. `text` is what must be cut into chunks, None where the chunks can stay."""

    draft: Draft
    detail: StoredDetail | None
    fields: dict[str, Any] | None = None
    fields_hash: bytes | None = None
    rendered: Rendered | None = None
    text: str | None = None
    failure: Failure | None = None
    partial: Known | None = None  # of an incomplete document
    layout: bytes | None = None  # where the fields are stored ones
    leaves: tuple[Move, ...] = ()
    used: tuple[bytes, ...] = ()
    unchanged: bool = False


def prepare(draft: Draft, details: Details, moves: Moves, generation: int, failure: Failure | None) -> Prepared:
    """Merge, hash and render. `failure` is one that a later step (embed, write) found for this document before."""
    detail = details.get(draft.stored.document_id) if draft.stored else None
    prepared = Prepared(draft, detail, failure=draft.failure or failure)
    for leaves, used in left_behind(draft.leavings, details, moves):
        prepared.leaves, prepared.used = (*prepared.leaves, leaves), (*prepared.used, *used)
    if draft.deleted or draft.failure:
        return prepared
    merged = _merged(draft, details, moves)
    prepared.layout = merged.layout
    prepared.used += (*merged.used, *(arriving.id for arriving in draft.arrivings if arriving.id in moves))
    if not merged.fields.keys() >= set(draft.table.content.columns):
        prepared.failure, prepared.partial = INCOMPLETE, merged
        return prepared
    prepared.fields = dict(merged.fields)
    if failure is not None:
        if failure.stage == "write":
            prepared.fields = None  # they may be what cannot be written; the retry reads the record again
        return prepared
    try:
        _render(prepared, generation)
    except Reject as reject:
        prepared.failure = Failure(reject.stage, reject.error_type, reject.what)
    return prepared


def _merged(draft: Draft, details: Details, moves: Moves) -> Known:
    """The used columns without placeholders, as far as they are known."""
    if draft.rerender:
        return known(draft.stored, details, moves)
    if not draft.holes:
        return Known(draft.fields or {})  # the layout is asked for only where the document is written
    return filled(draft.fields or {}, draft.holes, draft.columns, draft.origin, details, moves)


def _render(prepared: Prepared, generation: int) -> None:
    draft, stored, fields = prepared.draft, prepared.draft.stored, prepared.fields
    if fields is None:
        return
    content = draft.table.content
    prepared.fields_hash = content.fields_hash(fields)
    if draft.skippable and stored is not None and prepared.fields_hash == stored.fields_hash:
        prepared.unchanged = True
        return
    prepared.rendered = content.render(fields)
    if len(_encode(fields)) > MAX_DOCUMENT_BYTES:
        what = f"The row's columns take more than {MAX_DOCUMENT_BYTES >> 20} MiB. Leave large columns out of text."
        raise Reject(what, stage="render", error_type="too_long")
    chunks_stand = (
        not draft.again
        and stored is not None
        and prepared.detail is not None
        and stored.table_hash == content.table_hash
        and stored.generation == generation
        and prepared.detail.content_hash == prepared.rendered.content_hash
    )
    prepared.text = None if chunks_stand else prepared.rendered.text


def write(prepared: Prepared, chunks: Sequence[Chunk] | None, generation: int) -> DocumentWrite:
    """The document's row and the difference in chunks. `chunks` are those of `prepared.text`, None where it is None."""
    draft, stored = prepared.draft, prepared.draft.stored
    row = DocumentWrite(
        key=draft.key,
        source_key=draft.source_key,
        document_id=stored.document_id if stored else None,
        expected_version=stored.version if stored else 0,
        state="deleted",
        order=draft.order,
        fields=None,
        fields_complete=False,
        fields_hash=None,
        table_hash=None,
        content_hash=None,
        generation=None,
        layout=None if draft.deleted else _layout(prepared),
        was_failed=stored is not None and stored.state == "failed",
        leaves=prepared.leaves,
        used=tuple(set(prepared.used)),
    )
    if draft.deleted:
        return msgspec.structs.replace(row, delete_all=stored is not None)
    if prepared.failure is not None:
        return _failed(row, prepared)
    return _embedded(row, prepared, chunks, generation)


def _layout(prepared: Prepared) -> bytes | None:
    """Of the row whose fields are to be stored."""
    columns = layout_of(prepared.draft.columns)
    return columns.packed if columns is not None else prepared.layout


def _failed(row: DocumentWrite, prepared: Prepared) -> DocumentWrite:
    """The last good vectors stay, and so does what describes them; new fields are kept, for what comes needs them."""
    stored, detail, partial = prepared.draft.stored, prepared.detail, prepared.partial
    fields = partial.fields if partial else prepared.fields
    return msgspec.structs.replace(
        row,
        state="failed",
        fields=None if fields is None else _encode(fields),
        fields_complete=prepared.fields is not None,
        table_hash=stored.table_hash if stored else None,
        content_hash=detail.content_hash if detail else None,
        generation=stored.generation if stored else None,
        failure=prepared.failure,
        was_failed=False,
        awaits=partial.awaits if partial else None,
    )


def _embedded(row: DocumentWrite, prepared: Prepared, chunks: Sequence[Chunk] | None, generation: int) -> DocumentWrite:
    rendered, detail = prepared.rendered, prepared.detail
    stored_chunks = len(detail.chunks) if detail else 0
    if rendered is None:
        raise ValueError("a document without failure has been rendered")
    standing = standing_chunks(prepared.draft, detail)
    if chunks is None:
        wanted = {place: NewChunk(*place, number, "", ()) for place, number in standing.items()}
    else:
        wanted = {(c.hash, c.occurrence): _new(c) for c in chunks}
    relabel = detail is None or detail.metadata is None or _decode(detail.metadata) != rendered.metadata
    return msgspec.structs.replace(
        row,
        state="embedded",
        fields=_encode(prepared.fields),
        fields_complete=True,
        fields_hash=prepared.fields_hash,
        table_hash=prepared.draft.table.content.table_hash,
        content_hash=rendered.content_hash,
        generation=generation,
        metadata=_encode(rendered.metadata),
        insert=tuple(chunk for place, chunk in wanted.items() if place not in standing),
        update=tuple(
            StoredChunk(*place, chunk.chunk_no)
            for place, chunk in wanted.items()
            if place in standing and (relabel or standing[place] != chunk.chunk_no)
        ),
        delete=tuple(place for place in standing if place not in wanted),
        delete_all=prepared.draft.again and stored_chunks > 0,
        kept=sum(place in standing for place in wanted),
    )


def standing_chunks(draft: Draft, detail: StoredDetail | None) -> dict[tuple[bytes, int], int]:
    """Chunk numbers of the stored chunks that may stay, by (chunk hash, occurrence); none with `again`."""
    if detail is None or draft.again:
        return {}
    return {(chunk.chunk_hash, chunk.occurrence): chunk.chunk_no for chunk in detail.chunks}


def _new(chunk: Chunk) -> NewChunk:
    return NewChunk(chunk.hash, chunk.occurrence, chunk.no, chunk.text, tuple(chunk.token_ids))
