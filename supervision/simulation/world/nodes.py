"""Nodes: programs of their own in one world, which can be killed as `kill -9` kills, and be booted again.

    async def member(node, peers):
        listener = node.listen(4000)
        ...

    world.nodes.start("a", member, ["b", "c"])
    world.nodes.start("b", member, ["a", "c"])
    await trio.sleep(5)
    world.nodes.kill("a")                     # from here on nothing of its code runs
    world.nodes.boot("a")                     # its main begins anew; its disk is as it was

A node is a host of the virtual network with a runtime, a clock and a disk of its own. Nodes share nothing but the
network, if the program lets them: what a module keeps in its globals, all nodes see.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING, Any, TypeAlias

import trio

from actors.instrumentation.environment import current_environment
from actors.runtime import Runtime, open_runtime
from supervision.simulation.errors import NodeError
from supervision.simulation.scheduling.schedule import Scheduler
from supervision.simulation.scheduling.trio_internals import silence
from supervision.simulation.world.environment import SimulatedEnvironment
from supervision.simulation.world.network import current_host
from supervision.simulation.world.streams import VirtualListener, VirtualStream

if TYPE_CHECKING:
    from supervision.simulation.world.world import World

__all__ = ["Node", "NodeMain", "Nodes"]

NodeMain: TypeAlias = Callable[..., Awaitable[object]]
"""What a node runs: an async function of the `Node` and of what `start` was given besides."""


class Node:
    """One node, through all its lives. Made by `Nodes.start`, and given to the node's main.

    Attributes:
        name: its host in the virtual network.
        incarnation: how often it has been booted, from 1.
        disk: a dict that survives a kill. What is put there is there at once. Put values there that do not change.
        up: whether it runs.
        seconds_ahead: how far its clock is ahead of the world's.
        runtime: of this life; there once its main runs.
    """

    runtime: Runtime

    def __init__(self, world: World, name: str, main: NodeMain, args: tuple[Any, ...]) -> None:
        self.name = name
        self.incarnation = 0
        self.disk: dict[Any, Any] = {}
        self.up = False
        self.seconds_ahead = 0.0
        self.environment: SimulatedEnvironment | None = None
        self.tasks: dict[trio.lowlevel.Task, None] = {}
        self.scope = trio.CancelScope()
        self._world = world
        self._main = main
        self._args = args

    @property
    def label(self) -> str:
        """The name, and from the second life on its number: `a`, `a#2`."""
        return self.name if self.incarnation < 2 else f"{self.name}#{self.incarnation}"

    def listen(self, port: int = 0) -> VirtualListener:
        """Accept connections to a port of this node; OSError if it is in use."""
        return self._world.network.listen(self.name, port)

    async def connect(self, host: str, port: int) -> VirtualStream:
        """Connect from this node to a host's port, as `Network.connect` does."""
        return await self._world.network.connect(host, port, source=self.name)

    def random(self, *purpose: object) -> Random:
        """A stream of random numbers of this life of the node, for one purpose."""
        return self._world.random("node", self.label, *purpose)

    def now(self) -> float:
        """The time of day as this node's clock has it, in seconds since the epoch."""
        world = self._world
        return world.knobs.epoch + world.seconds + self.seconds_ahead

    async def run(self) -> None:
        """One life."""
        knobs = self._world.knobs
        async with open_runtime(
            kill_grace=knobs.kill_grace,
            shutdown_deadline=knobs.shutdown_deadline,
            log=False,
            debug=knobs.checked,
        ) as self.runtime:
            await self._main(self, *self._args)

    def close(self) -> None:
        """The run is over."""
        self.up = False
        self.tasks = {}
        self.scope = trio.CancelScope()
        self.environment = None
        # It may not have come so far that it has one.
        vars(self).pop("runtime", None)


