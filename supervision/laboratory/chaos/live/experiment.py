"""The phases of an experiment: steady before, faults, steady after."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import trio
from attrs import frozen

from supervision.laboratory.chaos.faults.kinds import Fault
from supervision.laboratory.chaos.faults.plan import delayed
from supervision.laboratory.chaos.faults.report import is_inert
from supervision.laboratory.chaos.invariants.base import Violation, Watch
from supervision.laboratory.chaos.live.service import (
    LoopProbe,
    MachineProbe,
    ServiceLimits,
    loop_problem,
    machine_problem,
    request_problem,
)
from supervision.laboratory.chaos.live.world import LiveWorld
from supervision.recording.describe import describe
from supervision.recording.reader.service import measure_loop, measure_requests

__all__ = ["Experiment", "Phases"]

_ROUNDS = 3
"""Scheduler rounds before a check of the invariants. A call needs this many rounds to end after its timeout. After a
stall of the loop, the timeout and the sleep before the check may end in the same round."""


@frozen(kw_only=True)
class Phases:
    """The durations and time limits of an experiment, in seconds.

    Args:
        before: seconds for which the steady state must hold before the faults.
        start_within: the time limit for the steady state to begin. It counts from the start of the scenario.
        after: seconds for which the steady state must hold after the faults.
        recover_within: the time limit for the steady state to begin again. It counts from the end of the faults.
        finish_within: the time limit for the scenario to return. It counts from the end of the experiment. The run
            cancels a scenario that has not returned by then.
    """

    before: float = 5.0
    start_within: float = 30.0
    after: float = 5.0
    recover_within: float = 15.0
    finish_within: float = 10.0


class Experiment:
    """A running experiment. `seconds` is the duration of the phase with the faults."""

    def __init__(
        self,
        world: LiveWorld,
        *,
        plan: Sequence[Fault],
        seconds: float,
        phases: Phases,
        machine: MachineProbe,
        on_phase: Callable[[str], object],
    ) -> None:
        self.problems: list[str] = []
        self.interrupted = False
        self.healed = trio.Event()
        self._world = world
        self._steadiness = world.steadiness
        self._trace = world.trace
        self._plan = plan
        self._seconds = seconds
        self._phases = phases
        self._machine = machine
        self._on_phase = on_phase
        self._begun = False
        # Lags of the event loop and requests count from this time on.
        self._faults_began = 0.0
        self._faults_ended = math.inf
        self._watch_broke = False
        # True once the faults are undone.
        self._undone = False
        # True once the scenario has called `world.recovered`.
        self._asked = False
        self._waits = trio.CancelScope()

    # From outside

    def heal(self) -> None:
        """End the phase with the faults. The run calls this when the scenario calls `world.recovered`."""
        if not self._begun and not self.interrupted and not self._asked:
            self.problem(
                "the scenario called world.recovered before the faults began, so no fault was applied; call it "
                "later, or shorten the phase before the faults (--steady-for)"
            )
        self._asked = True
        self._undo()
        self.healed.set()

    def interrupt(self) -> None:
        """End the experiment early: undo the faults, and check the steady state."""
        self.interrupted = True
        self.healed.set()
        if not self._begun:
            self._waits.cancel()

    def scenario_returned(self) -> None:
        """Note a problem if the scenario has returned before the experiment is over."""
        if self.interrupted or self._world.over.is_set():
            return
        if not self._begun:
            self.problem(
                "the scenario returned before the experiment began; let it end with "
                "`await world.until_over()`"
            )
        elif not self._asked:
            self.problem(
                "the scenario returned before the experiment was over, so its recovery was not checked; let it end "
                "with `await world.until_over()` or `await world.recovered(...)`"
            )

    def look_back(self) -> None:
        """Note a problem if no fault of the plan was applied."""
        reports = self._world.faults.report()
        if self._begun and not self.interrupted and is_inert(reports):
            first = f"{reports[0].text}: {reports[0].why}"
            self.problem(f"none of the {len(reports)} planned faults was applied; {first}")

    def judge_service(self, probe: LoopProbe, limits: ServiceLimits) -> bool:
        """Note a problem if the event loop or the machine was overloaded, or if too few answers came in time.

        Returns:
            True if the event loop or the machine was overloaded.
        """
        # The end of the run may have cancelled the probe before it saw a last stall.
        probe.woken()
        probe.report()
        began = self._faults_began
        loop = measure_loop(
            probe.lags_since(began),
            late_after=limits.late_after,
            max_late_share=limits.max_late_share,
        )
        self._machine.end()
        machine = self._machine.measures
        overloads = [
            None if loop is None else loop_problem(loop),
            None if machine is None else machine_problem(machine),
        ]
        until = min(self._faults_ended, self._world.seconds)
        measured = measure_requests(self._world.requests.ended, since=began, until=until)
        slow = [request_problem(each, limits) for each in measured]
        for problem in (*overloads, *slow):
            if problem is not None:
                self.problem(problem)
        return any(overloads)

    def problem(self, text: str) -> None:
        """Note a problem."""
        self.problems.append(text)
        self._trace.add("problem", {"pid": None, "problem": text})

    # The phases

    async def run(self) -> None:
        """Go through the phases, then set `world.over`."""
        try:
            with self._waits:
                await self._go()
        finally:
            self._world.requests.close()
            self._steadiness.end()
            self._world.over.set()

    async def _go(self) -> None:
        phases = self._phases
        # If the faults never begin, the figures of the machine count from here.
        self._machine.begin()
        self._phase("before")
        if not await self._is_steady("before", phases.before, within=phases.start_within):
            self.problem(
                f"the experiment did not begin: no steady state of {phases.before:g} s began within "
                f"{phases.start_within:g} s; {self._current_problems()}"
            )
            return
        self._begun = True
        self._faults_began = self._world.seconds
        self._machine.begin()
        self._phase("during")
        # The times of the faults, of the reports and of the trace all count from the start of the run.
        elapsed = self._world.seconds
        plan = delayed(self._plan, elapsed)
        self._world.faults.start(plan, since=trio.current_time() - elapsed)
        if not self.healed.is_set():
            with trio.move_on_after(self._seconds):
                await self.healed.wait()
        self._faults_ended = self._world.seconds
        self._machine.end()
        self._phase("after")
        self._undo()
        after = min(phases.after, 1.0) if self.interrupted else phases.after
        if not await self._is_steady("after", after, within=phases.recover_within):
            self.problem(
                f"the steady state did not come back within {phases.recover_within:g} s after the "
                f"faults and hold for {after:g} s; {self._current_problems()}"
            )

    async def _is_steady(self, phase: str, seconds: float, *, within: float) -> bool:
        """Wait until the steady state has held for `seconds`, and record the result for the reports.

        Returns:
            False if this did not happen within `within` seconds.
        """
        holds = await self._steadiness.holds(seconds, within=within)
        fields = {"phase": phase, "holds": holds, "problems": dict(self._steadiness.problems)}
        self._trace.add("steady_state", {"pid": None, **fields})
        return holds

    def _undo(self) -> None:
        if self._begun and not self._undone:
            self._undone = True
            self._world.faults.heal()

    def _phase(self, name: str) -> None:
        self._trace.add("phase", {"pid": None, "phase": name})
        self._on_phase(name)

    def _current_problems(self) -> str:
        wrong = [f"{name}: {problem}" for name, problem in self._steadiness.problems.items()]
        return "; ".join(wrong) or "it did not hold long enough"

    async def watch_invariants(self, watch: Watch | None, every: float) -> None:
        """Check the invariants at intervals. Report each broken invariant once."""
        expectations = self._world.expectations
        while True:
            await trio.sleep(every)
            for _ in range(_ROUNDS):
                await trio.lowlevel.checkpoint()
            try:
                violation = expectations.look()
            except (
                Exception
            ) as error:  # the check is wrong, so the experiment continues without invariants
                expectations.always.clear()
                self.problem(
                    f"the check of an invariant raised {describe(error)}; the invariants of the scenario "
                    "are no longer checked"
                )
                continue
            if violation is not None:
                expectations.always[:] = [
                    each for each in expectations.always if each[0] != violation.invariant
                ]
                self._broken(violation.invariant, violation.problem)
            # A live system is never at rest. Every task has run since the last check, which is enough for `at_rest`.
            if watch is not None:
                self.look_at(watch.check)
                self.look_at(watch.at_rest)

    def look_at(self, check: Callable[[], Violation | None]) -> None:
        """Check the invariants of a `Watch`. Note only the first violation, because others may follow from it."""
        found = None if self._watch_broke else check()
        if found is not None:
            self._watch_broke = True
            self._broken(found.name, found.problem)

    def _broken(self, name: str, problem: str) -> None:
        self._trace.add("invariant", {"pid": None, "name": name, "problem": problem})
        self.problems.append(f"the invariant {name!r} was broken: {problem}")
