"""All schedules of a seed with a bounded number of deviations from the canonical schedule, for small programs. *pure*.

A deviation is a round whose tasks run in another order. The first run has none. From the choices of each run follow the
schedules with one deviation more, in a later round. So each schedule runs once.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations

from supervision.laboratory.simulation.forks import ForkedSeed

__all__ = ["Exhaustive", "choices_after"]


class Exhaustive:
    """The schedules of some seeds, with fewer deviations first.

    Args:
        seeds: the seeds.
        deviations: the most deviations of a schedule.
        limit: the most runs.

    Attributes:
        count: the number of schedules that have run.
        exhausted: True if there are no further schedules.
    """

    def __init__(self, seeds: Sequence[int], deviations: int, limit: int) -> None:
        self.count = 0
        self._taken = 0
        self._deviations = deviations
        self._limit = limit
        self._current: Iterator[ForkedSeed] = (ForkedSeed(seed, (), {}) for seed in seeds)
        # The runs whose choices give further schedules. An array needs much less memory than a list of pairs.
        self._parents: deque[tuple[ForkedSeed, array[int]]] = deque()
        self.exhausted = False

    def take(self, most: int) -> list[ForkedSeed]:
        """Return the next schedules. There are none at the limit, or if all schedules have run."""
        taken: list[ForkedSeed] = []
        for _ in range(min(most, self._limit - self._taken)):
            following = self._next()
            if following is None:
                break
            taken.append(following)
        self._taken += len(taken)
        if not taken and self._taken < self._limit:
            self.exhausted = True
        return taken

    def add(self, start: ForkedSeed, choices: Sequence[int]) -> None:
        """Add the choices of a run: the rounds after its last deviation, each with its number of tasks."""
        self.count += 1
        if len(start.deviations or ()) < self._deviations:
            self._parents.append((start, array("I", choices)))

    def _next(self) -> ForkedSeed | None:
        while (following := next(self._current, None)) is None and self._parents:
            self._current = _children(*self._parents.popleft())
        return following

    def __str__(self) -> str:
        plural = "" if self._deviations == 1 else "s"
        what = f"{self.count:,} schedules with at most {self._deviations} deviation{plural}"
        return f"Exhausted: {what}." if self.exhausted else f"Not exhausted: {what} have run."


def _children(start: ForkedSeed, choices: Sequence[int]) -> Iterator[ForkedSeed]:
    for number, width in zip(choices[::2], choices[1::2], strict=True):
        for order in permutations(range(width)):
            if order != tuple(range(width)):
                yield ForkedSeed(start.seed, (), {**(start.deviations or {}), number: order})


def choices_after(ran: Sequence[int], deviations: Mapping[int, tuple[int, ...]]) -> list[int]:
    """Return the rounds with a choice after the last deviation: the number of each round, and its number of tasks.

    Args:
        ran: the numbers of the tasks that ran; 0 ends a round.
        deviations: the orders of rounds, by round number.
    """
    last, number, width, found = max(deviations, default=0), 1, 0, []
    for task in ran:
        if task:
            width += 1
            continue
        if width > 1 and number > last:
            found += [number, width]
        number, width = number + 1, 0
    return found
