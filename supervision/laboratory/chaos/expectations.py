"""The expectations of a scenario: conditions that hold always, eventually, after the faults, or at least once.

    world.invariant("one leader", lambda: None if leaders <= 1 else f"{leaders} leaders")
    await world.eventually("everybody is in", lambda: len(present) == 50, within=10)
    await world.recovered("everybody is back", lambda: len(present) == 50, within=30)
    world.sometimes("two joined at once", racing)

Expectations work the same in a simulation and on a live system. A simulation checks them between any two rounds of the
scheduler. A live run checks them at intervals.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from inspect import isawaitable
from typing import Any

import trio

from supervision.laboratory.chaos.errors import InvariantViolated, NotReached
from supervision.recording.describe import describe

__all__ = ["CHECK", "Expectations", "failures_in", "problem_of"]

CHECK = "check"
"""The name of the invariant that a failed `check` violates."""

_PAUSE = 0.05
"""Seconds between two checks of an async condition."""


class _Waiting:
    """A condition that a task waits for."""

    def __init__(self, holds: Callable[[], Any]) -> None:
        self.holds = _here(holds)
        self.value: Any = None
        self.failure: BaseException | None = None
        self.event = trio.Event()

    def look(self) -> None:
        try:
            self.value = self.holds()
        except BaseException as error:  # `_until` raises it again in the waiting scenario
            self.failure = error
        if self.value or self.failure is not None:
            self.event.set()


def _here(function: Callable[[], Any]) -> Callable[[], Any]:
    """Bind a function to the current context. The scheduler calls it later, between rounds, outside any runtime."""
    return partial(copy_context().run, function)


class Expectations:
    """The expectations of one run.

    Args:
        now: a function that returns the seconds of the run.
        heal: a function that stops the faults and undoes them, for `recovered`.
        reached: a function. It gets the name of a `sometimes` condition when the condition is true for the first time.
        every: the seconds between two checks of a condition; None if the scheduler calls `look` between any two rounds.
        failed: a function. It gets the error of a failed `check` or `eventually`, just before the method raises it.

    Attributes:
        always: the invariants with their names, in order.
        seen: for each name passed to `sometimes`, True if the condition was ever true.
        woken: the number of tasks that `look` has woken so far. It wakes a task when the task's condition holds.
    """

    def __init__(
        self,
        *,
        now: Callable[[], float] = trio.current_time,
        heal: Callable[[], Any] | None = None,
        reached: Callable[[str], None] | None = None,
        every: float | None = None,
        failed: Callable[[BaseException], object] = lambda error: None,
    ) -> None:
        self.always: list[tuple[str, Callable[[], str | None]]] = []
        self.seen: dict[str, bool] = {}
        self.woken = 0
        self._now = now
        self._heal = heal
        self._reached = reached
        self._every = every
        self._failed = failed
        self._waiting: list[_Waiting] = []

    # For scenarios

    def invariant(self, name: str, check: Callable[[], str | None]) -> None:
        """Check an invariant for the rest of the run.

            world.invariant("one leader", lambda: None if leaders <= 1 else f"{leaders} leaders")

        A violation fails the run, but a live run continues to its end.

        Args:
            name: the name for reports. A shrunk run must break the same invariant.
            check: returns a problem or None. It must neither wait nor change anything.
        """
        self.always.append((name, _here(check)))

    def check(self, holds: object, problem: str) -> None:
        """Fail the run unless a condition holds.

        Raises:
            InvariantViolated: the condition does not hold. The error's `invariant` is "check".
        """
        if not holds:
            error = InvariantViolated(CHECK, self._now(), problem)
            self._failed(error)
            raise error

    def sometimes(self, name: str, condition: object = True) -> None:
        """Name a condition that at least one run of a sweep must reach, and record its value.

            world.sometimes("a join found the room closing", room.closing)

        Call it in each place where the condition may be true, and pass the current value. A sweep reports each name
        whose condition was never true, but only if at least one run has passed the name to this method.
        """
        if self.seen.get(name):
            return
        self.seen[name] = bool(condition)
        if condition and self._reached is not None:
            self._reached(name)

    async def eventually(self, name: str, holds: Callable[[], Any], *, within: float) -> Any:
        """Wait until a condition holds.

            await world.eventually("the room is back", lambda: whereis("lobby"), within=5)

        Args:
            name: the name for reports.
            holds: returns a true value if the condition holds. It must change nothing. It may be async; the world then
                calls it every 50 ms.
            within: the time limit in seconds.

        Returns:
            The true value that `holds` returned.

        Raises:
            NotReached: the condition did not hold in time. The error's `last` is the last value.
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
                error = NotReached(name, within, self._now(), describe(value))
                self._failed(error)
                raise error
            if asked or self._every is not None:
                await trio.sleep(min(left, self._every or _PAUSE))
            elif seen := await self._until(holds, left):
                return seen

    async def recovered(self, name: str, holds: Callable[[], Any], *, within: float) -> Any:
        """Stop the faults, undo them, and wait until the system has recovered.

            await world.recovered("all rooms answer", all_answer, within=30)

        The arguments, the result and the errors are the same as for `eventually`.
        """
        if self._heal is not None:
            healing = self._heal()
            if isawaitable(healing):
                await healing
        return await self.eventually(name, holds, within=within)

    async def _until(self, holds: Callable[[], Any], left: float) -> Any:
        """Wait until `look` finds that `holds` is true, or until the time is over. Return the last value.

        The condition may be false again by the time this task runs.
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
        """Check every invariant and every awaited condition, and return the first violation.

        Raises:
            Exception: a check of an invariant raised it.
        """
        for name, check in self.always:
            problem = check()
            if problem is not None:
                return InvariantViolated(name, self._now(), problem)
        for waiting in tuple(self._waiting):
            waiting.look()
            if waiting.event.is_set():
                self._waiting.remove(waiting)
                self.woken += 1
        return None


def failures_in(error: BaseException) -> list[BaseException]:
    """Return the failures in a group of exceptions, at any depth. An exception that is no group is one failure.

    A cancellation counts as a failure only if the group has nothing else.
    """
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    inner = [failure for each in error.exceptions for failure in failures_in(each)]
    return [each for each in inner if not isinstance(each, trio.Cancelled)] or inner


def problem_of(error: BaseException) -> str:
    """Return the type and the text of a failure. For a group, join the texts of its failures."""
    return "; and ".join(f"{type(each).__name__}: {each}" for each in failures_in(error))
