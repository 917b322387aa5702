"""Faults of connections, hosts, nodes, disks, clocks and the event loop, and the interfaces that they need.

A simulation implements these interfaces. For a live system, write adapters and pass them to the injector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol, runtime_checkable

import trio
from msgspec.structs import replace

from actors.refs import Pid
from actors.runtime import Environment, EnvironmentLike, Runtime
from supervision.laboratory.chaos.faults.kinds import (
    ConnectionFault,
    DiskError,
    DiskFault,
    DrainNode,
    Fault,
    FlipBit,
    HalfOpen,
    HoldConnection,
    KillNode,
    LoseWrite,
    Partition,
    PauseNode,
    ResetConnection,
    SkewClock,
    SlowConnection,
    SlowDisk,
    StallLoop,
)
from supervision.laboratory.chaos.faults.moments import OPERATIONS, On
from supervision.laboratory.chaos.injection.ledger import Ledger, Planned
from supervision.laboratory.chaos.injection.points import InjectionPoint, TargetRuntime, choose
from supervision.recording.places import fits

__all__ = ["Breakable", "ClusterControl", "Connections", "NodeControl", "Surroundings"]

_CHANGES: Final = frozenset(OPERATIONS) - {"open", "read", "operation"}


class Breakable(Protocol):
    """An open connection. If it has an attribute `pid`, the trace names that process as its server."""

    @property
    def name(self) -> str:
        """Both hosts, and the number of this connection between them: `phone->server#2`."""

    def reset(self) -> None:
        """Break the connection, with an error at both ends."""

    def hold(self) -> None:
        """Hold all data back until `release`."""

    def release(self) -> None:
        """End a `hold`."""

    def delay(self, seconds: float) -> None:
        """Add `seconds` to the transit time of all later data. A negative number makes the transit time shorter."""


class Connections(Protocol):
    """A network whose connections can be broken."""

    @property
    def connections(self) -> Sequence[Breakable]:
        """The open connections, the oldest first."""

    def partition_oneway(self, source: str, target: str) -> None:
        """Block all data from one host to another. The other direction stays open.

        Args:
            source: the host whose data the network blocks.
            target: the host that does not get the data.
        """

    def heal(self, one: str | None = None, other: str | None = None) -> None:
        """End the partitions between two hosts, or all partitions.

        Args:
            one: the name of a host; None ends all partitions.
            other: the name of the other host.
        """


class NodeControl(Protocol):
    """Nodes that can be killed and paused."""

    def names(self) -> Sequence[str]:
        """Return the names of all nodes, up or down."""

    def is_up(self, name: str) -> bool:
        """Return True if a node runs.

        Args:
            name: the name of the node.
        """

    def kill(self, name: str, *, power: bool = False) -> None:
        """Kill a node that is up, as `kill -9` does.

        Args:
            name: the name of the node.
            power: cut the power of its machine.
        """

    def boot(self, name: str) -> object:
        """Start a node that is down.

        Args:
            name: the name of the node.

        Returns:
            The node.
        """

    def pause(self, name: str) -> None:
        """Stop the tasks of a node that is up.

        Args:
            name: the name of the node.
        """

    def resume(self, name: str) -> None:
        """Let the tasks of a paused node run again. Do nothing if it is not paused.

        Args:
            name: the name of the node.
        """

    def skew(self, name: str, seconds: float) -> None:
        """Set the clock of a node forward.

        Args:
            name: the name of the node.
            seconds: the shift of its clock, in seconds.
        """


@runtime_checkable
class ClusterControl(NodeControl, Protocol):
    """Nodes of a live cluster."""

    def find(self, name: str, then: Callable[[str | None], None]) -> None:
        """Call `then` with the name of the node that a fault means, or with None. This may take a moment.

        Args:
            name: the name of a node, or `owner of SUPERVISOR/KEY`.
            then: a function.
        """

    def drain(self, name: str) -> None:
        """Let a node drain and stop, and start it again.

        Args:
            name: the name of the node.
        """


class Surroundings:
    """The faults of connections, hosts, nodes, disks, clocks and the event loop.

    Args:
        ledger: the ledger of the plan.
        at: calls a function at a time of `trio.current_time`.
        connections: the network, or None.
        nodes: the nodes, or None.
        stall: blocks the event loop for some seconds.
        targets: the runtimes.
    """

    def __init__(
        self,
        ledger: Ledger,
        at: Callable[[float, Callable[[], object]], None],
        connections: Connections | None,
        nodes: NodeControl | None,
        *,
        stall: Callable[[float], None],
        targets: Sequence[TargetRuntime],
    ) -> None:
        self._ledger = ledger
        self._at = at
        self._connections = connections
        self._nodes = nodes
        self._stall = stall
        self._targets = targets
        # The faults that the next matching operation of a disk meets. Some of them last.
        self._of_disks: list[Planned] = []
        # Maps each lasting fault to a key for its effect and to the function that undoes the effect. If several faults
        # have the same key, the effect lasts until all these faults are over.
        self._undo: dict[Planned, tuple[object, Callable[[], None]]] = {}

    def heal(self, *, boot: bool) -> None:
        """Undo every lasting effect. With `boot`, boot the killed nodes that have a `reboot_after`."""
        for planned in list(self._undo):
            if boot or not isinstance(planned.fault, KillNode):
                self._over(planned)
        self._undo.clear()
        self._of_disks.clear()

    def wait(self, planned: Planned) -> None:
        """Keep a fault until the next matching operation of a disk."""
        self._of_disks.append(planned)

    def do(self, planned: Planned) -> None:
        """Apply a fault."""
        fault = planned.fault
        if isinstance(fault, ConnectionFault):
            self._to_connection(planned, fault)
        elif isinstance(fault, Partition):
            self._cut(planned, fault)
        elif isinstance(fault, KillNode | PauseNode | DrainNode):
            then = partial(self._to_node, planned, fault)
            if isinstance(self._nodes, ClusterControl):
                self._nodes.find(fault.node, then)
            else:
                then(fault.node)
        elif isinstance(fault, SkewClock):
            self._skew(planned, fault)
        elif isinstance(fault, StallLoop):
            self._ledger.applied(planned, "the loop")
            self._stall(fault.seconds)

    def use_nodes(self, nodes: NodeControl | None) -> None:
        """Apply the faults of nodes to these nodes from now on."""
        self._nodes = nodes

    # Connections

    def _to_connection(self, planned: Planned, fault: ConnectionFault) -> None:
        if self._connections is None:
            self._ledger.missed(planned, "the injector has no network")
            return
        found = [each for each in self._connections.connections if fits(each.name, fault.target)]
        if not found:
            self._ledger.missed(planned, "no such connection was open at that time")
            return
        connection = choose(found, fault.pick)
        self._ledger.applied(planned, self._server_of(connection), where=connection.name)
        if isinstance(fault, ResetConnection):
            connection.reset()
        elif isinstance(fault, HoldConnection):
            self._hold(planned, connection, fault.seconds)
        elif isinstance(fault, HalfOpen):
            self._hold(planned, connection, None)
        elif isinstance(fault, SlowConnection):
            connection.delay(fault.latency)
            faster = partial(self._if_open, connection, partial(connection.delay, -fault.latency))
            # Each fault has its own key, because latencies add up.
            self._until(planned, fault.seconds, planned, faster)

    def _server_of(self, connection: Breakable) -> InjectionPoint | str:
        """Return the process that serves a connection, if known, and otherwise the name of the connection."""
        pid = getattr(connection, "pid", None)
        for target in self._targets:
            if pid is not None and target.places.place_of(pid) is not None:
                return InjectionPoint(target, pid)
        return connection.name

    def _hold(self, planned: Planned, connection: Breakable, seconds: float | None) -> None:
        connection.hold()
        release = partial(self._if_open, connection, connection.release)
        self._until(planned, seconds, id(connection), release)

    def _if_open(self, connection: Breakable, undo: Callable[[], None]) -> None:
        if self._connections is not None and connection in self._connections.connections:
            undo()

    def _cut(self, planned: Planned, fault: Partition) -> None:
        network = self._connections
        if network is None:
            self._ledger.missed(planned, "the injector has no network")
            return
        one, other = fault.one, fault.other
        arrow = "<->" if fault.both else "->"
        self._ledger.applied(planned, f"{one}{arrow}{other}")
        network.partition_oneway(one, other)
        if fault.both:
            network.partition_oneway(other, one)
        key = ("cut", *sorted((one, other)))
        self._until(planned, fault.seconds, key, partial(network.heal, one, other))

    # Nodes and clocks

    def _to_node(
        self, planned: Planned, fault: KillNode | PauseNode | DrainNode, name: str | None
    ) -> None:
        nodes = self._nodes
        if planned.status is not None:
            # The plan has ended while the control looked for the node.
            return
        if name is not None and name != fault.node:
            planned.fault = replace(fault, node=f"{name} ({fault.node})")
        if nodes is None or name is None or name not in nodes.names():
            self._ledger.missed(planned, f"there is no node {name or fault.node} here")
        elif not nodes.is_up(name):
            self._ledger.masked(planned, name, "the node was already down")
        elif isinstance(fault, KillNode):
            if fault.power and isinstance(nodes, ClusterControl):
                self._ledger.missed(planned, "only a simulated machine can lose its power")
                return
            self._ledger.applied(planned, name)
            before = [each for each in nodes.names() if nodes.is_up(each)]
            nodes.kill(name, power=fault.power)
            # A power cut ends all nodes of the machine, and their pauses.
            down = [each for each in before if not nodes.is_up(each)]
            ended = [("paused", each) for each in (name, *down)]
            self._undo = {each: undo for each, undo in self._undo.items() if undo[0] not in ended}
            if fault.reboot_after is not None:
                boot = partial(_boot, nodes, down)
                self._until(planned, fault.reboot_after, ("down", name), boot)
        elif isinstance(fault, PauseNode):
            self._ledger.applied(planned, name)
            paused = ("paused", name)
            if all(key != paused for key, _ in self._undo.values()):
                nodes.pause(name)
            self._until(planned, fault.seconds, paused, partial(nodes.resume, name))
        elif isinstance(nodes, ClusterControl):
            self._ledger.applied(planned, name)
            nodes.drain(name)
        else:
            self._ledger.missed(planned, "only the nodes of a live cluster can be drained")

    # Disks

    def on_disk(self, operation: str, address: str) -> list[DiskFault]:
        """Apply faults to an operation of a disk that is about to begin.

        Args:
            operation: one of `OPERATIONS`.
            address: the name of the node and the path of the file, such as `a/journal`.

        Returns:
            The faults that change the operation.
        """
        found: list[DiskFault] = []
        for planned in tuple(self._of_disks):
            fault = planned.fault
            lasts = planned.status == "applied" and _affects(fault, operation, address)
            if not lasts and not _is_now(planned, operation, address):
                continue
            if isinstance(fault, DiskFault):
                found.append(fault)
            if not lasts:
                self._to_disk(planned, address)
        return found

    def _to_disk(self, planned: Planned, address: str) -> None:
        fault, end = planned.fault, partial(self._of_disks.remove, planned)
        if isinstance(fault, DiskError | SlowDisk) and fault.seconds:
            self._until(planned, fault.seconds, planned, end)
        else:
            end()
        if isinstance(fault, KillNode):
            self._to_node(planned, fault, fault.node)
        else:
            self._ledger.applied(planned, address)

    def _skew(self, planned: Planned, fault: SkewClock) -> None:
        seconds, name = fault.seconds, fault.node
        if name is None:
            self._ledger.applied(planned, "the clock")
            self._skew_runtimes(seconds)
            self._until(planned, None, planned, partial(self._skew_runtimes, -seconds))
        elif self._nodes is None or name not in self._nodes.names():
            self._ledger.missed(planned, f"there is no node {name} here")
        else:
            self._ledger.applied(planned, f"the clock of {name}")
            self._nodes.skew(name, seconds)
            self._until(planned, None, planned, partial(self._nodes.skew, name, -seconds))

    def _skew_runtimes(self, seconds: float) -> None:
        for target in self._targets:
            if not target.node:
                environment = target.runtime.environment
                if not isinstance(environment, _SkewedEnvironment):
                    environment = _SkewedEnvironment(environment)
                    target.runtime.environment = environment
                environment.seconds += seconds

    # Faults that last

    def _until(
        self, planned: Planned, seconds: float | None, key: object, undo: Callable[[], None]
    ) -> None:
        self._undo[planned] = (key, undo)
        if seconds is not None:
            self._at(trio.current_time() + seconds, partial(self._over, planned))

    def _over(self, planned: Planned) -> None:
        entry = self._undo.pop(planned, None)
        if entry is None or any(key == entry[0] for key, _ in self._undo.values()):
            return
        try:
            entry[1]()
        except Exception as error:  # an adapter's mistake must not stop the timers
            self._ledger.failed(planned, f"it could not be undone: {type(error).__name__}: {error}")


def _boot(nodes: NodeControl, names: Sequence[str]) -> None:
    for name in names:
        # The scenario may have booted the node already.
        if not nodes.is_up(name):
            nodes.boot(name)


def _affects(fault: Fault, operation: str, address: str) -> bool:
    """Return True if a fault can affect an operation at all."""
    if isinstance(fault, KillNode):
        return operation in _CHANGES and address.startswith(f"{fault.node}/")
    if isinstance(fault, LoseWrite):
        possible = operation == "write"
    elif isinstance(fault, FlipBit):
        possible = operation in ("read", "write")
    elif isinstance(fault, DiskError) and fault.error == "ENOSPC":
        possible = operation in ("write", "truncate")
    else:
        possible = True
    return possible and isinstance(fault, DiskFault) and fits(address, fault.target)


def _is_now(planned: Planned, operation: str, address: str) -> bool:
    """Count an operation for a fault, and return True if the fault waits for this one."""
    when = planned.fault.when
    if not _affects(planned.fault, operation, address):
        return False
    if not isinstance(when, On):
        return True
    if when.kind is not None and not fits(address.partition("/")[2], when.kind):
        return False
    if when.callback != operation and not (when.callback == "operation" and operation in _CHANGES):
        return False
    planned.count += 1
    return planned.count >= when.nth


class _SkewedEnvironment(Environment):
    """An environment whose clock is `seconds` ahead of the clock of its inner environment."""

    def __init__(self, inner: EnvironmentLike) -> None:
        self.inner = inner
        self.seconds = 0.0

    def opened(self, runtime: Runtime) -> None:
        self.inner.opened(runtime)

    def random(self, process: Pid | None) -> Any:
        return self.inner.random(process)

    def uuid(self, process: Pid | None) -> Any:
        return self.inner.uuid(process)

    def now(self) -> float:
        return self.inner.now() + self.seconds

    def since_boot(self) -> float:
        return self.inner.since_boot()
