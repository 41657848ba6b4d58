"""How texts share forward passes: by padded tokens, not by count, so that one pass always costs about the same."""

from __future__ import annotations

from collections.abc import Sequence


def pack(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Group texts of these token lengths into passes of at most `budget` padded tokens (count times the longest).

    At most an eighth of the budget is padding: a few short texts beside a long one would cost as much as it does.

    Returns the passes as lists of indices into `lengths`, longest texts first: the peak of memory comes at once, and
    neighbours in length share a pass, so that little is padding. Every index appears exactly once. A text longer than
    the budget goes alone.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    passes: list[list[int]] = []
    longest = padding = 0
    for index in order:
        padding += longest - lengths[index]
        if passes and (len(passes[-1]) + 1) * longest <= budget and 8 * padding <= budget:
            passes[-1].append(index)
        else:
            passes.append([index])
            longest, padding = lengths[index], 0
    return passes


def padded(length: int) -> int:
    """The length that a text is padded to: the next multiple of 8, beyond 128 tokens of an eighth of its power of two.

    So passes have few shapes (about a hundred numbers of padded tokens below 1,024), and what is compiled or allocated
    for one serves the next. It is a few per cent more work; rounding within each layer copied each layer's input.
    """
    step = max(1 << max(0, length.bit_length() - 4), 8)
    return -(-length // step) * step
