"""What the C library does with memory that was freed: kept between passes, given back to the system once in a while.

A pass allocates and frees tensors of megabytes, 150 MiB of them in MiniLM. glibc returns such blocks to the system at
once and asks for them again, so that every pass touched new pages: 500,000 page faults for 42,000 tokens, a fifth of
the time. Kept, they serve the next pass, which needs blocks of the same few sizes (`budget.padded`).
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt; malloc.h
_LARGEST_KEPT = 32 * 2**20  # bytes of one block: the most that glibc admits
_MOST_KEPT = 512 * 2**20  # bytes at the end of the heap


def keep_freed() -> None:
    """Let freed blocks stay with this process. Does nothing where the C library is not glibc."""
    if (mallopt := _function("mallopt")) is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)
        mallopt(_TRIM_THRESHOLD, _MOST_KEPT)


def give_back() -> None:
    """Return the free pages of the C library's heap. Does nothing where that library is not glibc."""
    if (trim := _function("malloc_trim")) is not None:
        trim(0)


@cache
def _function(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None), name, None)
    except (OSError, TypeError):  # no C library to be found by its functions, as on Windows
        return None
