"""What a scenario expects of the system that it runs: always, eventually, after the faults, and at least once.

    world.invariant("one leader", lambda: None if leaders <= 1 else f"{leaders} leaders")
    await world.eventually("everybody is in", lambda: len(present) == 50, within=10)
    await world.recovered("everybody is back", lambda: len(present) == 50, within=30)
    world.sometimes("two joined at once", racing)

The same in a simulation and on a live system. Only when is looked differs: between any two rounds of the scheduler, or,
where nobody can look then, again and again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from inspect import isawaitable
from typing import Any

import trio

from supervision.chaos.errors import InvariantViolated, NotReached
from supervision.recording.describe import describe

__all__ = ["CHECK", "Expectations"]

CHECK = "check"
"""The name of the invariant of all that has none: what `check` is given."""

_PAUSE = 0.05
"""Seconds between two looks at a condition that has to be awaited, each of which is work for somebody."""


class _Waiting:
    """Somebody who waits for a condition to hold."""

    def __init__(self, holds: Callable[[], Any]) -> None:
        self.holds = _here(holds)
        self.value: Any = None
        self.failure: BaseException | None = None
        self.event = trio.Event()

    def look(self) -> None:
        try:
            self.value = self.holds()
        except (
            BaseException
        ) as error:  # it is the scenario's own, and raised where the scenario waits
            self.failure = error
        if self.value or self.failure is not None:
            self.event.set()


def _here(function: Callable[[], Any]) -> Callable[[], Any]:
    """The same, called from anywhere as if from here: who looks between two rounds is in no runtime."""
    return partial(copy_context().run, function)


class Expectations:
    """The expectations of one run.

    Args:
        now: seconds, on the clock of the run.
        heal: stops the faults and undoes what they did, for `recovered`.
        every: seconds between two looks at a condition that somebody waits for; None if whoever runs the scheduler
            calls `look` between any two rounds.

    Attributes:
        always: the invariants, by name, in the order in which they were given.
        seen: for each name that `sometimes` was called with, whether its condition was ever true.
    """

    def __init__(
        self,
        *,
        now: Callable[[], float] = trio.current_time,
        heal: Callable[[], Any] | None = None,
        every: float | None = None,
    ) -> None:
        self.always: list[tuple[str, Callable[[], str | None]]] = []
        self.seen: dict[str, bool] = {}
        self._now = now
        self._heal = heal
        self._every = every
        self._waiting: list[_Waiting] = []

    # For scenarios

    def invariant(self, name: str, check: Callable[[], str | None]) -> None:
        """Check something for as long as the run lasts.

        Args:
            name: for reports; a shrunk run has to break the same one.
            check: answers what is wrong, or None. It must not wait, and must change nothing.
        """
        self.always.append((name, _here(check)))

    def check(self, holds: object, problem: str) -> None:
        """Fail the run if something does not hold that should.

        Raises:
            InvariantViolated: named "check".
        """
        if not holds:
            raise InvariantViolated(CHECK, self._now(), problem)

    def sometimes(self, name: str, condition: object = True) -> None:
        """Note whether something was the case: over all runs of a sweep it should have been, once at least.

            world.sometimes("a join found the room closing", room.closing)

        Call it where it could be the case, also when it is not: a name that was never true is reported, one that was
        never called is not known.
        """
        self.seen[name] = self.seen.get(name, False) or bool(condition)

    async def eventually(self, name: str, holds: Callable[[], Any], *, within: float) -> Any:
        """Wait until something holds.

            await world.eventually("the room is back", lambda: whereis("lobby"), within=5)

        Args:
            name: for reports.
            holds: answers anything that is true when it holds; it may be async, and is then asked every 50 ms. It must
                change nothing.
            within: seconds that it may take.

        Returns:
            What `holds` answered.

        Raises:
            NotReached: it did not hold in time; with what was seen last.
        """
        deadline = self._now() + within
        while True:
            answer = holds()
            asked = isawaitable(answer)
            value = await answer if isawaitable(answer) else answer
            left = deadline - self._now()
            if value:
                return value
            if left <= 0:
                raise NotReached(name, within, self._now(), describe(value))
            if asked or self._every is not None:
                await trio.sleep(min(left, self._every or _PAUSE))
            elif seen := await self._until(holds, left):
                return seen

    async def recovered(self, name: str, holds: Callable[[], Any], *, within: float) -> Any:
        """Stop the faults, undo what they did, and wait until something holds: the system comes back by itself.

            await world.recovered("all rooms answer", all_answer, within=30)

        Args, Returns and Raises: as `eventually`.
        """
        if self._heal is not None:
            healing = self._heal()
            if isawaitable(healing):
                await healing
        return await self.eventually(name, holds, within=within)

    async def _until(self, holds: Callable[[], Any], left: float) -> Any:
        """Wait until it holds, as who looks between the rounds says, or the time is up; return what it answered.

        It need not hold any more when whoever waits gets to run.
        """
        waiting = _Waiting(holds)
        self._waiting.append(waiting)
        try:
            with trio.move_on_after(left):
                await waiting.event.wait()
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
        if waiting.failure is not None:
            raise waiting.failure
        return waiting.value

    # For the run

    def look(self) -> InvariantViolated | None:
        """Look at every invariant, and at what somebody waits for; return the first invariant that does not hold.

        Raises:
            Exception: whatever a check raises.
        """
        for name, check in self.always:
            problem = check()
            if problem is not None:
                return InvariantViolated(name, self._now(), problem)
        for waiting in tuple(self._waiting):
            waiting.look()
            if waiting.event.is_set():
                self._waiting.remove(waiting)
        return None

    def clear(self) -> None:
        """Expect nothing any more."""
        # In place: whoever shows this list shows this one.
        self.always.clear()
        self._waiting.clear()
