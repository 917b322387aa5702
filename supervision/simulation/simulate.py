"""Running a scenario from a seed.

    outcome = simulate(scenario, seed=7)
    outcome.check()                       # raises what went wrong, if anything did
    print(outcome.seconds, outcome.digest)

The same seed, program and knobs give the same run, to the byte, in any process and on any machine. Called outside of
Trio: it runs Trio itself, and puts back everything that it has replaced.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from hashlib import sha256
from typing import Any

import trio

from actors.instrumentation.environment import current_environment
from actors.runtime import open_runtime
from supervision.chaos.faults.plan import FaultPlan, draw_plan
from supervision.chaos.faults.report import InertPlan, is_inert
from supervision.recording.entropy import Streams
from supervision.recording.trace import Trace
from supervision.simulation.errors import (
    BudgetSpent,
    Deadlock,
    Livelock,
)
from supervision.simulation.knobs import Knobs
from supervision.simulation.outcome import Outcome
from supervision.simulation.pins.fence import fence
from supervision.simulation.pins.pins import pinned
from supervision.simulation.scenario import Scenario, scenario_name, settings_of
from supervision.simulation.scheduling.burial import bury
from supervision.simulation.scheduling.deviations import Schedule
from supervision.simulation.scheduling.labels import TaskLabels
from supervision.simulation.scheduling.schedule import Scheduler
from supervision.simulation.scheduling.trio_internals import scheduling
from supervision.simulation.stories.waiting import busy_lines, waiting_lines
from supervision.simulation.world.clock import VirtualClock
from supervision.simulation.world.world import World

__all__ = ["Scenario", "scenario_name", "simulate"]


def simulate(
    scenario: Scenario,
    seed: int,
    *,
    knobs: Knobs | None = None,
    params: Mapping[str, Any] | None = None,
    faults: FaultPlan = None,
    deviations: Schedule = None,
    keep_trace: bool = True,
    label_tasks: bool = False,
    on_event: Callable[[int], None] | None = None,
) -> Outcome:
    """Run a scenario in a world of its own, and say what came of it.

        simulate(scenario, seed=7, params={"clients": 5}).check()

    Args:
        scenario: an async function of one argument, the `World`.
        seed: decides every order, number and delay.
        knobs: settings of the world, in place of the scenario's own.
        params: for the scenario, as `world.params`, besides its own; of types that JSON has, if the run is to be saved.
        faults: a plan in place of the scenario's own; `()` is none. A run that passes although nothing of a plan was
            applied ends with `InertPlan`.
        deviations: orders for rounds of the scheduler, from `Outcome.deviations` or `Outcome.named`, or a `Tape`.
        keep_trace: False keeps only the digest of the trace, which saves memory in long runs.
        label_tasks: whether `Outcome.named` is wanted, which takes some time and changes nothing else.
        on_event: called with the number of each event of the trace, where and when it happens: for debuggers.

    Returns:
        The outcome, also of a run that failed: whatever the scenario raises is in `Outcome.error`.

    Raises:
        RuntimeError: from within Trio.
        KeyboardInterrupt: Ctrl-C.

    Not decided by the seed: see `docs/topics/simulation.md` for what a program must not depend on.
    """
    if trio.lowlevel.in_trio_run():
        raise RuntimeError(
            "simulate() runs Trio itself, so it cannot be called inside of Trio; call it from "
            "ordinary code (in tests: a sync def test, not an async def one)"
        )
    run = _Run(
        scenario,
        seed,
        knobs=knobs,
        params=params or {},
        faults=faults,
        deviations=deviations,
        keep_trace=keep_trace,
        label_tasks=label_tasks,
        on_event=on_event,
    )
    outcome = run.execute()
    if run.abandoned:
        # The collector has been shown this run's objects while they were in use, and would not soon look again.
        del run
        gc.collect(1)
    return outcome


class _Abandoned(Exception):
    """Raised inside Trio's own loop to end a run that does not let itself be ended."""


# Tasks of abandoned runs that could not be ended without running them, see `bury`: thrown away in the middle they would
# run their clean-ups at once, outside of Trio, where these can only fail, and loudly.
_graveyard: list[object] = []


