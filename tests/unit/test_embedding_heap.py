"""Memory that is free goes back to the system where the C library can do it."""

from __future__ import annotations

import platform

import psutil

from consumer.embedding.heap import give_back

BLOCK, BLOCKS = 64 * 1024, 1_600  # 100 MiB in blocks that are part of the heap, not mappings of their own


def resident() -> int:
    return int(psutil.Process().memory_info().rss)


def test_what_lies_free_between_used_blocks_goes_back() -> None:
    blocks = [bytes([number % 255 + 1]) * BLOCK for number in range(BLOCKS)]
    kept = blocks[::20]
    full = resident()
    del blocks
    give_back()
    assert all(block[-1] for block in kept)
    if platform.libc_ver()[0] == "glibc":
        assert full - resident() > BLOCK * BLOCKS // 2