class Nodes:
    """The nodes of a world. Made by `simulate`, as `world.nodes`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._nodes: dict[str, Node] = {}
        self._families: _Families | None = None
        self._killed = False

    # For scenarios

    def start(self, name: str, main: NodeMain, *args: Any) -> Node:
        """Start a node.

            world.nodes.start("store", store_main, 4000)

        Args:
            name: of the node, and of its host in the network.
            main: an async function; it is called with the `Node` and `args`, in a runtime of its own. When it returns,
                the runtime is closed in the ordered way and the node is down; what it raises fails the run.
            *args: for `main`, in every life of the node.

        Raises:
            NodeError: there is a node of that name already; see `boot`.
        """
        if name in self._nodes:
            raise NodeError(name, "there is one already; to start it anew write world.nodes.boot")
        node = self._nodes[name] = Node(self._world, name, main, args)
        self._begin(node)
        return node

    def boot(self, name: str) -> Node:
        """Start a node that is down anew: the same main with the same arguments, the disk as it was left.

        Raises:
            NodeError: there is none of that name, or it runs.
        """
        node = self[name]
        if node.up:
            raise NodeError(name, "it runs already; kill it or stop it first")
        self._world.network.power_on(name)
        self._begin(node)
        return node

    def kill(self, name: str, *, power: bool = False) -> None:
        """Kill a node as `kill -9` does: from this instant nothing of its code runs, not even a `finally` block.

            world.nodes.kill("a")                       # its peers see their connections reset
            world.nodes.kill("b", power=True)           # its peers see nothing at all any more

        Args:
            name: of the node.
            power: whether the machine went, too. Then nobody resets its connections: they stay half open until the
                node is booted again and a peer sends something.

        Raises:
            NodeError: there is none of that name, or it is down.

        A task of the node that kills its own node has run until its next checkpoint, and never comes back from that.
        """
        node = self._running(name)
        fields = {"node": node.label, "host": node.name, "power": power}
        self._world.trace.add("node_killed", fields)
        silence(node.tasks, self._world_scope)
        self._scheduler.bury(node.tasks)
        self._down(node)
        # The scheduler keeps them: dropped tasks would run their clean-ups after all.
        node.tasks = {}
        self._killed = True
        self._world.network.host_gone(name, "unplugged" if power else "killed")

    def stop(self, name: str) -> None:
        """Ask a node to end, as SIGTERM does: its main is cancelled, and its runtime closes in the ordered way.

        Raises:
            NodeError: there is none of that name, or it is down.
        """
        self._running(name).scope.cancel()

    def skew(self, name: str, seconds: float) -> None:
        """Put a node's clock forward, or back: what `runtime.now()` says there. Durations stay what they are.

        Args:
            name: of the node.
            seconds: are added to the time of day.
        """
        node = self[name]
        node.seconds_ahead += seconds
        self._world.trace.add("node_skewed", {"node": node.label, "seconds": seconds})

    def disk(self, name: str) -> dict[Any, Any]:
        """What a node has written down, which survives every kill."""
        return self[name].disk

    def is_up(self, name: str) -> bool:
        """Whether a node runs; also while it ends in the ordered way."""
        return self[name].up

    def __getitem__(self, name: str) -> Node:
        node = self._nodes.get(name)
        if node is None:
            known = ", ".join(self._nodes) or "none"
            raise NodeError(name, f"there is no node of that name; there is {known}")
        return node

    def names(self) -> tuple[str, ...]:
        """The names of all nodes, up or down, in the order in which they were first started."""
        return tuple(self._nodes)

    # For the run

    def name_of(self, label: str) -> str:
        """The node that a runtime is in, by the label of the runtime: `a` for `a#2`."""
        for name, node in self._nodes.items():
            if label == node.label or label.startswith(f"{node.label}."):
                return name
        return label

    @property
    def only_dead_ones(self) -> bool:
        """Whether no node runs, but there are tasks of killed ones, which will never end."""
        return self._killed and not any(node.up for node in self._nodes.values())

    def open(
        self,
        nursery: trio.Nursery,
        scheduler: Scheduler,
        failed: Callable[[BaseException], None],
    ) -> None:
        """The run has begun: nodes are tasks of `nursery`, and what they raise is told to `failed`."""
        self._nursery = nursery
        self._world_scope = nursery.cancel_scope
        self._scheduler = scheduler
        self._failed = failed

    def close(self) -> None:
        """The run is over: let go of everything but the disks."""
        for node in self._nodes.values():
            node.close()
        self._families = None
        del self._nursery, self._world_scope, self._scheduler, self._failed

    def _running(self, name: str) -> Node:
        node = self[name]
        if not node.up:
            raise NodeError(name, "it is down; write world.nodes.boot to start it anew")
        return node

    def _begin(self, node: Node) -> None:
        world = self._world
        if self._families is None:
            self._families = _Families(self._scheduler)
            trio.lowlevel.add_instrument(self._families)
        node.incarnation += 1
        node.up = True
        node.scope = trio.CancelScope()
        node.environment = world.new_environment(node.label, node.now)
        world.trace.add("node_started", {"node": node.label})
        with self._families.born(node):
            self._nursery.start_soon(self._live, node, name=f"node {node.label}")

    async def _live(self, node: Node) -> None:
        assert node.environment is not None  # _begin has made it
        current_environment.set(node.environment)
        current_host.set(node.name)
        try:
            with node.scope:
                await node.run()
        except* (
            Exception
        ) as errors:  # nobody waits for a node, so this is the only place where it shows
            self._failed(errors)
        finally:
            self._world.trace.add("node_ended", {"node": node.label})
            self._down(node)
            self._world.network.host_gone(node.name, "ended")

    def _down(self, node: Node) -> None:
        node.up = False
        assert node.environment is not None  # it was up
        self._world.forget(node.environment)


class _Families(trio.abc.Instrument):
    """Knows which tasks belong to which node: the node's own, and whatever is started in a nursery of such a task."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._nodes: dict[trio.lowlevel.Task, Node] = {}
        self._born: Node | None = None

    @contextmanager
    def born(self, node: Node) -> Iterator[None]:
        """The task that is spawned in this block is the root of a node."""
        self._born = node
        try:
            yield
        finally:
            self._born = None

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        nursery = task.parent_nursery
        node = self._born
        if node is None and nursery is not None:
            node = self._nodes.get(nursery.parent_task)
        if node is None:
            return
        self._nodes[task] = node
        if nursery is not None and nursery.parent_task in self._scheduler.dead:
            # Somebody who lives has reached into a nursery of a node that does not.
            self._scheduler.bury((task,))
        else:
            node.tasks[task] = None

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        node = self._nodes.pop(task, None)
        if node is not None:
            del node.tasks[task]
