"""The writers' schemas by the ids that records carry, asked for once and kept for ever: an id keeps its meaning.

A content id is looked up in the Confluent-compatible API at `registry.url`. A global id exists in Apicurio alone, whose
own API (v2, which version 3 serves too) lies beside its Confluent-compatible one.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import msgspec

from consumer.errors import Reject
from consumer.events import AvroSchema
from consumer.events.framing import SchemaRef
from consumer.source.registry_http import Access, Http, RegistryWait

# A registry's replicas and caches may lag behind the writer by seconds. Longer, and the id is wrong or its schema lost:
# then its neighbours must not wait, and the failed document's schedule asks again. All ids share one such wait, and
# when it was in vain the next one is an hour away: bytes that only look like Avro must not add up to standing still.
UNKNOWN_SECONDS = 60.0
_WAIT_AGAIN_SECONDS = 3600.0
_LARGEST = {"content": 2**31 - 1, "global": 2**63 - 1}  # what the APIs can be asked for


class SchemaRegistry:
    """One registry. Nothing is asked before the first Avro record. Not for two threads.

    `unknown_seconds` is how long ids that the registry does not know are waited for, all together.
    """

    def __init__(self, access: Access, *, unknown_seconds: float = UNKNOWN_SECONDS) -> None:
        self._url, self._http, self._unknown_seconds = access.url.rstrip("/"), Http(access), unknown_seconds
        self._native = re.sub(r"/apis/ccompat/v\d+$", "", self._url) + "/apis/registry/v2"
        self._known: dict[SchemaRef, AvroSchema | Reject] = {}
        self._awaited: set[SchemaRef] = set()
        self._awaited_since: float | None = None  # on the monotonic clock

    def check(self) -> None:
        """Raises RegistryWait where nothing answers, access is refused, or what answers is no registry."""
        with suppress(Reject):  # a schema of another kind: it is a registry
            self._confluent(f"schemas/ids/{_LARGEST['content']}")

    def schemas(self, refs: Collection[SchemaRef]) -> dict[SchemaRef, AvroSchema | Reject]:
        """The schema of each; a Reject where it is no Avro, or was unknown for too long.

        Raises RegistryWait where the registry does not answer as one, or may yet learn an id: to be called again.
        """
        found = {ref: self._schema(ref) for ref in refs}
        waiting = [ref.number for ref, schema in found.items() if schema is None]
        if waiting:
            ids = f"{min(waiting)} and {len(waiting) - 1} others" if len(waiting) > 1 else str(waiting[0])
            raise RegistryWait(
                f"The schema registry at {self._url} does not know the schema id {ids} (yet): waiting for up to "
                f"{self._unknown_seconds:.0f} s."
            )
        return {ref: schema for ref, schema in found.items() if schema is not None}

    def _schema(self, ref: SchemaRef) -> AvroSchema | Reject | None:
        """None while an unknown id may still turn up."""
        if ref in self._known:
            return self._known[ref]
        if not 1 <= ref.number <= _LARGEST[ref.kind]:
            return _unknown(ref)
        schema: AvroSchema | Reject | None
        try:
            schema = self._ask(ref)
        except Reject as reject:
            schema = reject
        if schema is not None:
            self._known[ref] = schema
            if ref in self._awaited:
                self._awaited_since = None  # the registry does lag behind: the next one is worth a wait too
            return schema
        now = time.monotonic()
        if self._awaited_since is None or now - self._awaited_since >= _WAIT_AGAIN_SECONDS:
            self._awaited_since = now
            self._awaited.clear()
        if now - self._awaited_since >= self._unknown_seconds:
            return _unknown(ref)
        self._awaited.add(ref)
        return None

    def _ask(self, ref: SchemaRef) -> AvroSchema | None:
        """The schema with all it refers to, each text once and after those it needs; None if any is not there."""
        read = self._confluent if ref.kind == "content" else self._apicurio
        path = f"schemas/ids/{ref.number}" if ref.kind == "content" else f"ids/globalIds/{ref.number}"
        texts: dict[str, str] = {}

        def collect(path: str, seen: frozenset[str]) -> bool:
            if path in texts or path in seen:
                return True
            if (found := read(path)) is None:
                return False
            text, needed = found
            complete = all(collect(each, seen | {path}) for each in needed)
            texts[path] = text
            return complete

        if not collect(path, frozenset()):
            return None
        *references, schema = texts.values()
        return AvroSchema(schema, tuple(references))

    def _confluent(self, path: str) -> tuple[str, list[str]] | None:
        """A schema's text and the paths of what it refers to."""
        status, body = self._http.get(f"{self._url}/{path}")
        if status == HTTPStatus.NOT_FOUND:
            # Its codes for a subject, version or schema; another 404 is no word of a registry about an id.
            if 40400 < self._decoded(body, _Missing).error_code < 40500:
                return None
            raise self._elsewhere()
        answer = self._decoded(body, _Schema)
        if answer.schemaType != "AVRO":
            raise _not_avro("of another type")
        # A reference may have been deleted softly since: the schema still needs it.
        paths = [f"subjects/{quote(r.subject, safe='')}/versions/{r.version}?deleted=true" for r in answer.references]
        return answer.schema, paths

    def _apicurio(self, path: str) -> tuple[str, list[str]] | None:
        """The same from Apicurio's own API, which gives text and references apart.

        Where there is no such API every 404 counts as unknown: bytes that only look like a global id must not keep
        their neighbours waiting for ever.
        """
        status, text = self._http.get(f"{self._native}/{path}")
        if status == HTTPStatus.OK:
            status, references = self._http.get(f"{self._native}/{path}/references")
        if status == HTTPStatus.NOT_FOUND:
            return None
        try:
            msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise _not_avro("no JSON") from None
        return text.decode(), list(_paths(self._decoded(references, list[_Artifact])))

    def _decoded(self, body: bytes, kind: Any) -> Any:
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise self._elsewhere() from None

    def _elsewhere(self) -> RegistryWait:
        return RegistryWait(
            f"What answers at {self._url} is no schema registry.",
            "It does not speak the Confluent-compatible API.",
            "Correct registry.url; that of Apicurio ends with /apis/ccompat/v7.",
        )


