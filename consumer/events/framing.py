"""How an Avro body is framed, and which writer's schema it names."""

from __future__ import annotations

from typing import Literal, NamedTuple

Framing = Literal["auto", "confluent", "apicurio8", "headers"]


class SchemaRef(NamedTuple):
    """A schema in the registry, by the id that a record carries."""

    kind: Literal["content", "global"]
    number: int


def framed(
    payload: bytes | None,
    headers: tuple[tuple[str, bytes | None], ...],
    part: Literal["key", "value"],
    framing: Framing,
) -> tuple[SchemaRef, int] | None:
    """The schema that a key or value names and where its body begins; None if it is not framed as Avro."""
    if payload is None or len(payload) < 5 or payload[0] != 0:
        return None
    return SchemaRef("content", int.from_bytes(payload[1:5], "big")), 5
