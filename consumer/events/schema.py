"""STAND-IN until the Avro decoder of the events room is merged: the writer's schema, parsed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import fastavro

from consumer.errors import Reject


class AvroSchema:
    """A writer's schema, with the schemas it refers to, in the order of their dependence."""

    def __init__(self, schema: str, references: Sequence[str] = ()) -> None:
        self.names: dict[str, Any] = {}
        try:
            for reference in references:
                fastavro.parse_schema(json.loads(reference), named_schemas=self.names)
            self.root = fastavro.parse_schema(json.loads(schema), named_schemas=self.names)
        except Exception:
            raise Reject("The schema is no Avro.", stage="decode", error_type="schema_unusable") from None
