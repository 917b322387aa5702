"""Making something smaller that still fails: delta debugging, and bisecting to the least number.

    ddmin(range(100), lambda part: {3, 70} <= set(part))         # [3, 70]

Knows nothing of what the parts are; trying one out is the caller's business. After A. Zeller and R. Hildebrandt,
"Simplifying and Isolating Failure-Inducing Input", IEEE Transactions on Software Engineering 28 (2002).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

__all__ = ["ddmin", "least"]

Item = TypeVar("Item")


def ddmin(items: Sequence[Item], fails: Callable[[list[Item]], bool]) -> list[Item]:
    """A part of `items` that still fails, and of which no single item can be taken away.

        ddmin("a needle in a haystack", lambda part: "x" in part or len(part) > 20)

    Args:
        items: all of them together fail; that is not tried again.
        fails: whether a part of them, in their order, fails, too. It may answer False to make an end.

    Returns:
        The items that are left. Not the smallest part that fails, of which there may be several, far apart: that would
        take an exponential number of trials. For n items of which a few matter, it takes a few times log n.
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
    """A chunk, or all but one of them, that fails; and into how many pieces it is to be cut next."""
    for chunk in chunks:
        if fails(chunk):
            return chunk, 2
    if len(chunks) == 2:
        # All but one of two is the other one.
        return None
    for index in range(len(chunks)):
        rest = [item for other, chunk in enumerate(chunks) if other != index for item in chunk]
        if fails(rest):
            return rest, max(2, len(chunks) - 1)
    return None


def least(number: int, fails: Callable[[int], bool], *, lowest: int = 0) -> int:
    """The least number that fails, if whatever is greater than one that fails does, too.

        least(1000, lambda number: number >= 37)        # 37

    Args:
        number: fails; that is not tried again.
        fails: whether another one does.
        lowest: the first one to be tried.

    Returns:
        A number that fails, whose predecessor does not, or `lowest`. Where failures come and go with the number, there
        may be a lesser one.
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
