"""Which segments become one: as few as possible for a search, and each row indexed anew only a few times."""

from __future__ import annotations

import pytest

from consumer.store.merging import LARGEST, chosen
from consumer.store.segments import Segment

LIMIT = 1000


def sealed(*live: int) -> list[Segment]:
    return [Segment(number, True, True, rows, rows) for number, rows in enumerate(live, 1)]


def sizes(segments: list[Segment]) -> list[int]:
    return [segment.live for segment in segments]


@pytest.mark.parametrize(
    ("live", "busy", "quiet"),
    [
        ((), [], []),
        ((1000,), [], []),
        ((1000, 1000), [], [1000, 1000]),
        ((400, 1000), [], []),
        ((1000, 1000, 1000, 1000), [1000] * 4, [1000] * 4),
        ((1000, 1000, 1000, 1000, 9000), [1000] * 4, [1000] * 4),
        ((5000, 1000, 1000, 1000), [], [1000, 1000, 1000, 5000]),
        ((LARGEST * LIMIT, LARGEST * LIMIT), [], []),
    ],
)
def test_those_are_merged_that_weigh_enough_against_the_largest(
    live: tuple[int, ...], busy: list[int], quiet: list[int]
) -> None:
    assert sizes(chosen(sealed(*live), LIMIT, quiet=False)) == busy
    assert sizes(chosen(sealed(*live), LIMIT, quiet=True)) == quiet


def test_one_that_has_lost_half_of_its_rows_or_all_is_made_anew() -> None:
    half, empty = Segment(2, True, True, 4000, 8000), Segment(3, True, True, 0, 0)
    for quiet in (False, True):
        assert chosen([*sealed(9000), half], LIMIT, quiet=False) == [half]
        assert chosen([*sealed(9000), empty], LIMIT, quiet=quiet) == [empty]


def test_however_many_come_few_are_left_and_no_row_is_indexed_often() -> None:
    """A hundred sealed one after the other: the merges that follow, counted in rows."""
    segments, indexed = list[Segment](), 0
    for number in range(100):
        segments.append(Segment(number, True, True, LIMIT, LIMIT))
        indexed += LIMIT
        while parts := chosen(segments, LIMIT, quiet=False):
            rows = sum(sizes(parts))
            indexed += rows
            segments = [s for s in segments if s not in parts] + [Segment(1000 + indexed, True, True, rows, rows)]
    assert sum(sizes(segments)) == 100 * LIMIT
    assert len(segments) <= 3 * 2 + 100 // LARGEST + 1
    assert indexed <= 4 * 100 * LIMIT
