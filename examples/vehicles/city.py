"""The streets of a small city, and routes through them.

*pure*. The server sends the streets to each page, and the vehicles drive along them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from random import Random

__all__ = ["AVENUES", "HEIGHT", "STREETS", "WIDTH", "trip"]

WIDTH, HEIGHT = 100.0, 64.0

STREETS = {"Ash St": 7.0, "Birch St": 26.0, "Elm St": 47.0, "Hazel St": 71.0, "Oak St": 93.0}
"""The streets from north to south: the name and the position of each."""

AVENUES = {"1st Ave": 7.0, "2nd Ave": 24.0, "3rd Ave": 43.0, "4th Ave": 57.0}
"""The avenues from west to east: the name and the position of each."""

_XS, _YS = tuple(STREETS.values()), tuple(AVENUES.values())


def trip(random: Random, *, step: float = 1.0) -> Iterator[tuple[float, float]]:
    """Yield the positions of a vehicle that drives without end, and never turns back at a crossing.

    Args:
        random: chooses the start, and a street at each crossing.
        step: the greatest distance between two positions.

    Every crossing on the way is one of the positions, so a line through all of them follows the streets.
    """
    before = here = random.randrange(len(_XS)), random.randrange(len(_YS))
    while True:
        there = random.choice([crossing for crossing in _next_to(*here) if crossing != before])
        yield from _street(here, there, step)
        before, here = here, there


def _next_to(column: int, row: int) -> list[tuple[int, int]]:
    around = [(column - 1, row), (column + 1, row), (column, row - 1), (column, row + 1)]
    return [(x, y) for x, y in around if 0 <= x < len(_XS) and 0 <= y < len(_YS)]


def _street(
    here: tuple[int, int], there: tuple[int, int], step: float
) -> Iterator[tuple[float, float]]:
    x, y = _XS[here[0]], _YS[here[1]]
    dx, dy = _XS[there[0]] - x, _YS[there[1]] - y
    steps = math.ceil(math.hypot(dx, dy) / step)
    for number in range(1, steps + 1):
        yield x + dx * number / steps, y + dy * number / steps
