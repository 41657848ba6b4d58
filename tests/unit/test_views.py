"""What the jobs print for people."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from consumer.cli.views import show_hit
from consumer.store import Generation, SearchHit


def test_a_row_cannot_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    moment = datetime(2026, 1, 31, 12, tzinfo=UTC)
    hit = SearchHit(
        distance=0.25,
        source="shop.public.products",
        source_key={"id": "\x9b31m"},
        chunk_no=0,
        content="Old\x1b]0;brass\x07\r\n lamp \x9b2J\U0001f468\u200d\U0001f4bb",
        metadata={"category": "\x1b[2J"},
        content_hash=b"",
        kafka_topic="shop.public.products",
        kafka_partition=0,
        kafka_offset=7,
        source_committed_at=moment,
        embedded_at=moment,
    )
    show_hit(1, hit, Generation(1, "live", b"", "tiny", 4, "vector", "cosine", 16, 64, "chunks_1"))
    out = capsys.readouterr().out
    assert "Old\ufffd]0;brass\ufffd lamp \ufffd2J\U0001f468\u200d\U0001f4bb" in out
    assert not [letter for letter in out if letter != "\n" and (ord(letter) < 32 or 127 <= ord(letter) < 160)]
