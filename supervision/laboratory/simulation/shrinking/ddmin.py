"""Delta debugging of sequences, and bisection of numbers. *pure*.

    ddmin(range(100), lambda part: {3, 70} <= set(part))         # [3, 70]

The algorithm is from A. Zeller and R. Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", IEEE
Transactions on Software Engineering 28 (2002).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

__all__ = ["ddmin", "least"]

Item = TypeVar("Item")


def ddmin(items: Sequence[Item], fails: Callable[[list[Item]], bool]) -> list[Item]:
    """Return a part of `items` that still fails, but passes if any single item is removed.

        ddmin("a needle in a haystack", lambda part: "x" in part or len(part) > 20)

    Args:
        items: the items, which fail together. `ddmin` does not try the complete sequence again.
        fails: returns True if a part of the items, in the same order, fails too. To stop the search early, it may
            return False for all further parts.

    Returns:
        The remaining items. A smaller failing part may exist, because the search for the smallest takes exponentially
        many trials. For n items of which a few matter, `ddmin` takes a small multiple of log n trials.
    """
    left = list(items)
    if left and fails([]):
        return []
    pieces = 2
    while len(left) > 1:
        chunks = _split(left, pieces)
        smaller = _first_that_fails(chunks, fails)
        if smaller is not None:
            left, pieces = smaller
        elif pieces < len(left):
            pieces = min(len(left), 2 * pieces)
        else:
            break
    return left


def _split(items: list[Item], pieces: int) -> list[list[Item]]:
    pieces = min(pieces, len(items))
    size, more = divmod(len(items), pieces)
    ends = [n * size + min(n, more) for n in range(pieces + 1)]
    return [items[begin:end] for begin, end in pairwise(ends)]


def _first_that_fails(
    chunks: list[list[Item]], fails: Callable[[list[Item]], bool]
) -> tuple[list[Item], int] | None:
    """Return the first failing part (one chunk, or all other chunks), and the number of pieces to split it into."""
    for chunk in chunks:
        if fails(chunk):
            return chunk, 2
    if len(chunks) == 2:
        # With two chunks, the rest without one chunk is the other chunk, which has passed.
        return None
    for index in range(len(chunks)):
        rest = [item for other, chunk in enumerate(chunks) if other != index for item in chunk]
        if fails(rest):
            return rest, max(2, len(chunks) - 1)
    return None


def least(number: int, fails: Callable[[int], bool], *, lowest: int = 0) -> int:
    """Return the least number that fails. This assumes that every greater number fails too.

        least(1000, lambda number: number >= 37)        # 37

    Args:
        number: a number that fails. `least` does not try it again.
        fails: returns True if another number fails.
        lowest: the least number to try.

    Returns:
        A failing number whose predecessor passes, or `lowest`. If the assumption is wrong, a lesser number may fail.
    """
    if number <= lowest:
        return number
    if fails(lowest):
        return lowest
    passes, found = lowest, number
    while found - passes > 1:
        middle = (passes + found) // 2
        if fails(middle):
            found = middle
        else:
            passes = middle
    return found
