"""What an injector is going to do, and the task that does it in time.

A system task of Trio, and not a process: it is in no tree, nobody waits for it, and a runtime can be left while it
sleeps. It takes the same steps whether its next deed is near or far, or whether there is none, so that what is planned
for later changes nothing before.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

import trio

__all__ = ["Agenda"]


class Agenda:
    """Deeds, each with its time.

    Args:
        done: called whenever something was done.
    """

    def __init__(self, done: Callable[[], None]) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = 0
        self._scope = trio.CancelScope()
        self._nap: trio.CancelScope | None = None
        self._done = done

    def __len__(self) -> int:
        return len(self._heap)

    def start(self) -> None:
        """Begin to keep time."""
        trio.lowlevel.spawn_system_task(self._run, name="faults")

    def at(self, time: float, deed: Callable[[], None]) -> None:
        """Do something at a time of `trio.current_time`; of the same time, what was put here first is done first."""
        self._numbers += 1
        heapq.heappush(self._heap, (time, self._numbers, deed))
        if self._nap is not None and time < self._nap.deadline:
            self._nap.deadline = time

    def clear(self) -> None:
        """Forget everything that was not done."""
        self._heap.clear()

    def stop(self) -> None:
        """Forget everything, and keep time no longer."""
        self.clear()
        self._scope.cancel()

    async def _run(self) -> None:
        with self._scope:
            while True:
                self._do_what_is_due(trio.current_time())
                deadline = self._heap[0][0] if self._heap else math.inf
                with trio.CancelScope(deadline=deadline) as self._nap:
                    # Without a limit: it is ended by `stop`, or with the whole run of Trio.
                    await trio.sleep_forever()
                self._nap = None

    def _do_what_is_due(self, now: float) -> None:
        # What a deed adds for this very moment comes in the next round.
        last, did = self._numbers, False
        while self._heap and self._heap[0][0] <= now and self._heap[0][1] <= last:
            heapq.heappop(self._heap)[2]()
            did = True
        if did:
            self._done()
