"""Memory that is free stays between passes, and goes back to the system when it is told to, where the C library can."""

from __future__ import annotations

import platform
import subprocess
import sys

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


TOUCHES = """
import resource
from consumer.embedding.heap import keep_freed
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def blocks():
    for _ in range(10):
        [bytes([1]) * (4 << 20) for _ in range(10)]
blocks()
before = faults()
blocks()
between = faults()
keep_freed()
blocks()
after = faults()
blocks()
print(between - before, faults() - after)
"""


def test_freed_blocks_are_used_again_without_a_page_fault() -> None:
    said = subprocess.run([sys.executable, "-c", TOUCHES], capture_output=True, text=True, check=True)
    before, kept = map(int, said.stdout.split())
    if platform.libc_ver()[0] == "glibc":
        assert before > 10_000
        assert kept < before / 10
