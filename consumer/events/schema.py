"""A writer's schema as the registry gives it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class AvroSchema(NamedTuple):
    """The JSON text of an Avro schema, and the texts of what it refers to, in the order in which they must be read."""

    schema: str
    references: Sequence[str] = ()
