"""Breaking a live system on purpose: the scenario and the faults of a simulation, on real time and real sockets.

    outcome = run_live(scenario, seed=7, seconds=60)
    outcome.write_page("report.html")
    outcome.check()                         # raises if the steady state did not come back

An experiment has three phases. Before: what the scenario calls its steady state (`world.steady`) has to hold for a
while, otherwise nothing is broken. During: the faults. After: they are undone, and the steady state has to come back
within a bound. What the faults are is decided by the seed, as in a simulation; what comes of them is not.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import trio

from actors.instrumentation.environment import current_environment
from actors.runtime import Runtime, open_runtime
from supervision.chaos.experiment import Experiment, Phases
from supervision.chaos.faults.kinds import Fault
from supervision.chaos.faults.plan import FaultPlan, draw_plan
from supervision.chaos.injection.injector import Injector
from supervision.chaos.invariants.base import Invariant, Watch
from supervision.chaos.invariants.built_in import Chosen, choose
from supervision.chaos.live.outcome import LiveOutcome
from supervision.chaos.live.world import LiveEnvironment, LiveWorld, Network
from supervision.chaos.settings import settings_of
from supervision.chaos.steady_state import SteadyState
from supervision.recording.entropy import Streams
from supervision.recording.trace import BoundedTrace

__all__ = ["LiveScenario", "live", "run_live"]

LiveScenario: TypeAlias = Callable[[Any], Awaitable[object]]
"""An async function of one argument, a `LiveWorld`. One that uses nothing else may be simulated, too."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_live(scenario: LiveScenario, seed: int, **options: Any) -> LiveOutcome:
    """Run an experiment as a program of its own: what `live` does, and Ctrl-C ends it in order. Blocks.

        run_live(scenario, seed=7, seconds=60, network=LiveNetwork()).check()

    SIGINT or SIGTERM ends the phase of the faults: they are undone, the steady state is looked at, the scenario and its
    processes are stopped in order, and there is an outcome all the same. A second one cuts all of that short.

    Args:
        scenario: as for `live`.
        seed: as for `live`.
        **options: those of `live`.

    Raises:
        RuntimeError: from within Trio, or not in the main thread.
    """
    if trio.lowlevel.in_trio_run():
        raise RuntimeError("run_live() runs Trio itself; within Trio write `await live(...)`")
    main = partial(_with_signals, scenario, seed, options)
    return trio.run(main, restrict_keyboard_interrupt_to_checkpoints=True)


async def _with_signals(scenario: LiveScenario, seed: int, options: dict[str, Any]) -> LiveOutcome:
    stop = trio.Event()
    listening, everything = trio.CancelScope(), trio.CancelScope()
    with trio.open_signal_receiver(*_SIGNALS) as received:
        # A system task, because a nursery here would wrap what `live` raises.
        trio.lowlevel.spawn_system_task(_listen, received, stop, listening, everything)
        try:
            with everything:
                return await live(scenario, seed, stop=stop, **options)
        finally:
            listening.cancel()
    raise KeyboardInterrupt


async def _listen(
    received: AsyncIterator[int],
    stop: trio.Event,
    listening: trio.CancelScope,
    everything: trio.CancelScope,
) -> None:
    with listening:
        # Before this has begun, it may be over already.
        await trio.lowlevel.checkpoint_if_cancelled()
        async for _ in received:
            if stop.is_set():
                everything.cancel()
            stop.set()


async def live(
    scenario: LiveScenario,
    seed: int,
    *,
    seconds: float,
    faults: FaultPlan = None,
    params: Mapping[str, Any] | None = None,
    phases: Phases | None = None,
    network: Network | None = None,
    invariants: Chosen | None = None,
    messages: bool = True,
    max_messages: int = 200_000,
    max_events: int = 500_000,
    kill_grace: float = 5.0,
    shutdown_deadline: float = 30.0,
    log: bool = False,
    stop: trio.Event | None = None,
    on_phase: Callable[[str], object] = lambda name: None,
) -> LiveOutcome:
    """Run a scenario on the real clock, break it as planned, and say what came of it.

        outcome = await live(scenario, 7, seconds=10, faults=Storm(["/top/*"], count=5, within=8.0))

    Args:
        scenario: an async function of one argument, the `LiveWorld`. It starts a system and puts it to work, says with
            `world.steady` what it does when it is well, and ends with `await world.until_over()`.
        seed: decides about the plan, and about chance in the scenario and in the processes' `runtime.random`.
        seconds: how long the phase with the faults lasts; times of faults count from its beginning.
        faults: the plan, or how to draw it; None takes the scenario's own.
        params: for the scenario, as `world.params`, over those that it has of its own.
        phases: how long the others last.
        network: what `world.listen` and `world.connect` are, and connection faults are done to: a `LiveNetwork`.
        invariants: "all" that are built in, or names of these and factories of your own; None takes the scenario's.
        messages: whether messages are recorded.
        max_messages: events about messages that are kept; of more only the number is known.
        max_events: events of any kind that are kept.
        kill_grace: as for `open_runtime`.
        shutdown_deadline: as for `open_runtime`.
        log: attach the logger of crashes.
        stop: set it to end the experiment early, in order.
        on_phase: called with the name of each phase that begins.

    Returns:
        The outcome, also of a run that failed: whatever the scenario raises is in `LiveOutcome.error`.

    Raises:
        BadFault: `faults` is no plan.
        ValueError: there is no invariant of a name that was given.
        TypeError: `invariants` is one name, and not a sequence of them.

    Not guaranteed: that a run can be repeated. The seed decides what is done and when, and the machine the rest.
    """
    settings = settings_of(scenario)
    chosen = choose(settings.invariants if invariants is None else invariants)
    run = _Run(
        scenario,
        seed,
        plan=settings.faults if faults is None else faults,
        params={**settings.params, **(params or {})},
        network=network,
        trace_bounds={"max_messages": max_messages, "max_events": max_events},
        messages=messages,
    )
    return await run.execute(
        seconds=seconds,
        phases=phases or Phases(),
        invariants=chosen,
        runtime={"kill_grace": kill_grace, "shutdown_deadline": shutdown_deadline, "log": log},
        stop=trio.Event() if stop is None else stop,
        on_phase=on_phase,
    )


