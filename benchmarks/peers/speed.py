"""How long until all is searchable, and what was embedded for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median

from benchmarks.peers.trial import LONG, Trial, rows

FIRST = 10  # the first id under measurement
SINGLES = 10


def short_texts(world: Trial, count: int, cap: float) -> Mapping[str, float]:
    """Load, 1 % edits, single edits and edits of another column, on a warm contender. Times in seconds.

    The clock starts before the statement is sent, so that triggers are paid by whoever has them.
    """
    world.warm()
    before = world.quiet()
    numbers = range(FIRST, FIRST + count)
    load = _timed(world, lambda: world.insert(rows("first", numbers)), "first", count, cap)
    loaded = world.quiet()
    edited = numbers[::100]
    edits = _timed(world, lambda: world.edit(rows("edited", edited)), "edited", len(edited), cap)
    after_edits = world.quiet()
    touched = count // 10
    world.run("UPDATE {} SET views = views + 1 WHERE number >= %s AND number < %s", [FIRST, FIRST + touched])
    world.sentinel(2)
    needless = world.quiet() - after_edits - 1
    singles = [_single(world, number) for number in range(SINGLES)]
    return {
        "load_s": load,
        "load_embedded": loaded - before,
        "edits_s": edits,
        "edits": len(edited),
        "edits_embedded": after_edits - loaded,
        "touched": touched,
        "touched_embedded": needless,
        "single_edit_s": median(singles),
    }


def long_texts(world: Trial, count: int, cap: float) -> Mapping[str, float]:
    """The first load of texts of some eight chunks; then one changed word in the first of them."""
    world.warm()
    before = world.quiet()
    numbers = range(FIRST, FIRST + count)
    load = _timed(world, lambda: world.insert(rows("first", numbers, LONG)), "first", count, cap)
    loaded = world.quiet()
    edit = _timed(world, lambda: world.edit(rows("edited", [FIRST], LONG)), "edited", 1, cap)
    return {
        "long_load_s": load,
        "long_load_embedded": loaded - before,
        "long_edit_s": edit,
        "long_edit_embedded": world.quiet() - loaded,
    }


def _single(world: Trial, number: int) -> float:
    """One row edited on a contender that has nothing else to do, somewhere between two looks of one that polls."""
    time.sleep(number * 0.37 % 1)
    marker = f"single-{number}"
    return _timed(world, lambda: world.edit(rows(marker, [FIRST + number])), marker, 1, 60)


def _timed(world: Trial, write: Callable[[], None], marker: str, count: int, cap: float) -> float:
    began = time.perf_counter()
    write()
    world.until(lambda: world.found(marker) == count, cap)
    return time.perf_counter() - began
