"""Experiments on a live system, with real time and real sockets. They can reuse scenarios and faults of simulations.

    outcome = run_live(scenario, seed=7, seconds=60)
    outcome.write_page("report.html")
    outcome.check()                         # raises if there were problems

An experiment has three phases. Before the faults, the steady state of the scenario (`world.steady`) must hold for a
while. In the second phase, the run applies the faults. In the third phase, the run undoes them, and the steady state
must return in time. The seed decides the faults, as in a simulation, but not their effects.
"""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import msgspec
import trio

from actors.runtime import DEFAULT_KILL_GRACE, Runtime, current_environment, open_runtime
from supervision.laboratory.chaos.errors import unwrapped
from supervision.laboratory.chaos.expectations import problem_of
from supervision.laboratory.chaos.faults.plan import FaultPlan, draw_plan, spread
from supervision.laboratory.chaos.injection.injector import Injector
from supervision.laboratory.chaos.invariants.base import Invariant, Watch
from supervision.laboratory.chaos.invariants.built_in import Chosen, choose
from supervision.laboratory.chaos.live.experiment import Experiment, Phases
from supervision.laboratory.chaos.live.machine import MachineProbe
from supervision.laboratory.chaos.live.outcome import LiveOutcome
from supervision.laboratory.chaos.live.service import LoopProbe, ServiceLimits
from supervision.laboratory.chaos.live.world import LiveEnvironment, LiveWorld, Network
from supervision.laboratory.chaos.settings import scenario_name, settings_of
from supervision.laboratory.entropy import Streams
from supervision.recording.trace import BoundedTrace

__all__ = ["LiveScenario", "live", "run_live"]

