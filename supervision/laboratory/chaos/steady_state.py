"""The steady state: checks of a working system, repeated during the faults.

    steady.add("everybody is in the room", lambda: None if len(present) == 50 else f"{len(present)} of 50")

The state is steady while no check returns a problem.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio

from supervision.recording.describe import describe
from supervision.recording.trace import Trace

__all__ = ["SteadyCheck", "SteadyState"]

SteadyCheck: TypeAlias = Callable[[], str | Awaitable[str | None] | None]
"""A function that returns a problem or None. It may be async."""


class SteadyState:
    """The checks of one run, with their last results.

    Args:
        trace: the trace, which gets a `steady` event whenever a result changes.
        every: the seconds between two checks.
        within: the seconds within which an async check must return. A check that takes longer does not hold.

    Attributes:
        problems: the current problems by the names of the checks; empty while the state is steady.
        since: the time of Trio's clock at which the state became steady.
    """

    def __init__(self, trace: Trace, *, every: float = 0.05, within: float = 5.0) -> None:
        self.problems: dict[str, str] = {}
        self.since = 0.0
        self._trace = trace
        self._every = every
        self._within = within
        self._checks: dict[str, SteadyCheck] = {}
        self._known: dict[str, str | None] = {}
        self._is_over = False

    def add(self, name: str, check: SteadyCheck) -> None:
        """Add a check, or replace the check of that name."""
        self._checks[name] = check
        self.problems.setdefault(name, "no check has run yet")
        self.since = trio.current_time()

    def __bool__(self) -> bool:
        return bool(self._checks)

    async def watch(self) -> None:
        """Call all checks at intervals, until a call of `end`."""
        while not self._is_over:
            await self.look()
            await trio.sleep(self._every)

    def end(self) -> None:
        """Record no more results.

        After the experiment, the scenario stops its clients. The checks would report this as an outage.
        """
        self._is_over = True

    async def look(self) -> None:
        """Call every check once."""
        for name, check in list(self._checks.items()):
            problem = await self._ask(check)
            if not self._is_over:
                self._answered(name, problem)

    async def holds(self, seconds: float, *, within: float) -> bool:
        """Wait until the state has been steady for some seconds. Return False if it is not steady in time.

        Args:
            seconds: the time in seconds that the state must hold without a break.
            within: the time limit in seconds for the state to begin to hold. It counts from this call.
        """
        began = trio.current_time()
        deadline = began + within
        while True:
            await self.look()
            now = trio.current_time()
            if not self.problems and now - max(self.since, began) >= seconds:
                return True
            if now >= deadline and (self.problems or self.since > deadline):
                return False
            await trio.sleep(self._every)

    async def _ask(self, check: SteadyCheck) -> str | None:
        with trio.move_on_after(self._within) as limit:
            try:
                answer = check()
                if inspect.isawaitable(answer):
                    answer = await answer
            except Exception as error:  # a check that raises does not hold
                return f"the check raised {describe(error)}"
            if answer is None or isinstance(answer, str):
                return answer
            return f"the check returned {describe(answer)}; return None, or the problem as text"
        return f"the check took longer than {self._within:g} s" if limit.cancelled_caught else None

    def _answered(self, name: str, problem: str | None) -> None:
        if problem is None:
            was_broken = self.problems.pop(name, None) is not None
            if was_broken and not self.problems:
                self.since = trio.current_time()
        else:
            self.problems[name] = problem
        holds = problem is None
        known = name in self._known
        if not known or (self._known[name] is None) != holds:
            fields = {"pid": None, "name": name, "holds": holds}
            self._trace.add("steady", fields if holds else {**fields, "problem": problem})
        self._known[name] = problem
