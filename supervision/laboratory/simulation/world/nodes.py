"""Nodes: programs in one world that a scenario can kill, as `kill -9` does, and boot again.

    async def member(node, peers):
        listener = node.listen(4000)
        ...

    world.nodes.start("a", member, ["b", "c"])
    world.nodes.start("b", member, ["a", "c"])
    await trio.sleep(5)
    world.nodes.kill("a")                     # none of its code runs any more
    world.nodes.boot("a")                     # its main starts again; its disk is unchanged

A node is a host of the virtual network with its own runtime, clock and disk. Nodes should share only the network.
All nodes see the same module globals, so do not keep the state of a node there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from random import Random
from typing import Any, Protocol, TypeAlias

import trio

from actors.runtime import Runtime, current_environment, open_runtime
from supervision.laboratory.entropy import Chance
from supervision.laboratory.simulation.errors import SimulationError
from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.scheduling.schedule import Scheduler
from supervision.laboratory.simulation.scheduling.trio_internals import captured, silence
from supervision.laboratory.simulation.world.disk import Disk
from supervision.laboratory.simulation.world.environment import SimulatedEnvironment
from supervision.laboratory.simulation.world.network import (
    Network,
    VirtualListener,
    VirtualStream,
    current_host,
)
from supervision.recording.trace import Trace

__all__ = ["Node", "NodeMain", "Nodes"]

NodeMain: TypeAlias = Callable[..., Awaitable[object]]
"""The main function of a node: an async function that gets the `Node` and the further arguments of `start`."""

# The longest time before a function in a thread runs, and between its end and the delivery of its result.
_THREAD_SECONDS = 0.02


class NodeWorld(Protocol):
    """The part of a `World` that nodes use."""

    knobs: Knobs
    network: Network
    trace: Trace

    @property
    def seconds(self) -> float:
        """The virtual time in seconds."""

    def random(self, *purpose: object) -> Random:
        """Return the stream of random numbers for one purpose."""

    def new_environment(
        self, name: str, now: Callable[[], float], since_boot: Callable[[], float]
    ) -> SimulatedEnvironment:
        """Create the environment of a node."""

    def new_disk(self, name: str) -> Disk:
        """Create the disk of a node."""

    def thread_delays(self, label: str) -> Chance:
        """Return the random numbers for the moments of the threads of a node."""

    def forget(self, environment: SimulatedEnvironment) -> None:
        """Forget the runtimes of a node that is down."""

    def disturbed(self, what: str) -> None:
        """Tell the invariants that a fault of a node has begun or ended."""

    def paused(self, environment: SimulatedEnvironment, *, ongoing: bool) -> None:
        """Tell the invariants of a node that it stands still from now on, or runs again."""


class Node:
    """One node, through all its incarnations. `Nodes.start` creates it, and passes it to the node's main.

    Attributes:
        name: the name of the node, which is also its host in the virtual network.
        incarnation: the number of its boots so far; 1 after the first start.
        disk: the disk of its machine, which survives a kill: files, and a dict. Store only immutable values there.
        up: True while the node runs.
        paused: True while its tasks are stopped.
        seconds_ahead: the seconds by which its time of day is ahead of the world's clock.
        seconds_suspended: the seconds for which its machine was suspended.
        runtime: the runtime of this incarnation, set when its main starts.
    """

    runtime: Runtime

    def __init__(
        self, world: NodeWorld, name: str, disk: Disk, main: NodeMain, args: tuple[Any, ...]
    ) -> None:
        self.name = name
        self.incarnation = 0
        self.disk = disk
        self.up = False
        self.paused = False
        self.seconds_ahead = 0.0
        self.seconds_suspended = 0.0
        self.environment: SimulatedEnvironment | None = None
        self.tasks: dict[trio.lowlevel.Task, None] = {}
        self.scope = trio.CancelScope()
        self._world = world
        self._main = main
        self._args = args

    @property
    def label(self) -> str:
        """The name and, from the second incarnation on, the number of the incarnation: `a`, `a#2`."""
        return self.name if self.incarnation < 2 else f"{self.name}#{self.incarnation}"

    def listen(self, port: int = 0) -> VirtualListener:
        """Accept connections to a port of this node.

        Args:
            port: the port; 0 takes any free port.

        Returns:
            The listener.

        Raises:
            OSError: the port is in use.
        """
        return self._world.network.listen(self.name, port)

    async def connect(self, host: str, port: int) -> VirtualStream:
        """Connect from this node to a port of a host, as `Network.connect` does."""
        return await self._world.network.connect(host, port, source=self.name)

    def random(self, *purpose: object) -> Random:
        """Return the random stream of this incarnation for one purpose.

        Args:
            *purpose: values that name the purpose. The same values return the same stream.
        """
        return self._world.random("node", self.label, *purpose)

    def now(self) -> float:
        """Return the time of day on the clock of this node, in seconds since the epoch."""
        world = self._world
        return world.knobs.epoch + world.seconds + self.seconds_ahead + self.seconds_suspended

    def since_boot(self) -> float:
        """Return the seconds since the boot of the machine, including those in which it was suspended."""
        return self._world.seconds + self.seconds_suspended

    async def run(self) -> None:
        """Run one incarnation."""
        knobs = self._world.knobs
        async with open_runtime(
            kill_grace=knobs.kill_grace,
            shutdown_deadline=knobs.shutdown_deadline,
            log=False,
            debug=knobs.checked,
        ) as self.runtime:
            await self._main(self, *self._args)


class Nodes:
    """The nodes of a world. `simulate` creates it as `world.nodes`."""

    def __init__(self, world: NodeWorld) -> None:
        self._world = world
        self._nodes: dict[str, Node] = {}
        self._owners: _TaskOwners | None = None
        self._killed = False
        # The seconds that the disk took for the function of a thread, while such a function runs.
        self._disk_seconds: float | None = None

    # For scenarios

    def start(self, name: str, main: NodeMain, *args: Any, disk: Disk | None = None) -> Node:
        """Start a node.

            world.nodes.start("store", store_main, 4000)

        Args:
            name: the name of the node and of its host in the network.
            main: an async function. Each incarnation calls it with the `Node` and `args`, in its own runtime. When it
                returns, the runtime shuts down cleanly, and the node is down. If `main` raises, the run fails.
            *args: further arguments for `main`.
            disk: the disk of another node, if both are processes of one machine; None makes a new disk.

        Returns:
            The node.

        Raises:
            SimulationError: a node of that name exists; see `boot`.
        """
        if name in self._nodes:
            raise _error(
                name,
                f"a node of this name exists; call world.nodes.boot({name!r}) to start it again",
            )
        disk = self._world.new_disk(name) if disk is None else disk
        node = self._nodes[name] = Node(self._world, name, disk, main, args)
        self._begin(node)
        return node

    def boot(self, name: str) -> Node:
        """Restart a node that is down, with the same main, arguments and disk.

        Args:
            name: the name of the node.

        Returns:
            The node.

        Raises:
            SimulationError: there is no node of that name, or the node is running.
        """
        node = self[name]
        if node.up:
            raise _error(name, "it is already running; kill it or stop it first")
        self._world.network.power_on(name)
        self._begin(node)
        return node

    def kill(self, name: str, *, power: bool = False) -> None:
        """Kill a node as `kill -9` does: none of its code runs any more, not even a `finally` block.

            world.nodes.kill("a")                       # its connections are reset
            world.nodes.kill("b", power=True)           # its connections stay half open

        Args:
            name: the name of the node.
            power: True cuts the power of the machine, and so kills all nodes with its disk. The disk loses unsynced
                writes. Their connections then stay half open until you boot the node and a peer sends something.

        Raises:
            SimulationError: there is no node of that name, or it is down.

        A task that kills its own node runs until its next checkpoint, and that checkpoint never returns.
        """
        disk = self._running(name).disk
        for node in list(self._nodes.values()):
            if node.up and (node.name == name or (power and node.disk is disk)):
                self._kill(node, power=power)
        if power:
            disk.lose_power()

    def _kill(self, node: Node, *, power: bool) -> None:
        fields = {"node": node.label, "host": node.name, "power": power}
        self._world.trace.add("node_killed", fields)
        silence(node.tasks, self._world_scope)
        self._scheduler.kill(node.tasks)
        self._down(node)
        # The scheduler keeps these tasks. Without a reference to them, Python would run their clean-up.
        node.tasks = {}
        node.paused = False
        self._killed = True
        self._world.network.host_gone(node.name, "unplugged" if power else "killed")
        self._world.disturbed("node_killed")

    def stop(self, name: str) -> None:
        """Stop a node as SIGTERM does: cancel its main, and shut its runtime down cleanly.

        Args:
            name: the name of the node.

        Raises:
            SimulationError: there is no node of that name, or it is down.
        """
        self._running(name).scope.cancel()

    def skew(self, name: str, seconds: float) -> None:
        """Set the clock of a node forward. This changes `runtime.now()` there, not durations.

        Args:
            name: the name of the node.
            seconds: the change of its time of day; a negative number sets the clock back.
        """
        node = self[name]
        node.seconds_ahead += seconds
        self._world.trace.add("node_skewed", {"node": node.label, "seconds": seconds})
        self._world.disturbed("node_skewed")

    def pause(self, name: str) -> None:
        """Stop the tasks of a node until `resume`, as SIGSTOP does. Its connections stay open.

        Time goes on: when the node resumes, its deadlines have passed and its connections have data.

        Args:
            name: the name of the node.

        Raises:
            SimulationError: there is no node of that name, or it is down or paused.

        A task that pauses its own node runs until its next checkpoint.
        """
        node = self._running(name)
        if node.paused:
            raise _error(name, "it is paused already; resume it first")
        node.paused = True
        self._scheduler.pause(node.tasks)
        self._note_pause(node, "node_paused")

    def resume(self, name: str) -> None:
        """Let the tasks of a paused node run again, as SIGCONT does. Does nothing if the node is not paused.

        Args:
            name: the name of the node.
        """
        node = self[name]
        if node.paused:
            node.paused = False
            self._scheduler.resume(node.tasks)
            self._note_pause(node, "node_resumed")

    def _note_pause(self, node: Node, what: str) -> None:
        self._world.trace.add(what, {"node": node.label})
        assert node.environment is not None  # the node is up
        self._world.paused(node.environment, ongoing=node.paused)
        self._world.disturbed(what)

    def suspend(self, name: str, seconds: float) -> None:
        """Let the clocks of a node jump as after a suspend that took `seconds`, such as the sleep of a laptop.

        `runtime.now()` and `runtime.since_boot()` jump forward there. Trio's clock does not count a suspend, so time
        limits do not expire. The other nodes have not lived on meanwhile: for that, see `pause`.

        Args:
            name: the name of the node.
            seconds: the duration of the suspend.
        """
        node = self[name]
        node.seconds_suspended += seconds
        self._world.trace.add("node_suspended", {"node": node.label, "seconds": seconds})
        self._world.disturbed("node_suspended")

    def disk(self, name: str) -> Disk:
        """Return the disk of a node, which survives every kill.

        Args:
            name: the name of the node.
        """
        return self[name].disk

    def is_up(self, name: str) -> bool:
        """Return True if a node runs. A node that is shutting down cleanly still counts as running.

        Args:
            name: the name of the node.
        """
        return self[name].up

    def __getitem__(self, name: str) -> Node:
        node = self._nodes.get(name)
        if node is None:
            known = ", ".join(self._nodes) or "none"
            raise _error(name, f"there is no node of that name; the nodes are {known}")
        return node

    def names(self) -> tuple[str, ...]:
        """Return the names of all nodes, up or down, in the order of their first start."""
        return tuple(self._nodes)

    # For the run

    def here(self) -> Node | None:
        """Return the node whose code runs now, or None outside of nodes."""
        environment = current_environment.get()
        nodes = self._nodes.values()
        return next((node for node in nodes if node.environment is environment), None)

    def start_thread(
        self,
        function: Callable[[], object],
        deliver: Callable[[Any], object],
        name: str,
    ) -> None:
        """Run a function at a random moment, in place of a thread of the caller's node.

        Args:
            function: the function.
            deliver: gets its result or exception, at a random moment afterwards.
            name: the name of the thread.
        """
        node = self.here()
        owned = (
            nullcontext() if node is None or self._owners is None else self._owners.root_of(node)
        )
        delays = self._world.thread_delays("" if node is None else node.label)
        with owned:
            self._nursery.start_soon(self._thread, function, deliver, delays, name=name)

    async def _thread(
        self,
        function: Callable[[], object],
        deliver: Callable[[Any], object],
        delays: Chance,
    ) -> None:
        # Nothing but the death of its process ends a thread.
        with trio.CancelScope(shield=True):
            await trio.sleep(delays.uniform(0.0, _THREAD_SECONDS))
            if getattr(current_environment.get(), "is_over", False):
                # Its node has been stopped, and a program takes its abandoned threads with it.
                return
            self._disk_seconds = 0.0
            try:
                result = captured(function)
            finally:
                seconds, self._disk_seconds = self._disk_seconds, None
            await trio.sleep(seconds + delays.uniform(0.0, _THREAD_SECONDS))
            deliver(result)
            # Trio reads the delivery in its next round. Without a task for that round, the clock would advance first.
            await trio.lowlevel.checkpoint()

    def spend(self, seconds: float, stall: Callable[[float], None]) -> None:
        """Let the disk take some time: the time of the running thread, or of the event loop outside of threads.

        Args:
            seconds: the time, in seconds.
            stall: stops the event loop for some seconds.
        """
        if self._disk_seconds is None:
            stall(seconds)
        else:
            self._disk_seconds += seconds

    def name_of(self, label: str) -> str:
        """Return the name of the node whose runtime has this label: `a` for `a#2`.

        Args:
            label: the label of a runtime. If no node has it, the result is the label itself.
        """
        for name, node in self._nodes.items():
            if label == node.label or label.startswith(f"{node.label}."):
                return name
        return label

    @property
    def only_dead_ones(self) -> bool:
        """True if no node runs, and tasks of killed nodes remain, which never end."""
        return self._killed and not any(node.up for node in self._nodes.values())

    def open(
        self,
        nursery: trio.Nursery,
        scheduler: Scheduler,
        failed: Callable[[BaseException], None],
    ) -> None:
        """Run nodes as tasks of `nursery`, and pass their exceptions to `failed`.

        Args:
            nursery: the nursery of the run.
            scheduler: the scheduler of the run. It stops the tasks of a killed node.
            failed: a function that gets each exception of a node.
        """
        self._nursery = nursery
        self._world_scope = nursery.cancel_scope
        self._scheduler = scheduler
        self._failed = failed

    def _running(self, name: str) -> Node:
        node = self[name]
        if not node.up:
            raise _error(name, f"it is down; call world.nodes.boot({name!r}) to start it again")
        return node

    def _begin(self, node: Node) -> None:
        world = self._world
        if self._owners is None:
            self._owners = _TaskOwners(self._scheduler)
            trio.lowlevel.add_instrument(self._owners)
        node.incarnation += 1
        node.up = True
        node.scope = trio.CancelScope()
        node.environment = world.new_environment(node.label, node.now, node.since_boot)
        world.trace.add("node_started", {"node": node.label})
        world.disturbed("node_started")
        with self._owners.root_of(node):
            self._nursery.start_soon(self._run, node, name=f"node {node.label}")

    async def _run(self, node: Node) -> None:
        assert node.environment is not None  # `_begin` has set it
        current_environment.set(node.environment)
        current_host.set(node.name)
        try:
            with node.scope:
                await node.run()
        except* Exception as errors:  # any exception of a node fails the run
            self._failed(errors)
        finally:
            self._world.trace.add("node_ended", {"node": node.label})
            self._down(node)
            self._world.network.host_gone(node.name, "ended")
            self._world.disturbed("node_ended")

    def _down(self, node: Node) -> None:
        node.up = False
        assert node.environment is not None  # the node was up
        node.environment.is_over = True
        self._world.forget(node.environment)


class _TaskOwners(trio.abc.Instrument):
    """The node of each task. A task in a nursery belongs to the node of the task that opened the nursery."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._nodes: dict[trio.lowlevel.Task, Node] = {}
        self._root_of: Node | None = None

    @contextmanager
    def root_of(self, node: Node) -> Iterator[None]:
        """Make the task that this block spawns the root task of a node."""
        self._root_of = node
        try:
            yield
        finally:
            self._root_of = None

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        nursery = task.parent_nursery
        node = self._root_of
        if node is None and nursery is not None:
            node = self._nodes.get(nursery.parent_task)
        if node is None:
            return
        self._nodes[task] = node
        if nursery is not None and nursery.parent_task in self._scheduler.dead:
            # A living task has started this task in the nursery of a task that was killed.
            self._scheduler.kill((task,))
        else:
            node.tasks[task] = None
            if node.paused:
                # A task of another node has started this task.
                self._scheduler.pause((task,))

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        node = self._nodes.pop(task, None)
        if node is not None:
            # A task that kills its node in its last step has been taken from the node before it ends.
            node.tasks.pop(task, None)


def _error(name: str, problem: str) -> SimulationError:
    return SimulationError(f"node {name!r}: {problem}")
