"""How the records of one table are read: what the settings say, and what the records themselves have taught so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from consumer.events.avro import AvroReader
from consumer.events.declared import Declared
from consumer.events.framing import Framing
from consumer.events.json_wire import JsonReader

Format = Literal["auto", "json", "avro"]


@dataclass(frozen=True)
class Form:
    """`columns` are those in use, None for all of them; only they are decoded and made canonical.

    `types` are declared ones (`declared_types`). `auto` is Avro where a record is framed so, else JSON.
    """

    format: Format = "auto"
    framing: Framing = "auto"
    columns: tuple[str, ...] | None = None
    types: Mapping[str, Declared] = field(default_factory=dict, hash=False)

    @cached_property
    def json(self) -> JsonReader:
        """Decoders for JSON, which learn a table's embedded schemas as they come."""
        return JsonReader(self.columns, self.types)

    @cached_property
    def avro(self) -> AvroReader:
        """Decoders for Avro, one for each writer's schema that came."""
        return AvroReader(self.columns, self.types)
