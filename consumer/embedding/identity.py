"""What makes two vectors comparable: everything in here equal, or not comparable at all."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from hashlib import sha256


@dataclass(frozen=True, slots=True)
class Identity:
    """The configuration identity of an engine. `weights_sha256` and `setup_sha256` are hex.

    `model` is as configured, except for a local folder, which goes by its name alone: two machines may keep the same
    files in different places. `profile` names the engine and its arithmetic.
    """

    model: str
    revision: str
    weights_sha256: str
    setup_sha256: str
    document_prompt: str
    query_prompt: str
    pooling: str
    normalize: bool
    dimension: int
    dtype: str
    profile: str

    def describe(self) -> dict[str, str | int | bool]:
        """Every part by name, so that a mismatch can say what differs."""
        return asdict(self)

    @property
    def config_hash(self) -> bytes:
        """32 bytes over `describe()`."""
        described = json.dumps(self.describe(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return sha256(described.encode()).digest()
