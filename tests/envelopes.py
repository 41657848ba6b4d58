"""Records as the connector writes them, made by hand, for what no healthy connector would ever write."""

from __future__ import annotations

import json
from typing import Any

Raw = tuple[bytes | None, bytes | None]  # key, value


def key(number: int) -> bytes:
    return json.dumps({"id": number}).encode()


def row(number: int, title: Any = "A title", body: Any = "a body", **columns: Any) -> dict[str, Any]:
    """A row of a world's table, published unless `columns` says otherwise."""
    plain = {"id": number, "title": title, "body": body, "category": "home", "price": "1.00", "status": "published"}
    return plain | columns


def change(after: dict[str, Any], op: str = "u", **source: Any) -> Raw:
    """A change event that leaves the row as `after`; `source` overrides parts of the event's `source`."""
    origin = {"ts_us": 1_700_000_000_000_000, "sequence": None, **source}
    return key(after["id"]), json.dumps(
        {"op": op, "after": after, "source": origin, "ts_ms": 1_700_000_000_001}
    ).encode()


def tombstone(number: int) -> Raw:
    return key(number), None
