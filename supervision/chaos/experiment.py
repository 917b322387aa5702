"""The course of an experiment: steady before, faults, steady after."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio
from attrs import frozen

from supervision.chaos.faults.kinds import Fault
from supervision.chaos.faults.report import is_inert
from supervision.chaos.invariants.base import Violation, Watch
from supervision.chaos.live.world import LiveWorld
from supervision.chaos.steady_state import SteadyState
from supervision.recording.describe import describe
from supervision.recording.trace import Trace

__all__ = ["Experiment", "Phases"]

_ROUNDS = 3
"""Of the scheduler, before the invariants are looked at: so many it takes until a call whose time is up has ended. In a
program that is held up, a pause alone may be over in one."""


@frozen(kw_only=True)
class Phases:
    """How long the parts of an experiment take, in seconds.

    Args:
        before: the steady state has to hold for so long before anything is broken.
        start_within: until it has to have begun to hold, from the start of the scenario on.
        after: for so long it has to hold when the faults are over.
        recover_within: until it has to have begun to hold again, after the faults were undone.
        finish_within: for the scenario to return when the experiment is over, before it is cancelled.
    """

    before: float = 5.0
    start_within: float = 30.0
    after: float = 5.0
    recover_within: float = 15.0
    finish_within: float = 10.0


class Experiment:
    """One experiment, while it lasts.

    Args:
        world: of the scenario.
        steadiness: the checks of its steady state.
        trace: where phases are written.
        plan: the faults.
        seconds: how long the phase of the faults takes.
        phases: how long the others take.
        on_phase: called with the name of each phase that begins.

    Attributes:
        problems: what went wrong.
        interrupted: whether `interrupt` was called.
    """

    def __init__(
        self,
        world: LiveWorld,
        steadiness: SteadyState,
        trace: Trace,
        *,
        plan: Sequence[Fault],
        seconds: float,
        phases: Phases,
        on_phase: Callable[[str], object],
    ) -> None:
        self.problems: list[str] = []
        self.interrupted = False
        self.healed = trio.Event()
        self._world = world
        self._steadiness = steadiness
        self._trace = trace
        self._plan = plan
        self._seconds = seconds
        self._phases = phases
        self._on_phase = on_phase
        self._begun = False
        self._watch_broke = False
        # Whether the faults are over, and whether it was the scenario that has ended them.
        self._undone = False
        self._asked = False
        self._waits = trio.CancelScope()

    # From outside

    def heal(self) -> None:
        """End the phase of the faults: the scenario has asked for it."""
        if not self._begun and not self.interrupted and not self._asked:
            self.problem(
                "the scenario asked for its recovery (world.recovered) before there were faults, so there will be "
                "none; let it work for longer before that, or shorten the phase before (--steady-for)"
            )
        self._asked = True
        self._undo()
        self.healed.set()

    def interrupt(self) -> None:
        """End the experiment early, and in order: what was broken is undone, and the steady state looked at."""
        self.interrupted = True
        self.healed.set()
        if not self._begun:
            self._waits.cancel()

    def scenario_returned(self) -> None:
        """There is nothing left to break."""
        if self.interrupted or self._world.over.is_set():
            return
        if not self._begun:
            self.problem(
                "the scenario returned before the experiment had begun; let it end with "
                "`await world.until_over()`"
            )
        elif not self._asked:
            self.problem(
                "the scenario returned before the experiment was over, and nobody has seen whether the system came "
                "back; let it end with `await world.until_over()`, or with `await world.recovered(...)`"
            )

    def look_back(self) -> None:
        """Say at the end, however it came about, if nothing was broken."""
        reports = self._world.faults.report()
        if self._begun and not self.interrupted and is_inert(reports):
            first = f"{reports[0].text}: {reports[0].why}"
            self.problem(f"none of the {len(reports)} planned faults was applied; {first}")

    def problem(self, text: str) -> None:
        """Note what went wrong."""
        self.problems.append(text)
        self._trace.add("problem", {"pid": None, "problem": text})

    # The course

    async def run(self) -> None:
        """Go through the phases, then tell the scenario that it is over."""
        try:
            with self._waits:
                await self._go()
        finally:
            self._world.over.set()

    async def _go(self) -> None:
        phases = self._phases
        self._phase("before")
        if not await self._steadiness.holds(phases.before, within=phases.start_within):
            self.problem(
                f"the experiment did not begin: within {phases.start_within:g} s there was no "
                f"steady state that held for {phases.before:g} s; {self._what_is_wrong()}"
            )
            return
        self._begun = True
        self._phase("during")
        self._world.faults.start(self._plan)
        if not self.healed.is_set():
            with trio.move_on_after(self._seconds):
                await self.healed.wait()
        self._phase("after")
        self._undo()
        after = min(phases.after, 1.0) if self.interrupted else phases.after
        if not await self._steadiness.holds(after, within=phases.recover_within):
            self.problem(
                f"the steady state did not come back within {phases.recover_within:g} s after the "
                f"faults, to hold for {after:g} s; {self._what_is_wrong()}"
            )

    def _undo(self) -> None:
        if self._begun and not self._undone:
            self._undone = True
            self._world.faults.heal()

    def _phase(self, name: str) -> None:
        self._trace.add("phase", {"pid": None, "phase": name})
        self._on_phase(name)

    def _what_is_wrong(self) -> str:
        wrong = [f"{name}: {problem}" for name, problem in self._steadiness.problems.items()]
        return "; ".join(wrong) or "it did not hold long enough"

    async def watch_invariants(self, watch: Watch | None, every: float) -> None:
        """Look at the invariants again and again; each that breaks is a problem, once."""
        expectations = self._world.expectations
        while True:
            await trio.sleep(every)
            for _ in range(_ROUNDS):
                await trio.lowlevel.checkpoint()
            try:
                violation = expectations.look()
            except (
                Exception
            ) as error:  # a check that is broken says nothing about the system any more
                expectations.always.clear()
                self.problem(
                    f"a check of an invariant raised {describe(error)}; none is checked any more"
                )
                continue
            if violation is not None:
                expectations.always[:] = [
                    each for each in expectations.always if each[0] != violation.invariant
                ]
                self._broken(violation.invariant, violation.problem)
            # Nobody rests on a live system, but between two looks everybody has had its turns.
            if watch is not None:
                self.look_at(watch.check)
                self.look_at(watch.at_rest)

    def look_at(self, check: Callable[[], Violation | None]) -> None:
        """Look once at the invariants of a `Watch`. The first that breaks is told; the rest may follow of it."""
        found = None if self._watch_broke else check()
        if found is not None:
            self._watch_broke = True
            self._broken(found.name, found.problem)

    def _broken(self, name: str, problem: str) -> None:
        self._trace.add("invariant", {"pid": None, "name": name, "problem": problem})
        self.problems.append(f"the invariant {name!r} was broken: {problem}")