LiveScenario: TypeAlias = Callable[[Any], Awaitable[object]]
"""An async function of one argument, a `LiveWorld`. A simulation can run it too, if it uses only the world."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_live(scenario: LiveScenario, seed: int, **options: Any) -> LiveOutcome:
    """Run `live` from synchronous code. On Ctrl-C, end the experiment cleanly. This function blocks.

        run_live(scenario, seed=7, seconds=60, network=LiveNetwork()).check()

    SIGINT or SIGTERM ends the phase with the faults. The run then undoes them, checks the steady state, shuts down the
    scenario and its processes cleanly, and returns an outcome. A second signal cancels the run, and this function
    raises KeyboardInterrupt.

    Args:
        scenario: as for `live`.
        seed: as for `live`.
        **options: the options of `live`.

    Raises:
        RuntimeError: the caller is within Trio, or not in the main thread.
    """
    if trio.lowlevel.in_trio_run():
        raise RuntimeError("run_live() runs Trio itself; within Trio, write `await live(...)`")
    main = partial(_with_signals, scenario, seed, options)
    return trio.run(main, restrict_keyboard_interrupt_to_checkpoints=True)


async def _with_signals(scenario: LiveScenario, seed: int, options: dict[str, Any]) -> LiveOutcome:
    stop = trio.Event()
    listening, everything = trio.CancelScope(), trio.CancelScope()
    with trio.open_signal_receiver(*_SIGNALS) as received:
        # A system task, because a nursery would wrap the exceptions of `live` in a group.
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
        # The run may be over before this task starts.
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
    kill_grace: float = DEFAULT_KILL_GRACE,
    shutdown_deadline: float = 30.0,
    log: bool = False,
    stop: trio.Event | None = None,
    limits: ServiceLimits | None = None,
    spread_plan: bool = False,
    on_phase: Callable[[str], object] = lambda name: None,
) -> LiveOutcome:
    """Run a scenario on the real clock, apply a fault plan, and return the outcome.

        outcome = await live(scenario, 7, seconds=10, faults=Storm(["/top/*"], count=5, within=8.0))

    Args:
        scenario: an async function of one argument, the `LiveWorld`. It starts a system and puts it to work, describes
            its steady state with `world.steady`, and ends with `await world.until_over()`.
        seed: decides the plan and the random numbers of the scenario and of `runtime.random` in processes.
        seconds: the duration of the phase with the faults. Times of faults count from its start.
        faults: a plan, a `Storm`, or a function that draws a plan; None takes the plan of the scenario.
        params: parameters for `world.params`. They override the scenario's own parameters.
        phases: the durations of the other phases.
        network: the network for `world.listen`, `world.connect` and connection faults: a `LiveNetwork`.
        invariants: "all" for all built-in invariants, or a sequence of their names and of your own factories; None
            takes the invariants of the scenario.
        messages: record messages.
        max_messages: the most message events to keep. The run counts further message events, and does not keep them.
        max_events: the most events to keep.
        kill_grace: as for `open_runtime`.
        shutdown_deadline: as for `open_runtime`.
        log: log crashes.
        stop: an event that ends the experiment early, with a clean shutdown.
        limits: the limits for the lag of the event loop, the load of the machine, and the answers to clients.
        spread_plan: change the times of the plan so that it fills `seconds`, as `ashtree chaos` does; see
            `supervision.laboratory.chaos.faults.plan.spread`.
        on_phase: called with the name of each phase that begins.

    Returns:
        The outcome, also of a failed run. `LiveOutcome.error` is the exception of the scenario, if it raised one.

    Raises:
        InvalidFault: `faults` is not a plan.
        ValueError: there is no invariant of a given name.
        TypeError: `invariants` is a single name and not a sequence.

    No run can be repeated exactly: the seed decides the faults and their times, and the machine decides the rest.
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
        limits=limits or ServiceLimits(),
        spread_over=seconds if spread_plan else None,
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
    """One run, with its world and its observers."""

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
        limits: ServiceLimits,
        spread_over: float | None,
    ) -> None:
        self.scenario = scenario
        self.seed = seed
        self.began = trio.current_time()
        self.streams = Streams(seed)
        self.trace = BoundedTrace(self.now, **trace_bounds)
        drawn = draw_plan(plan, self.streams.fresh("faults"))
        self.plan = drawn if spread_over is None else spread(drawn, spread_over)
        self.network = network
        self.limits = limits
        self.overloaded = False
        self.error: BaseException | None = None
        self.result: object = None
        self.experiment: Experiment
        self.world = LiveWorld(
            seed=seed,
            params=dict(params),
            trace=self.trace,
            streams=self.streams,
            network=network,
            now=self.now,
            heal=self._heal,
        )
        self.world.requests.within = limits.answer_within
        self.probe = LoopProbe(self.trace, self.now, limits)
        self.environment = LiveEnvironment(self.world, self.streams, messages=messages)
        self.trace.add(
            "recording",
            {
                "pid": None,
                "began": self.environment.now(),
                "why": "experiment",
                "seconds": 0.0,
                "contents": messages,
                "receives": messages,
                "scenario": scenario_name(scenario),
                "seed": seed,
                "params": msgspec.to_builtins(dict(params), enc_hook=repr),
            },
        )

    def _heal(self) -> None:
        self.experiment.heal()

    def now(self) -> float:
        """Return the seconds since the start."""
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
        """Run the scenario beside the experiment, then shut down everything cleanly."""
        experiment = self.experiment = Experiment(
            self.world,
            self.trace,
            plan=self.plan,
            seconds=seconds,
            phases=phases,
            machine=MachineProbe(self.trace, self.now, self.limits),
            on_phase=on_phase,
        )
        before = current_environment.set(self.environment)
        try:
            async with trio.open_nursery() as around:
                if self.network is not None:
                    await self._attach_network(around, self.network)
                async with open_runtime(**runtime) as opened:
                    watch = await self._within(opened, experiment, invariants, stop, phases)
                # The invariants must also hold while the runtime closes.
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

    def _stall(self, seconds: float) -> None:
        began = self.now()
        time.sleep(seconds)
        self.probe.excuse(began, self.now())

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
            stall=self._stall,
        )
        if self.network is not None:
            self.network.watch(opened, self.trace)
        watch = Watch(opened, invariants, recorder.places)
        try:
            async with trio.open_nursery() as beside:
                beside.start_soon(experiment.watch_invariants, watch, 0.05)
                beside.start_soon(_interrupt_when, stop, experiment)
                beside.start_soon(self.world.steadiness.watch)
                beside.start_soon(self.probe.watch)
                await self._scenario_and_experiment(experiment, phases)
                beside.cancel_scope.cancel()
        finally:
            self.world.faults.close()
            self.overloaded = experiment.judge_service(self.probe, self.limits)
            # Processes that end after this event end because the run closes.
            self.trace.add("phase", {"pid": None, "phase": "closing"})
        return watch

    async def _scenario_and_experiment(self, experiment: Experiment, phases: Phases) -> None:
        scope = trio.CancelScope()

        async def run_scenario() -> None:
            try:
                with scope:
                    self.result = await self.scenario(self.world)
            except Exception as error:  # the outcome reports any exception of the scenario
                self.error = unwrapped(error)
                experiment.problem(f"the scenario raised {problem_of(error)}")
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
            overloaded=self.overloaded,
            interrupted=experiment.interrupted,
            result=self.result,
            trace=self.trace.lines,
        )


async def _interrupt_when(stop: trio.Event, experiment: Experiment) -> None:
    await stop.wait()
    experiment.interrupt()