class NoRegistry:
    """In place of a registry where the settings name none.

    Bytes that only look like Avro, in a topic of JSON, must not wait for a registry that nobody has.
    """

    def schemas(self, refs: Collection[SchemaRef]) -> dict[SchemaRef, AvroSchema | Reject]:
        """A Reject for each."""
        what = "The event is framed as Avro, and no registry is set. Set registry.url."
        return {ref: Reject(what, stage="decode", error_type="registry_not_set") for ref in refs}


class _Reference(msgspec.Struct):
    subject: str
    version: int


class _Schema(msgspec.Struct):
    """What the Confluent-compatible API answers, for an id and for a subject's version."""

    schema: str
    schemaType: str = "AVRO"
    references: list[_Reference] = []


class _Artifact(msgspec.Struct):
    """A reference as Apicurio's own API gives it."""

    artifactId: str
    version: str
    groupId: str | None = None


class _Missing(msgspec.Struct):
    """The body of a 404."""

    error_code: int = 0


def _paths(references: list[_Artifact]) -> Iterator[str]:
    for each in references:
        group, artifact = quote(each.groupId or "default", safe=""), quote(each.artifactId, safe="")
        yield f"groups/{group}/artifacts/{artifact}/versions/{quote(each.version, safe='')}"


def _not_avro(what: str) -> Reject:
    return Reject(
        f"The event's schema is {what}, not Avro. Check the converter of the connector.",
        stage="decode",
        error_type="schema_not_avro",
    )


def _unknown(ref: SchemaRef) -> Reject:
    return Reject(
        f"The schema registry does not know the {ref.kind} id {ref.number}, with which the event was written. Restore "
        "the schema, or check registry.url and registry.framing.",
        stage="decode",
        error_type="schema_unknown",
    )
