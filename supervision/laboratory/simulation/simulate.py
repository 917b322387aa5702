"""Run a scenario from a seed.

    outcome = simulate(scenario, seed=7)
    outcome.check()                       # raises the failure of the run, if it failed
    print(outcome.seconds, outcome.digest)

The same seed, program and knobs give the same run, byte for byte, in any process and on any machine. Call `simulate`
outside of Trio, because it runs Trio itself. At the end, it restores everything that it has replaced.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from hashlib import sha256
from typing import Any

import trio

from actors.runtime import current_environment, open_runtime
from supervision.laboratory.chaos.errors import unwrapped
from supervision.laboratory.chaos.faults.kinds import Fault, needs_instrument
from supervision.laboratory.chaos.faults.plan import FaultPlan, draw_plan
from supervision.laboratory.chaos.faults.report import InertPlan, is_inert
from supervision.laboratory.entropy import Streams
from supervision.laboratory.simulation.draws import Draw, Draws
from supervision.laboratory.simulation.errors import (
    BudgetSpent,
    Deadlock,
    Livelock,
)
from supervision.laboratory.simulation.forks import Fork
from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.outcome import Outcome, failures_in
from supervision.laboratory.simulation.pins.fence import fence
from supervision.laboratory.simulation.pins.pins import pinned, seed_modules
from supervision.laboratory.simulation.scenario import Scenario, scenario_name, settings_of
from supervision.laboratory.simulation.scheduling.deviations import Schedule
from supervision.laboratory.simulation.scheduling.schedule import Scheduler
from supervision.laboratory.simulation.scheduling.tasks import SCENARIO, TaskNames
from supervision.laboratory.simulation.scheduling.trio_internals import scheduling
from supervision.laboratory.simulation.world.clock import VirtualClock
from supervision.laboratory.simulation.world.world import World
from supervision.recording.trace import Trace

__all__ = ["Scenario", "scenario_name", "simulate"]


def simulate(
    scenario: Scenario,
    seed: int,
    *,
    knobs: Knobs | None = None,
    params: Mapping[str, Any] | None = None,
    faults: FaultPlan = None,
    deviations: Schedule = None,
    forks: Iterable[Fork] = (),
    draws: Iterable[Draw] = (),
    keep_trace: bool = True,
    label_tasks: bool = False,
    on_event: Callable[[int], None] | None = None,
) -> Outcome:
    """Run a scenario in a new world and return the outcome.

        simulate(scenario, seed=7, params={"clients": 5}).check()

    Args:
        scenario: an async function of one argument, the `World`.
        seed: the seed. It decides every order, number and delay.
        knobs: the settings of the world. They replace the scenario's own.
        params: parameters for `world.params`. They override the scenario's own parameters. To save a run, use only
            types that JSON has.
        faults: a plan that replaces the scenario's own; `()` for no faults. If the scenario passes but no fault of the
            plan was applied, the run ends with `InertPlan`.
        deviations: orders for rounds of the scheduler, from `Outcome.deviations` or `Outcome.named`, or a `Tape`.
        forks: moments at which the run begins to use other random numbers; see `Fork`.
        draws: values that replace values drawn from `world.random`; see `Draw`.
        keep_trace: False keeps only the digest of the trace. This saves memory in long runs.
        label_tasks: fill `Outcome.named` and `Outcome.drawn`. This takes some time and changes nothing else.
        on_event: for debuggers. The run calls it with the number of each event of the trace, when the event happens.

    Returns:
        The outcome, also of a failed run. `Outcome.error` is the exception.

    Raises:
        InvalidOption: a parameter is out of the bounds that the scenario declares.
        RuntimeError: the caller is within Trio.
        KeyboardInterrupt: the user pressed Ctrl-C.

    The tasks of a killed node stay in memory until the process ends. `docs/topics/simulation.md` gives the reason, and
    lists the things that the seed does not decide.
    """
    if trio.lowlevel.in_trio_run():
        raise RuntimeError(
            "simulate() runs Trio itself, so it cannot be called within Trio; call it from synchronous code, such as a "
            "`def` test instead of an `async def` test"
        )
    return _Run(
        scenario,
        seed,
        knobs=knobs,
        params=params or {},
        faults=faults,
        deviations=deviations,
        forks=forks,
        draws=tuple(draws),
        keep_trace=keep_trace,
        label_tasks=label_tasks,
        on_event=on_event,
    ).execute()


class _Abandoned(Exception):
    """The exception that ends Trio's loop when a run has tasks that never end."""


