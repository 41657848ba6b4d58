"""Which schema wrote a record's key or value, and where its Avro body begins, in every framing that is in use.

| framing | bytes | headers |
|---|---|---|
| Confluent; Apicurio 3, or 2 with `as-confluent` and `use-id=contentId` | 0x00, id in 4 bytes, body | |
| Apicurio 2 in the payload | 0x00, global id in 8 bytes, body | |
| Apicurio in headers | body | `apicurio.<part>.globalId` or `.contentId`, 8 bytes |

Ids are big-endian. What Confluent calls the id of a schema is Apicurio's content id, at its Confluent-compatible API
too; a 4-byte id that Apicurio 2 wrote without `use-id=contentId` is a global id and looks the same, so that such a
registry must run with `ENABLE_CCOMPAT_LEGACY_ID_MODE`. (Facts of Apicurio's IdHandler and HeadersHandler, 2.6 and 3.2.)
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from consumer.errors import Reject

Framing = Literal["auto", "confluent", "apicurio8", "headers"]
Headers = tuple[tuple[str, bytes | None], ...]

_MAGIC = 0
_NO_ID = bytes(4)  # ids begin with 1, so four zeros are the upper half of an 8-byte id


class SchemaRef(NamedTuple):
    """The name by which a registry knows one schema for ever: a content id (Confluent's only kind) or a global id."""

    kind: Literal["content", "global"]
    number: int


def framed(
    payload: bytes | None, headers: Headers, part: Literal["key", "value"], framing: Framing
) -> tuple[SchemaRef, int] | None:
    """The writer's schema and the offset of the Avro body in `payload`; None where it is not framed as Avro.

    With `auto` headers decide, then the magic byte, which no JSON text begins with. Raises Reject (stage decode) where
    the headers say that the body is Avro's JSON encoding, which nothing here reads.
    """
    if payload is None:
        return None
    if framing in ("auto", "headers") and (named := _in_headers(headers, part)):
        return named, 0
    if framing == "headers" or not payload or payload[0] != _MAGIC:
        return None
    if framing == "apicurio8" or (framing == "auto" and payload[1:5] == _NO_ID):
        return (SchemaRef("global", int.from_bytes(payload[1:9], "big")), 9) if len(payload) >= 9 else None
    return (SchemaRef("content", int.from_bytes(payload[1:5], "big")), 5) if len(payload) >= 5 else None


def _in_headers(headers: Headers, part: str) -> SchemaRef | None:
    """The id in the headers; of a name that comes twice the last one counts, as for every Kafka client."""
    for name, _ in headers:  # of every event, and nearly always in vain: a plain loop is the quickest look
        if name[:9] == "apicurio.":
            break
    else:
        return None
    found = {name: value for name, value in headers if value and name.startswith("apicurio.")}
    for kind in ("content", "global"):
        if len(number := found.get(f"apicurio.{part}.{kind}Id", b"")) == 8:
            if found.get(f"apicurio.{part}.encoding", b"BINARY").upper() != b"BINARY":
                raise Reject(
                    "The event is Avro in JSON encoding. Set apicurio.registry.avro.encoding of the writer to BINARY.",
                    stage="decode",
                    error_type="avro_encoding",
                )
            return SchemaRef(kind, int.from_bytes(number, "big"))
    return None
