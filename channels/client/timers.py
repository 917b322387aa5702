"""Timers without a clock: functions and the times at which to call them.

*pure*: the caller passes the time.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["Timer", "Timers"]


class Timer:
    """One timer of a `Timers`."""

    __slots__ = ("argument", "callback", "number", "when")

    def __init__(
        self, when: float, number: int, callback: Callable[[Any], object], argument: Any
    ) -> None:
        self.when = when
        self.number = number
        self.callback: Callable[[Any], object] | None = callback
        self.argument = argument

    def __lt__(self, other: Timer) -> bool:
        return (self.when, self.number) < (other.when, other.number)


class Timers:
    """The timers of one client, in the order of their times. Of two timers for the same time, the older runs first.

    >>> timers = Timers()
    >>> _ = timers.start(5.0, print, "hello")
    >>> timers.deadline
    5.0
    >>> for timer in timers.due(5.0):
    ...     timer.callback(timer.argument)
    hello
    """

    __slots__ = ("_cancelled", "_heap", "_number")

    def __init__(self) -> None:
        self._heap: list[Timer] = []
        self._number = 0
        self._cancelled = 0

    def start(self, when: float, callback: Callable[[Any], object], argument: Any = None) -> Timer:
        """Start a timer that calls `callback(argument)` at the time `when`."""
        self._number += 1
        timer = Timer(when, self._number, callback, argument)
        heapq.heappush(self._heap, timer)
        return timer

    def cancel(self, timer: Timer | None) -> None:
        """Cancel a timer. This does nothing for None, or for a timer that has run."""
        if timer is None or timer.callback is None:
            return
        timer.callback = timer.argument = None
        self._cancelled += 1
        # Remove cancelled timers. Otherwise a busy client would hold the timers of all pushes of the last ten seconds.
        if self._cancelled > 32 and self._cancelled * 2 > len(self._heap):
            self._heap = [each for each in self._heap if each.callback is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    @property
    def deadline(self) -> float:
        """The time of the next timer; infinity if there is none."""
        heap = self._heap
        while heap and heap[0].callback is None:
            heapq.heappop(heap)
            self._cancelled -= 1
        return heap[0].when if heap else math.inf

    def due(self, now: float) -> Iterator[Timer]:
        """Remove and yield the timers that are due at `now`. Include timers that start during the iteration."""
        while self.deadline <= now:
            timer = heapq.heappop(self._heap)
            callback, timer.callback = timer.callback, None
            assert callback is not None  # the cancelled ones are skipped
            yield Timer(timer.when, timer.number, callback, timer.argument)
