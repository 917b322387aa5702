"""The world that a scenario runs in.

    async def scenario(world):
        top = await Supervisor.start_link([Counter])
        await trio.sleep(60)                              # a minute that takes no time
        world.check(await call("counter", "get") >= 0, "the counter never goes below zero")

Inside, everything is as it always is, except that time is virtual and chance comes from the seed. A runtime is open
already, and is closed in the ordered way when the scenario returns.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, TypeAlias

import trio

from actors.refs import Pid
from actors.runtime import Runtime
from supervision._core import deadlock as _waiting
from supervision.chaos.errors import NotReached
from supervision.chaos.expectations import Expectations
from supervision.chaos.injection.injector import Injector
from supervision.chaos.invariants.built_in import Chosen
from supervision.chaos.steady_state import SteadyCheck, SteadyState
from supervision.partitions import partition as partitions
from supervision.recording.describe import describe
from supervision.recording.entropy import Streams
from supervision.recording.recorder import Recorder, find_process, place_among
from supervision.recording.trace import Trace
from supervision.simulation.errors import InvariantViolated
from supervision.simulation.knobs import Knobs
from supervision.simulation.world.clock import VirtualClock
from supervision.simulation.world.environment import SimulatedEnvironment
from supervision.simulation.world.network import Network
from supervision.simulation.world.nodes import Nodes
from supervision.simulation.world.streams import VirtualListener, VirtualStream
from supervision.simulation.world.watching import Watches

__all__ = ["World"]

Listen: TypeAlias = Callable[[str, int], Awaitable[VirtualListener]]

# Seconds in which the steady state has to come back, as in an experiment on a live system.
_RECOVERY = 15.0


class World:
    """What a scenario is given. Made by `simulate`.

    Attributes:
        seed: of this run.
        knobs: its settings.
        params: what `simulate` was given for the scenario.
        runtime: the runtime that is open for the scenario.
        network: listeners and connections.
        nodes: programs that can be killed and booted again.
        faults: carries out the plan of the run.
        trace: what has happened so far.
    """

    runtime: Runtime

    def __init__(
        self,
        *,
        seed: int,
        knobs: Knobs,
        params: dict[str, Any],
        streams: Streams,
        clock: VirtualClock,
        trace: Trace,
        invariants: Chosen = "all",
    ) -> None:
        self.seed = seed
        self.knobs = knobs
        self.params = params
        self.trace = trace
        self.network = Network(knobs, streams, trace)
        self.recorders: list[Recorder] = []
        self.nodes = Nodes(self)
        self.faults = Injector(
            trace=trace, connections=self.network, nodes=self.nodes, stall=clock.stall
        )
        self.expectations = Expectations(now=clock.current_time, heal=self.faults.heal)
        self.always = self.expectations.always
        self._steadiness = SteadyState(trace)
        self.watches = Watches(invariants if knobs.invariants == "all" else knobs.invariants)
        self._clock = clock
        self._streams = streams
        self.environment = self.new_environment("", lambda: knobs.epoch + clock.now)
        self._settling: list[trio.lowlevel.Task] = []
        self._opened: list[Runtime] = []

    # For scenarios

    @property
    def seconds(self) -> float:
        """The virtual time since the beginning, as `trio.current_time()` gives it."""
        return self._clock.now

    def random(self, *purpose: object) -> Random:
        """A stream of random numbers of the scenario's own, for one purpose.

            delay = world.random("crashes", "room:lobby").expovariate(1)

        What one purpose draws changes nothing for another.
        """
        return self._streams.stream("scenario", *purpose)

    def note(self, text: str, **fields: Any) -> None:
        """Add a line of the scenario's own to the trace.

        world.note("everybody has joined", clients=5)
        """
        self.trace.add("note", {"text": text, **{k: describe(v) for k, v in fields.items()}})

    def check(self, holds: object, problem: str) -> None:
        """Fail the run if something does not hold that should.

        Raises:
            InvariantViolated: named "check".
        """
        self.expectations.check(holds, problem)

    def invariant(self, name: str, check: Callable[[], str | None]) -> None:
        """Check something between any two rounds of the scheduler, from now on.

            world.invariant("one leader", lambda: None if leaders <= 1 else f"{leaders} leaders")

        Args:
            name: of the invariant, for reports; a shrunk run has to break the same one.
            check: answers what is wrong, or None. It must not wait, and must change nothing.
        """
        self.expectations.invariant(name, check)

    async def eventually(self, name: str, holds: Callable[[], Any], *, within: float) -> Any:
        """Wait until something holds, and return what `holds` answered.

            await world.eventually("the room is back", lambda: whereis("lobby"), within=5)

        Looked at between any two rounds of the scheduler, or every 50 ms if `holds` is async.

        Raises:
            NotReached: it did not hold within so many seconds.
        """
        return await self.expectations.eventually(name, holds, within=within)

    async def recovered(self, name: str, holds: Callable[[], Any], *, within: float) -> Any:
        """Stop all faults, undo what they did, and wait until something holds; as `eventually`."""
        return await self.expectations.recovered(name, holds, within=within)

    def steady(self, name: str, check: SteadyCheck) -> None:
        """Say what the system does when it does its work, as for an experiment on a live one; see `until_over`.

        world.steady("everybody is in the room", lambda: None if here == 50 else f"{here} of 50")
        """
        self._steadiness.add(name, check)

    async def until_over(self) -> None:
        """Go on for `params["seconds"]` seconds, 60 by default; then stop the faults, and see the system recover.

        So that one scenario can be simulated and run live: what is given to `steady` has to hold again within 15
        seconds after the faults, and go on for one.

        Raises:
            NotReached: it did not.
        """
        await trio.sleep(self.params.get("seconds", 60))
        self.faults.heal()
        if self._steadiness and not await self._steadiness.holds(1, within=_RECOVERY):
            last = describe(self._steadiness.problems)
            raise NotReached("the steady state after the faults", _RECOVERY, self.seconds, last)

    def sometimes(self, name: str, condition: object = True) -> None:
        """Note whether something was the case, which over all runs of a sweep it should be, once at least.

        world.sometimes("a join found the room closing", room.closing)
        """
        self.expectations.sometimes(name, condition)

    def measure(self, name: str, value: float) -> None:
        """Note a figure of the scenario's own, for `compare`; the mean, if there are several of one name.

        world.measure("seconds until the answer", world.seconds - asked)
        """
        self.trace.add("measure", {"name": name, "value": float(value)})

    async def settle(self) -> None:
        """Wait until nobody can go on without time passing."""
        task = trio.lowlevel.current_task()
        self._settling.append(task)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._settling.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def stall(self, seconds: float) -> None:
        """Let time pass while nobody can run, as when a program holds up its loop."""
        self._clock.stall(seconds)

    def path_of(self, pid: Pid) -> str | None:
        """Where a living process is in its tree, as the trace names it: `/top/worker`."""
        known = place_among(self.recorders, pid)
        return None if known is None else known[1].path

    def find(self, path: str) -> Pid | None:
        """The living process at a path; the newest, if there are several, and None if there is none."""
        return find_process(self.recorders, path)

    @property
    def listen(self) -> Listen:
        """For `Endpoint(..., listen=world.listen)`: a listener of this world's network."""
        return self.network.open

    async def connect(self, host: str, port: int, *, source: str | None = None) -> VirtualStream:
        """Connect to a listener; `source` is the host that does. As `network.connect`, and in live worlds too."""
        return await self.network.connect(host, port, source=source)

    # For the run

    @property
    def runtimes(self) -> list[Runtime]:
        """Every runtime that was opened in this world."""
        return [recorder.runtime for recorder in self.recorders]

    def new_environment(self, name: str, now: Callable[[], float]) -> SimulatedEnvironment:
        """What a node takes in place of the real world, or without a name what everybody else does."""
        return SimulatedEnvironment(name, self._streams, now, self._record)

    def _record(self, runtime: Runtime, node: str | int) -> Recorder:
        name = "" if isinstance(node, int) else self.nodes.name_of(node)
        recorder = Recorder(runtime, self.trace, node, messages=self.knobs.messages, host=name)
        self.recorders.append(recorder)
        self.faults.add(runtime, recorder.places, node=name, recorder=recorder)
        # The last instrument: it hears of what was not held up or refused by another.
        self.watches.add(runtime, recorder.places)
        self._opened.append(runtime)
        return recorder

    def forget(self, environment: SimulatedEnvironment) -> None:
        """A node is down: nothing that was in it is found any more."""
        gone = environment.recorders
        for recorder in gone:
            self.watches.forget(recorder.runtime)
            self.faults.remove(recorder.runtime)
        self.recorders = [each for each in self.recorders if each not in gone]

    def close(self) -> None:
        """The run was abandoned: let go of everything in which something of the program may be."""
        for runtime in self._opened:
            for pid in runtime.processes():
                # What supervisors keep in tables of all runtimes together.
                _waiting.forget(pid)
                partitions.forget(pid)
            # Whoever holds the runtime holds nothing of the program by it.
            runtime.table.clear()
        self._opened = []
        self.nodes.close()
        self.network.close()
        self.recorders = []
        self.environment.recorders.clear()
        self.expectations.clear()
        self.watches.close()
        self._settling = []
        # A run that fails at once has none.
        vars(self).pop("runtime", None)
        del self.faults

    def look(self, *, at_rest: bool) -> InvariantViolated | None:
        """The first thing that does not hold; `at_rest` if nobody can run before time passes.

        Raises:
            Exception: whatever a check of the scenario raises.
        """
        problem = self.expectations.look()
        violation = None if problem is not None else self.watches.look(at_rest=at_rest)
        if violation is not None:
            problem = InvariantViolated(violation.name, self.seconds, violation.problem)
        if problem is not None:
            fields = {"pid": None, "name": problem.invariant, "problem": problem.problem}
            self.trace.add("invariant", fields)
        return problem

    def wake_settled(self) -> bool:
        """Let those go on who wait in `settle`; answers whether there are any."""
        waiting, self._settling = self._settling, []
        for task in waiting:
            trio.lowlevel.reschedule(task)
        return bool(waiting)
