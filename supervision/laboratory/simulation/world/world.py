"""The simulated world that a scenario runs in.

    async def scenario(world):
        top = await Supervisor.start_link([Counter])
        await trio.sleep(60)                              # a minute that takes no time
        world.check(await call("counter", "get") >= 0, "the counter never goes below zero")

A scenario uses the ordinary API, but time is virtual and random numbers come from the seed. A runtime is already open.
The runtime shuts down cleanly when the scenario returns.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeAlias

import trio

from actors.refs import Pid
from actors.runtime import Runtime, current_environment
from supervision.laboratory.chaos.errors import NotReached
from supervision.laboratory.chaos.expectations import Expectations
from supervision.laboratory.chaos.faults.kinds import DiskFault, SlowDisk
from supervision.laboratory.chaos.injection.injector import Injector
from supervision.laboratory.chaos.invariants.base import Watch
from supervision.laboratory.chaos.invariants.built_in import Chosen, choose
from supervision.laboratory.chaos.scenario_world import ScenarioWorld
from supervision.laboratory.entropy import Chance, Streams
from supervision.laboratory.simulation.errors import InvariantViolated
from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.world.clock import VirtualClock
from supervision.laboratory.simulation.world.disk import Disk
from supervision.laboratory.simulation.world.environment import SimulatedEnvironment
from supervision.laboratory.simulation.world.network import Network, VirtualListener, VirtualStream
from supervision.laboratory.simulation.world.nodes import Nodes
from supervision.laboratory.simulation.world.sqlite import SQLiteFiles
from supervision.recording.describe import describe
from supervision.recording.recorder import Recorder
from supervision.recording.trace import Trace

__all__ = ["World"]

Listen: TypeAlias = Callable[[str, int], Awaitable[VirtualListener]]

# The limit for the return to the steady state, in seconds. Live experiments have the same limit.
_RECOVERY = 15.0


class World(ScenarioWorld):
    """The argument of a simulated scenario. `simulate` creates it.

    Attributes:
        knobs: the settings of this run.
        network: listeners and connections.
        sqlite: the files of SQLite, which the run gives to `sqlite3`.
        nodes: programs that a scenario can kill and boot again.
        disk: the disk for code outside of nodes. Each node has its own.
        noticed: the failed checks and conditions, each with the number of events and the time when it failed.
    """

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
        reached: Callable[[str], None] | None = None,
    ) -> None:
        self.network = Network(knobs, streams, trace)
        self.network.on_fault = self.disturbed
        self.network.on_served = self._served
        self.nodes = Nodes(self)
        self.faults = Injector(
            trace=trace,
            connections=self.network,
            nodes=self.nodes,
            stall=clock.stall,
            checking=self._is_checking,
        )
        # The scenario's task, and the number of nurseries around it. `_has_worked` is True once it has had its own.
        self._scenario: tuple[trio.lowlevel.Task | None, int] = None, 0
        self._has_worked = False
        super().__init__(
            seed=seed,
            params=params,
            streams=streams,
            trace=trace,
            expectations=Expectations(
                now=clock.current_time,
                heal=self.faults.heal,
                reached=reached,
                failed=self._failed,
            ),
            now=clock.current_time,
        )
        self.knobs = knobs
        self.noticed: list[tuple[BaseException, tuple[int, float]]] = []
        chosen = invariants if knobs.invariants == "all" else knobs.invariants
        self._invariants: Chosen = chosen if chosen == "all" else tuple(chosen)
        # Raise before the run if the choice is invalid.
        choose(self._invariants)
        self._watches: dict[Runtime, Watch] = {}
        # The watches of paused nodes. Such a node is never at rest, because its work waits.
        self._paused: dict[Watch, None] = {}
        self._clock = clock
        self.environment = self.new_environment(
            "", lambda: knobs.epoch + clock.now, lambda: clock.now
        )
        self._settling: list[trio.lowlevel.Task] = []
        self.disk = self.new_disk("")
        self.sqlite = SQLiteFiles(
            streams.stream("sqlite"),
            disk_here=self._disk_here,
            now=lambda: self._process().now(),
            spend=self._spend,
        )

    # For scenarios

    async def until_over(self) -> None:
        """Wait for `params["seconds"]` seconds, 60 by default. Then stop the faults and wait for the steady state.

        A scenario that ends with this call works in a simulation and on a live system. All checks of `steady` must hold
        for one second, beginning at most 15 seconds after the end of the faults.

        Raises:
            NotReached: the checks did not hold in time.
        """
        await trio.sleep(self.params.get("seconds", 60))
        self.faults.heal()
        if self.steadiness and not await self.steadiness.holds(1, within=_RECOVERY):
            last = describe(self.steadiness.problems)
            raise NotReached("the steady state after the faults", _RECOVERY, self.seconds, last)

    async def settle(self) -> None:
        """Wait until no task can run unless time passes."""
        task = trio.lowlevel.current_task()
        self._settling.append(task)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._settling.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def stall(self, seconds: float) -> None:
        """Advance the time while no task runs, as if a program blocked its event loop.

        Args:
            seconds: the length of the stall, in seconds.
        """
        self._clock.stall(seconds)

    @property
    def listen(self) -> Listen:
        """The function that listens in the network of this world, for `Endpoint(..., listen=world.listen)`."""
        return self.network.open

    async def connect(self, host: str, port: int, *, source: str | None = None) -> VirtualStream:
        """Connect to a listener from the host `source`, as `network.connect` does. Live worlds have this method too."""
        return await self.network.connect(host, port, source=source)

    # For the run

    def began(self) -> None:
        """Remember the current task as the task of the scenario, which is about to begin."""
        task = trio.lowlevel.current_task()
        self._scenario = task, len(task.child_nurseries)

    def time_passed(self) -> None:
        """Look for nurseries of the scenario. Their tasks do its work, so a final check can only follow them."""
        task, around = self._scenario
        self._has_worked |= task is not None and len(task.child_nurseries) > around

    def _is_checking(self) -> bool:
        """Return True if the current task is the scenario's, which has had nurseries for its work and has none now."""
        task, around = self._scenario
        if task is not trio.lowlevel.current_task():
            return False
        return self._has_worked and len(task.child_nurseries) == around

    @property
    def runtimes(self) -> list[Runtime]:
        """The runtimes of this world, except the runtimes of nodes that are down."""
        return [recorder.runtime for recorder in self.recorders]

    def new_environment(
        self, name: str, now: Callable[[], float], since_boot: Callable[[], float]
    ) -> SimulatedEnvironment:
        """Create the environment of a node. If `name` is empty, create the environment outside of nodes.

        Args:
            name: the label of the node, `a` or `a#2`, or an empty string.
            now: a function that returns the time of day on the clock of the node, in seconds since the epoch.
            since_boot: a function that returns the seconds since the boot of the node's machine.

        Returns:
            The environment.
        """
        return SimulatedEnvironment(name, self._streams, now, since_boot, self._record)

    def new_disk(self, name: str) -> Disk:
        """Create the disk of a node, or the one outside of nodes.

        Args:
            name: the name of the node, or an empty string.

        Returns:
            The disk.
        """
        disk = Disk(self._streams.stream("disk", name), self.knobs.disk)
        disk.owner = self._process
        disk.on_operation = self._disk_operation
        disk.record = partial(self._record_disk, name)
        return disk

    def thread_delays(self, label: str) -> Chance:
        """Return the random numbers for the moments of threads.

        Args:
            label: the label of the node whose threads they are, or an empty string.
        """
        return self._streams.stream("threads", label)

    def _spend(self, seconds: float) -> None:
        self.nodes.spend(seconds, self._clock.stall)

    def _disk_here(self) -> Disk:
        node = self.nodes.here()
        return self.disk if node is None else node.disk

    def _process(self) -> SimulatedEnvironment:
        # A dead incarnation of a node keeps its environment.
        environment = current_environment.get()
        if isinstance(environment, SimulatedEnvironment):
            return environment
        return self.environment

    def _disk_operation(self, operation: str, path: str) -> list[DiskFault]:
        node = self.nodes.here()
        name = "" if node is None else node.name
        faults = self.faults.on_disk(operation, f"{name}/{path.lstrip('/')}")
        for fault in faults:
            if isinstance(fault, SlowDisk):
                self._spend(fault.latency)
        return faults

    def _record_disk(self, name: str, kind: str, fields: dict[str, Any]) -> None:
        node = self.nodes.here()
        where = {} if node is None else {"node": node.label}
        if kind == "disk_lost":
            # The node is dead already, and a dead node has no events.
            where = {"disk": name}
        self.trace.add(kind, {"pid": None, **where, **fields})

    def _record(self, runtime: Runtime, node: str | int) -> Recorder:
        name = "" if isinstance(node, int) else self.nodes.name_of(node)
        bare = self.knobs.bare
        recorder = Recorder(
            runtime, self.trace, node, messages=self.knobs.messages, host=name, observe=not bare
        )
        self.recorders.append(recorder)
        self.faults.add(runtime, recorder.places, node=name, recorder=recorder, observe=not bare)
        if bare:
            return recorder
        # The watch is the last instrument, so that it does not see events that another instrument delays or refuses.
        invariants = choose(self._invariants)
        if invariants:
            self._watches[runtime] = Watch(runtime, invariants, recorder.places)
        return recorder

    def _failed(self, error: BaseException) -> None:
        # Note the time now, because the scenario may go on before the error ends the run. It may close its clients.
        self.noticed.append((error, (self.trace.count, self.seconds)))

    def _served(self, connection: int, pid: Pid) -> None:
        for recorder in self.recorders:
            if recorder.runtime is pid.runtime:
                recorder.add("serves", pid, {"connection": connection}, causes=False)

    def forget(self, environment: SimulatedEnvironment) -> None:
        """Forget the runtimes of a node that is down. `find` no longer returns their processes.

        Args:
            environment: the environment of the node.
        """
        gone = environment.recorders
        for recorder in gone:
            # If the node dies in an operation of its disk, its code still unwinds up to its next checkpoint.
            recorder.trace = Trace(lambda: (0.0, 0, 0), keep=False)
            watch = self._watches.pop(recorder.runtime, None)
            if watch is not None:
                self._paused.pop(watch, None)
                watch.close()
            self.faults.remove(recorder.runtime)
        self.recorders = [each for each in self.recorders if each not in gone]

    def disturbed(self, what: str) -> None:
        """Tell the invariants of all runtimes that a fault of the network or of a node has begun or ended.

        Args:
            what: the name of the trace event, such as `partition` or `node_killed`.
        """
        ongoing = self.network.is_disturbed
        for watch in self._watches.values():
            watch.disturbed(what, ongoing=ongoing)

    def paused(self, environment: SimulatedEnvironment, *, ongoing: bool) -> None:
        """Tell the invariants of a node that it is paused from now on, or runs again.

        Args:
            environment: the environment of the node.
            ongoing: True if the pause begins.
        """
        for recorder in environment.recorders:
            watch = self._watches.get(recorder.runtime)
            if watch is not None:
                if ongoing:
                    self._paused[watch] = None
                else:
                    del self._paused[watch]
                watch.paused(ongoing=ongoing)

    def look(self, *, at_rest: bool) -> InvariantViolated | None:
        """Return the first violation. `at_rest` means that no task can run unless time passes.

        Raises:
            Exception: a check of the scenario raised it.
        """
        problem = self.expectations.look()
        for watch in self._watches.values():
            if problem is not None:
                break
            rests = at_rest and watch not in self._paused
            violation = watch.at_rest() if rests else watch.check()
            if violation is not None:
                problem = InvariantViolated(violation.name, self.seconds, violation.problem)
        if problem is not None:
            fields = {"pid": None, "name": problem.invariant, "problem": problem.problem}
            self.trace.add("invariant", fields)
        return problem

    def wake_settled(self) -> bool:
        """Wake the tasks that wait in `settle`. Return True if there are any."""
        waiting, self._settling = self._settling, []
        for task in waiting:
            trio.lowlevel.reschedule(task)
        return bool(waiting)