class _Run:
    """One run: what happens between the rounds, and how it ends."""

    def __init__(
        self,
        scenario: Scenario,
        seed: int,
        *,
        knobs: Knobs | None,
        params: Mapping[str, Any],
        faults: FaultPlan,
        deviations: Schedule,
        keep_trace: bool,
        label_tasks: bool,
        on_event: Callable[[int], None] | None,
    ) -> None:
        settings = settings_of(scenario)
        knobs = knobs or settings.knobs or Knobs()
        self.scenario = scenario
        self.knobs: Knobs = knobs
        self.error: BaseException | None = None
        self.streams = Streams(seed)
        plan = settings.faults if faults is None else faults
        self.plan = draw_plan(plan, self.streams.fresh("faults"))
        self.clock = VirtualClock(knobs.quantum, settled=self._settled, stuck=self._stuck)
        self.scheduler = Scheduler(
            knobs.policy,
            self.streams.fresh("schedule"),
            deviations=deviations,
            between=self._between,
            now=self.clock.current_time,
            label=lambda task: TaskLabels(self.world.recorders).label(task),
            naming=label_tasks,
        )
        self.on_event = on_event
        self.trace = Trace(self._moment if on_event is None else self._event, keep=keep_trace)
        self.world = World(
            seed=seed,
            knobs=knobs,
            params={**settings.params, **params},
            streams=self.streams,
            clock=self.clock,
            trace=self.trace,
            invariants=settings.invariants,
        )
        self._root = trio.CancelScope()
        # Asked for in every round.
        self._max_seconds, self._max_steps = knobs.max_seconds, knobs.max_steps
        self._livelock_rounds = knobs.livelock_rounds
        self._fences = ExitStack()
        self._now = -1.0
        self._rounds_in_moment = 0
        self._steps = 0
        self._checked = False
        self._failed_at: tuple[int, float] | None = None
        self.abandoned = False
        self._over = False
        self._raised: BaseException | None = None

    def execute(self) -> Outcome:
        """Run the scenario to its end, one way or another."""
        with (
            scheduling(self.scheduler),
            pinned(self.streams, self.world.environment.now, self.fail, self.world.settle),
            self._fences,
        ):
            self.abandoned = self._run_trio()
            outcome = self._outcome()
            if self.abandoned:
                tasks = self.scheduler.tasks()
                self.scheduler.close()
                self.world.close()
                self._root, self._raised = trio.CancelScope(), None
                # Here, where the collector is still off, and has not moved what is to be collected out of its reach.
                _graveyard.extend(bury(tasks))
        return outcome

    def _run_trio(self) -> bool:
        """Run, and answer whether the run was abandoned: then it has left tasks behind."""
        try:
            trio.run(
                self._main,
                clock=self.clock,
                instruments=[self.scheduler],
                strict_exception_groups=True,
            )
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # whatever the scenario raises is what came of it
            escaped = self._raised if isinstance(error.__cause__, _Abandoned) else error
            if self.error is None and escaped is not None:
                self.error = _only(escaped)
            return isinstance(error, trio.TrioInternalError)
        return False

    async def _main(self) -> None:
        # Only here, because Trio needs a pair of sockets to begin with; and taken down by `execute`, because the task
        # of a run that was abandoned never comes to its end.
        self._fences.enter_context(fence(self.fail))
        current_environment.set(self.world.environment)
        with self._root:
            async with trio.open_nursery() as nursery:
                self.world.nodes.open(nursery, self.scheduler, self.fail)
                try:
                    await self._run_scenario()
                except (
                    BaseException
                ) as error:  # raised below, but if a node was killed this nursery is never left
                    self._raised = error
                self._over = True
                # The nodes that are left end in the ordered way.
                nursery.cancel_scope.cancel()
            if self._raised is not None:
                raise self._raised

    async def _run_scenario(self) -> None:
        faults = self.world.faults
        try:
            async with open_runtime(
                kill_grace=self.knobs.kill_grace,
                shutdown_deadline=self.knobs.shutdown_deadline,
                log=False,
                debug=self.knobs.checked,
            ) as self.world.runtime:
                faults.start(self.plan)
                try:
                    await self.scenario(self.world)
                except BaseException:
                    self._failing()
                    raise
        finally:
            faults.close()

    def fail(self, error: BaseException) -> None:
        """Make `error` what came of the run, unless there is something already, and end it."""
        if self.error is None:
            self._failing()
            self.error = _only(error)
            self._rounds_in_moment = 0
            self._root.cancel()

    def _failing(self) -> None:
        """Remember when it was: what comes after it in the trace is how the run was ended."""
        if self._failed_at is None:
            self._failed_at = (self.trace.count, self.clock.now)

    # Between the rounds. Nothing in here may raise, but to abandon the run: it is Trio's own loop that calls.

    def _settled(self) -> bool:
        """Nobody can run: the last thing before time passes."""
        running = self.error is None
        if running:
            self._check_all(at_rest=True)
        self._checked = True
        return self.world.wake_settled() or (running and self.error is not None)

    def _stuck(self) -> None:
        if self.error is not None or (self._over and self.world.nodes.only_dead_ones):
            # It was cancelled already, and waits all the same; or for none but the dead, who never end.
            raise _Abandoned
        self.fail(Deadlock(self.clock.now, self._who_waits()))

    def _between(self, batch: list[trio.lowlevel.Task]) -> None:
        self._steps += len(batch)
        now = self.clock.now
        if now != self._now:
            self._now = now
            self._rounds_in_moment = 0
            if now > self._max_seconds:
                self._out_of("seconds", self._max_seconds)
        else:
            self._rounds_in_moment += 1
            if self._rounds_in_moment > self._livelock_rounds:
                self._livelocked(batch)
        if self._steps > self._max_steps:
            self._out_of("steps", self._max_steps)
        if not self._checked and self.error is None:
            self._check_all(at_rest=False)
        self._checked = False

    def _check_all(self, *, at_rest: bool) -> None:
        try:
            problem = self.world.look(at_rest=at_rest)
        except BaseException as error:  # a check that is broken is what came of the run
            self.fail(error)
            return
        if problem is not None:
            self.fail(problem)

    def _livelocked(self, batch: list[trio.lowlevel.Task]) -> None:
        if self.error is not None:
            raise _Abandoned
        busy = busy_lines(batch, self.world.runtimes)
        self.fail(Livelock(self.clock.now, self._rounds_in_moment, busy))

    def _out_of(self, what: str, limit: float) -> None:
        if self.error is None:
            self.fail(BudgetSpent(what, limit, self._who_waits()))

    def _who_waits(self) -> tuple[str, ...]:
        return waiting_lines(self.scheduler.living(), self.world.runtimes)

    # Records

    def _moment(self) -> tuple[float, int, int]:
        scheduler = self.scheduler
        try:
            task = scheduler.numbers.get(trio.lowlevel.current_task(), 0)
        except RuntimeError:
            # Between two steps: a timer of the world, or a check.
            task = 0
        return self.clock.now, scheduler.round, task

    def _event(self) -> tuple[float, int, int]:
        assert self.on_event is not None
        self.on_event(self.trace.count - 1)
        return self._moment()

    def _outcome(self) -> Outcome:
        scheduler, reports = self.scheduler, self.world.faults.report()
        if self.error is None and is_inert(reports):
            self.error = InertPlan(reports)
        return Outcome(
            scenario=scenario_name(self.scenario),
            seed=self.world.seed,
            knobs=self.knobs,
            params=self.world.params,
            error=self.error,
            seconds=self.clock.now,
            rounds=scheduler.round,
            choices=scheduler.choices,
            steps=self._steps,
            events=self.trace.count,
            trace=self.trace.lines,
            digest=self.trace.digest(),
            steps_digest=sha256(scheduler.steps.tobytes()).hexdigest(),
            deviations=scheduler.taken,
            named=tuple(scheduler.named),
            faults=self.plan,
            fault_reports=reports,
            sometimes=dict(self.world.expectations.seen),
            failed_at=self._failed_at if self.error is not None else None,
        )


def _only(error: BaseException) -> BaseException:
    """What a nursery has wrapped, if it is one thing."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