def _keep_for_ever(tasks: list[trio.lowlevel.Task]) -> None:
    """Keep tasks until the process ends, so that none of their `finally`, `except` or `__aexit__` blocks runs.

    Python runs the clean-up of a coroutine when the last reference to it goes. A list in a module is not enough,
    because the end of the interpreter clears modules. So the list gets a reference that nothing ever releases.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(tasks))


class _Run:
    """One run, with the checks between its rounds and with its clean-up."""

    def __init__(
        self,
        scenario: Scenario,
        seed: int,
        *,
        knobs: Knobs | None,
        params: Mapping[str, Any],
        faults: FaultPlan,
        deviations: Schedule,
        forks: Iterable[Fork],
        draws: tuple[Draw, ...],
        keep_trace: bool,
        label_tasks: bool,
        on_event: Callable[[int], None] | None,
    ) -> None:
        settings = settings_of(scenario)
        settings.check_params("simulate", params)
        knobs = knobs or settings.knobs or Knobs()
        self.scenario = scenario
        self.knobs: Knobs = knobs
        self.error: BaseException | None = None
        self.draws = Draws(draws)
        recorded = draws or label_tasks
        self.streams = Streams(seed, self.draws.new) if recorded else Streams(seed)
        self.forks = tuple(forks)
        self.plan = self._draw(settings.faults if faults is None else faults)
        self.clock = VirtualClock(knobs.quantum, settled=self._settled, stuck=self._stuck)
        self.names = TaskNames(lambda: self.world.recorders)
        self.scheduler = Scheduler(
            knobs.policy,
            self.streams.stream("schedule"),
            change=knobs.change,
            deviations=deviations,
            between=self._between,
            now=self.clock.current_time,
            label=self.names.path,
            naming=label_tasks,
        )
        self.clock.dead = self.scheduler.dead
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
            reached=self._reached if self.forks else None,
        )
        self._root = trio.CancelScope()
        # Copies of the limits, because every round reads them.
        self._max_seconds, self._max_steps = knobs.max_seconds, knobs.max_steps
        self._livelock_rounds = knobs.livelock_rounds
        self._fences = ExitStack()
        self._now = -1.0
        # The round in which each moment began, and its time. A program that sleeps in another order may run the same
        # tasks in the same rounds, so the digest of the steps includes the times.
        self._moments = array("d")
        self._rounds_in_moment = 0
        self._steps = 0
        self._checked = False
        self._failed_at: tuple[int, float] | None = None
        self._returned_at: tuple[int, float] | None = None
        self._over = False
        self._tasks: dict[int, str] = {}
        self._raised: BaseException | None = None

    def _draw(self, plan: FaultPlan) -> tuple[Fault, ...]:
        faults = draw_plan(plan, self.streams.fresh("faults"))
        if self.knobs.bare:
            return tuple(fault for fault in faults if not needs_instrument(fault))
        return faults

    def execute(self) -> Outcome:
        """Run the scenario to its end."""
        with (
            scheduling(self.scheduler),
            pinned(self.streams, self.world.environment.now, self.fail, self.world.settle),
            self._fences,
        ):
            try:
                self._run_trio()
                outcome = self._outcome()
            finally:
                left = self.scheduler.tasks()
                if left:
                    _keep_for_ever(left)
                    # These tasks keep this run in memory until the process ends. So drop the trace of the run here. The
                    # outcome still has the trace.
                    self.trace.drop()
        return outcome

    def _run_trio(self) -> None:
        try:
            trio.run(
                self._main,
                clock=self.clock,
                instruments=[self.scheduler],
                strict_exception_groups=True,
            )
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the outcome reports any exception of the scenario
            escaped = self._raised if isinstance(error.__cause__, _Abandoned) else error
            if self.error is None and escaped is not None:
                self.error = unwrapped(escaped)

    async def _main(self) -> None:
        # The fence starts only here, because Trio opens a pair of sockets before this task begins. `execute` removes
        # the fence, because this task never ends in an abandoned run.
        nodes = self.world.nodes
        sqlite = self.world.sqlite
        self._fences.callback(sqlite.close)
        self._fences.enter_context(fence(self.fail, on_thread=nodes.start_thread, sqlite=sqlite))
        trio.lowlevel.current_task().name = SCENARIO
        current_environment.set(self.world.environment)
        with self._root:
            async with trio.open_nursery() as nursery:
                nodes.open(nursery, self.scheduler, self.fail)
                try:
                    await self._run_scenario()
                except (
                    BaseException
                ) as error:  # raised below, unless a killed node keeps the nursery open
                    self._raised = error
                self._over = True
                for name in nodes.names():
                    nodes.resume(name)
                # This shuts down the remaining nodes cleanly.
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
                self.world.began()
                try:
                    await self.scenario(self.world)
                    self._returned_at = self.trace.count, self.clock.now
                except BaseException as error:
                    self._failing(error)
                    raise
        finally:
            faults.close()

    def fail(self, error: BaseException) -> None:
        """End the run with `error`, unless the run has already failed."""
        if self.error is None:
            self._failing(error)
            self.error = unwrapped(error)
            self._rounds_in_moment = 0
            self._root.cancel()

    def _failing(self, error: BaseException) -> None:
        """Remember the moment of the failure. Later events of the trace come from the clean-up of the run."""
        if self._failed_at is None:
            failures = failures_in(error)
            moments = (at for each, at in self.world.noticed if any(each is f for f in failures))
            self._failed_at = next(moments, (self.trace.count, self.clock.now))

    def _reached(self, at: str) -> None:
        """Fork at the first true value of a `sometimes` condition, if the run has a fork there."""
        for fork in self.forks:
            if fork.at == at:
                self.world.note("the run forks here", at=at, seed=fork.seed)
                self.streams.reseed(at, fork.seed)
                seed_modules(self.streams)

    # Between the rounds. Trio's loop calls these, so they must not raise, except to abandon the run.

    def _settled(self) -> bool:
        """Check all invariants and conditions when no task can run, before time passes."""
        running = self.error is None
        woken = self.world.expectations.woken
        if running:
            self._check_all(at_rest=True)
        self._checked = True
        if self.world.expectations.woken != woken:
            # A condition of `eventually` has become true. The task that waits for it must run before the time advances.
            return True
        return self.world.wake_settled() or (running and self.error is not None)

    def _stuck(self) -> None:
        if self.error is not None or (self._over and self.world.nodes.only_dead_ones):
            # The cancelled run still waits for something, or it waits only for tasks of killed nodes.
            raise _Abandoned
        self.fail(Deadlock(self.clock.now, self._waiting()))

    def _between(self, batch: list[trio.lowlevel.Task]) -> None:
        self._steps += len(batch)
        now = self.clock.now
        if now != self._now:
            self._now = now
            self._moments.append(self.scheduler.round)
            self._moments.append(now)
            self._rounds_in_moment = 0
            self.world.time_passed()
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
        except BaseException as error:  # a broken check fails the run
            self.fail(error)
            return
        if problem is not None:
            self.fail(problem)

    def _livelocked(self, batch: list[trio.lowlevel.Task]) -> None:
        if self.error is not None:
            raise _Abandoned
        self.fail(Livelock(self.clock.now, self._rounds_in_moment, self.names.busy(batch)))

    def _out_of(self, what: str, limit: float) -> None:
        if self.error is None:
            self.fail(BudgetSpent(what, limit, self._waiting()))

    def _waiting(self) -> tuple[str, ...]:
        return self.names.waiting(self.scheduler.living())

    # Records

    def _moment(self) -> tuple[float, int, int]:
        scheduler = self.scheduler
        try:
            running = trio.lowlevel.current_task()
        except RuntimeError:
            # No task runs: this is a timer of the world, or a check between two steps.
            return self.clock.now, scheduler.round, 0
        task = scheduler.numbers.get(running, 0)
        if task not in self._tasks:
            self._tasks[task] = running.name
        return self.clock.now, scheduler.round, task

    def _event(self) -> tuple[float, int, int]:
        assert self.on_event is not None
        self.on_event(self.trace.count - 1)
        return self._moment()

    def _outcome(self) -> Outcome:
        scheduler, reports = self.scheduler, self.world.faults.report()
        if self.error is None and not self.knobs.bare and is_inert(reports):
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
            recorded=self.trace.events,
            digest_without_trace=None if self.trace.keep else self.trace.digest(),
            ran=scheduler.steps,
            steps_digest=sha256(scheduler.steps.tobytes() + self._moments.tobytes()).hexdigest(),
            deviations=scheduler.taken,
            named=tuple(scheduler.named),
            forks=self.forks,
            drawn=tuple(self.draws.drawn),
            faults=self.plan,
            fault_reports=reports,
            sometimes=dict(self.world.expectations.seen),
            failed_at=self._failed_at if self.error is not None else None,
            returned_at=self._returned_at,
            tasks=self._tasks,
        )