class _Run:
    """One run: its world, and everything that watches it."""

    def __init__(
        self,
        scenario: LiveScenario,
        seed: int,
        *,
        plan: FaultPlan,
        params: Mapping[str, Any],
        network: Network | None,
        trace_bounds: dict[str, int],
        messages: bool,
    ) -> None:
        self.scenario = scenario
        self.seed = seed
        self.began = trio.current_time()
        self.streams = Streams(seed)
        self.trace = BoundedTrace(self.now, **trace_bounds)
        self.plan: tuple[Fault, ...] = draw_plan(plan, self.streams.fresh("faults"))
        self.network = network
        self.steadiness = SteadyState(self.trace)
        self.error: BaseException | None = None
        self.result: object = None
        self.experiment: Experiment
        self.world = LiveWorld(
            seed=seed,
            params=dict(params),
            trace=self.trace,
            streams=self.streams,
            steadiness=self.steadiness,
            network=network,
            now=self.now,
            heal=self._heal,
        )
        self.environment = LiveEnvironment(self.world, self.streams, messages=messages)

    def _heal(self) -> None:
        self.experiment.heal()

    def now(self) -> float:
        """Seconds since the beginning."""
        return trio.current_time() - self.began

    async def execute(
        self,
        *,
        seconds: float,
        phases: Phases,
        invariants: Sequence[Invariant],
        runtime: dict[str, Any],
        stop: trio.Event,
        on_phase: Callable[[str], object],
    ) -> LiveOutcome:
        """Run the scenario and the experiment side by side, then close everything in order."""
        experiment = self.experiment = Experiment(
            self.world,
            self.steadiness,
            self.trace,
            plan=self.plan,
            seconds=seconds,
            phases=phases,
            on_phase=on_phase,
        )
        before = current_environment.set(self.environment)
        try:
            async with trio.open_nursery() as around:
                if self.network is not None:
                    await self._attach_network(around, self.network)
                async with open_runtime(**runtime) as opened:
                    watch = await self._within(opened, experiment, invariants, stop, phases)
                # What ends in the end has its order, too.
                experiment.look_at(watch.check)
                around.cancel_scope.cancel()
        finally:
            current_environment.reset(before)
        self.trace.finish()
        return self._outcome(experiment)

    async def _attach_network(self, around: trio.Nursery, network: Network) -> None:
        attached = trio.Event()
        around.start_soon(network.main, attached.set)
        await attached.wait()

    async def _within(
        self,
        opened: Runtime,
        experiment: Experiment,
        invariants: Sequence[Invariant],
        stop: trio.Event,
        phases: Phases,
    ) -> Watch:
        recorder = self.world.recorders[0]
        self.world.runtime = opened
        self.world.faults = Injector(
            opened,
            recorder.places,
            trace=self.trace,
            recorder=recorder,
            connections=self.network,
        )
        if self.network is not None:
            self.network.watch(opened, self.trace)
        watch = Watch(opened, invariants, recorder.places)
        try:
            async with trio.open_nursery() as beside:
                beside.start_soon(experiment.watch_invariants, watch, 0.05)
                beside.start_soon(_interrupt_when, stop, experiment)
                beside.start_soon(self.steadiness.watch)
                await self._scenario_and_experiment(experiment, phases)
                beside.cancel_scope.cancel()
        finally:
            self.world.faults.close()
            # Everything that ends from here on ends because the run is over.
            self.trace.add("phase", {"pid": None, "phase": "closing"})
        return watch

    async def _scenario_and_experiment(self, experiment: Experiment, phases: Phases) -> None:
        scope = trio.CancelScope()

        async def run_scenario() -> None:
            try:
                with scope:
                    self.result = await self.scenario(self.world)
            except Exception as error:  # whatever the scenario raises is what came of the run
                self.error = _only(error)
                name = type(self.error).__name__
                experiment.problem(f"the scenario raised {name}: {self.error}")
            else:
                experiment.scenario_returned()
            both.cancel_scope.cancel()

        async with trio.open_nursery() as both:
            both.start_soon(run_scenario)
            await experiment.run()
            with trio.move_on_after(phases.finish_within):
                await trio.sleep_forever()
            scope.cancel()
        experiment.look_back()

    def _outcome(self, experiment: Experiment) -> LiveOutcome:
        return LiveOutcome(
            scenario=scenario_name(self.scenario),
            seed=self.seed,
            params=self.world.params,
            seconds=self.now(),
            faults=self.plan,
            fault_reports=self.world.faults.report(),
            sometimes=self.world.expectations.seen,
            problems=tuple(dict.fromkeys(experiment.problems)),
            error=self.error,
            interrupted=experiment.interrupted,
            result=self.result,
            trace=self.trace.lines,
        )


async def _interrupt_when(stop: trio.Event, experiment: Experiment) -> None:
    await stop.wait()
    experiment.interrupt()


def scenario_name(scenario: LiveScenario) -> str:
    """`module:function`, with which it can be found again."""
    module = getattr(scenario, "__module__", "?")
    name = getattr(scenario, "__qualname__", type(scenario).__qualname__)
    return f"{module}:{name}"


def _only(error: BaseException) -> BaseException:
    """What a nursery has wrapped, if it is one thing."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
