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
from supervision.laboratory.chaos.faults.kinds import Fault
from supervision.laboratory.chaos.faults.plan import FaultPlan, draw_plan, spread
from supervision.laboratory.chaos.injection.injector import Injector
from supervision.laboratory.chaos.invariants.base import Invariant, Watch
from supervision.laboratory.chaos.invariants.built_in import Chosen, choose
from supervision.laboratory.chaos.live.experiment import Experiment, Phases
from supervision.laboratory.chaos.live.outcome import LiveOutcome
from supervision.laboratory.chaos.live.service import LoopProbe, MachineProbe, ServiceLimits
from supervision.laboratory.chaos.live.world import LiveEnvironment, LiveWorld, Network
from supervision.laboratory.chaos.settings import scenario_name, settings_of
from supervision.laboratory.entropy import Streams
from supervision.recording.reader.merging import UnrelatedRecordings, merge
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
        InvalidOption: a parameter is out of the bounds that the scenario declares.
        ValueError: there is no invariant of a given name.
        TypeError: `invariants` is a single name and not a sequence.

    No run can be repeated exactly: the seed decides the faults and their times, and the machine decides the rest.
    """
    settings = settings_of(scenario)
    settings.check_params("live", params or {})
    chosen = choose(settings.invariants if invariants is None else invariants)
    streams = Streams(seed)
    plan = draw_plan(settings.faults if faults is None else faults, streams.fresh("faults"))
    run = _Run(
        scenario,
        streams,
        plan=spread(plan, seconds) if spread_plan else plan,
        seconds=seconds,
        params={**settings.params, **(params or {})},
        phases=phases or Phases(),
        network=network,
        invariants=chosen,
        trace_bounds={"max_messages": max_messages, "max_events": max_events},
        messages=messages,
        stop=trio.Event() if stop is None else stop,
        limits=limits or ServiceLimits(),
        on_phase=on_phase,
    )
    return await run.execute(kill_grace=kill_grace, shutdown_deadline=shutdown_deadline, log=log)


class _Run:
    """One run, with its world and its observers."""

    def __init__(
        self,
        scenario: LiveScenario,
        streams: Streams,
        *,
        plan: tuple[Fault, ...],
        seconds: float,
        params: dict[str, Any],
        phases: Phases,
        network: Network | None,
        invariants: Sequence[Invariant],
        trace_bounds: dict[str, int],
        messages: bool,
        stop: trio.Event,
        limits: ServiceLimits,
        on_phase: Callable[[str], object],
    ) -> None:
        self.scenario = scenario
        self.began = trio.current_time()
        self.trace = BoundedTrace(self.now, **trace_bounds)
        self.plan = plan
        self.phases = phases
        self.network = network
        self.invariants = invariants
        self.stop = stop
        self.limits = limits
        self.overloaded = False
        self.error: BaseException | None = None
        self.result: object = None
        self.world = LiveWorld(
            seed=streams.seed,
            params=params,
            trace=self.trace,
            streams=streams,
            network=network,
            now=self.now,
            # The experiment needs the world, so it does not exist yet.
            heal=lambda: self.experiment.heal(),  # noqa: PLW0108
        )
        self.world.requests.within = limits.answer_within
        self.experiment = Experiment(
            self.world,
            plan=plan,
            seconds=seconds,
            phases=phases,
            machine=MachineProbe(self.trace, self.now, limits),
            on_phase=on_phase,
        )
        self.probe = LoopProbe(self.trace, self.now, limits)
        self.environment = LiveEnvironment(self.world, streams, messages=messages)
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
                "seed": streams.seed,
                "params": msgspec.to_builtins(params, enc_hook=repr),
            },
        )

    def now(self) -> float:
        """Return the seconds since the start."""
        return trio.current_time() - self.began

    async def execute(self, **runtime: Any) -> LiveOutcome:
        """Run the scenario beside the experiment, then shut down everything cleanly.

        Args:
            **runtime: the options of the runtime.
        """
        before = current_environment.set(self.environment)
        try:
            async with trio.open_nursery() as around:
                if self.network is not None:
                    attached = trio.Event()
                    around.start_soon(self.network.main, attached.set)
                    await attached.wait()
                async with open_runtime(**runtime) as opened:
                    watch = await self._within(opened)
                # The invariants must also hold while the runtime closes.
                self.experiment.look_at(watch.check)
                around.cancel_scope.cancel()
        finally:
            current_environment.reset(before)
        self.trace.finish()
        return self._outcome(self._merged())

    def _stall(self, seconds: float) -> None:
        began = self.now()
        time.sleep(seconds)
        self.probe.excuse(began, self.now())

    async def _within(self, opened: Runtime) -> Watch:
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
        watch = Watch(opened, self.invariants, recorder.places)
        try:
            async with trio.open_nursery() as beside:
                beside.start_soon(self.experiment.watch_invariants, watch, 0.05)
                beside.start_soon(self._interrupt_on_stop)
                beside.start_soon(self.world.steadiness.watch)
                beside.start_soon(self.probe.watch)
                await self._scenario_and_experiment()
                beside.cancel_scope.cancel()
        finally:
            self.world.faults.close()
            self.overloaded = self.experiment.judge_service(self.probe, self.limits)
            # Processes that end after this event end because the run closes.
            self.trace.add("phase", {"pid": None, "phase": "closing"})
        return watch

    async def _interrupt_on_stop(self) -> None:
        await self.stop.wait()
        self.experiment.interrupt()

    async def _scenario_and_experiment(self) -> None:
        experiment, scope = self.experiment, trio.CancelScope()

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
            with trio.move_on_after(self.phases.finish_within):
                await trio.sleep_forever()
            scope.cancel()
        experiment.look_back()

    def _merged(self) -> list[bytes]:
        """Return the trace of this process, with the recordings of other processes. Judge them together."""
        own = self.trace.lines
        if not self.world.recordings:
            return own
        try:
            lines = merge({"the experiment": own, **self.world.recordings})
        except UnrelatedRecordings as error:
            # A scenario that raised has often ended before its clients and the servers exchanged a message.
            if self.error is None:
                self.experiment.problems.append(
                    f"the report has only the events of the experiment: {error.problem}"
                )
            return own
        if left_out := msgspec.json.decode(lines[0]).get("left_out"):
            self.experiment.problems.append(
                f"the report lacks {', '.join(left_out)}: a process was killed so soon after its start that the "
                "recorder had not written; let the faults leave it more time"
            )
        for judge in self.world.judges:
            self.experiment.problems += judge(lines)
        return lines

    def _outcome(self, lines: list[bytes]) -> LiveOutcome:
        return LiveOutcome(
            scenario=scenario_name(self.scenario),
            seed=self.world.seed,
            params=self.world.params,
            seconds=self.now(),
            faults=self.plan,
            fault_reports=self.world.faults.report(),
            sometimes=self.world.expectations.seen,
            problems=tuple(dict.fromkeys(self.experiment.problems)),
            error=self.error,
            overloaded=self.overloaded,
            interrupted=self.experiment.interrupted,
            result=self.result,
            trace=lines,
        )
