"""The network of a world: listeners, connections, streams, and their faults.

    listener = world.network.listen("server", 4000)
    stream = await world.network.connect("server", 4000, source="phone")

    world.network.partition("server", "phone")            # nothing passes, nothing is lost
    world.network.heal()
    world.network.connections[0].reset()

Bytes arrive late, in pieces of random sizes, in order and exactly once. A sender waits if the window is full. Streams
are Trio streams, and servers can ask them for addresses as they ask a socket. Any name is a host; no
declaration is necessary. A client chooses the name of its own host.
"""

from __future__ import annotations

import itertools
import operator
import socket as sockets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal
from zlib import crc32

import trio

from actors.errors import NotAProcess
from actors.process import current_pid
from actors.refs import Pid
from supervision.laboratory.entropy import Streams
from supervision.laboratory.simulation.knobs import Knobs
from supervision.laboratory.simulation.world.pipes import Pipe, Shape
from supervision.recording.trace import Trace

__all__ = ["Network", "VirtualConnection", "VirtualListener", "VirtualStream", "current_host"]


Direction = Literal["both", "to_target", "to_source"]

current_host: ContextVar[str] = ContextVar("simulated_host", default="client")
"""The host that code runs on: the name of its node, or "client" outside of nodes."""


class Network:
    """The network of a world. `simulate` creates it as `world.network`.

    Attributes:
        connections: the open connections, the oldest first. A connection is open until both sides have closed it.
        on_fault: called after the start and after the end of each network fault, with the kind of the trace event.
        on_served: called with the number of a connection and the process that begins to serve it.
        knobs: the settings of the world.
        ports: the free ports.
        numbers: the numbers of further connections, from 1.
    """

    def __init__(self, knobs: Knobs, streams: Streams, trace: Trace) -> None:
        self.connections: list[VirtualConnection] = []
        self.on_fault: Callable[[str], None] = lambda what: None
        self.on_served: Callable[[int, Pid], None] = lambda connection, pid: None
        self.knobs = knobs
        self._streams = streams
        self._trace = trace
        self._listeners: dict[tuple[str, int], VirtualListener] = {}
        self._cuts: dict[tuple[str, str], None] = {}
        self._dark: dict[str, None] = {}
        self._healed = trio.lowlevel.ParkingLot()
        self._addresses: dict[str, str] = {}
        self.ports = itertools.count(49152)
        self._made: dict[tuple[str, str], int] = {}
        self.numbers = itertools.count(1)

    # Connecting

    def listen(self, host: str, port: int = 0) -> VirtualListener:
        """Accept connections to a port of a host.

        Args:
            host: any name.
            port: the port; 0 takes a free port.

        Returns:
            The listener.

        Raises:
            OSError: the port is in use.
        """
        port = port or next(self.ports)
        if (host, port) in self._listeners:
            raise OSError(98, f"port {port} of the virtual host {host!r} is in use")
        listener = self._listeners[host, port] = VirtualListener(self, host, port)
        self.record("listening", {"host": host, "port": port})
        return listener

    async def open(self, host: str, port: int) -> VirtualListener:
        """Accept connections. This is the async form of `listen`, for `Endpoint(..., listen=world.network.open)`."""
        await trio.lowlevel.checkpoint()
        return self.listen(host, port)

    async def connect(self, host: str, port: int, *, source: str | None = None) -> VirtualStream:
        """Connect to a listener.

        Args:
            host: the host of the listener.
            port: the port of the listener.
            source: the connecting host; None takes the node of the caller, or "client" outside of nodes.

        Returns:
            The stream.

        Raises:
            ConnectionRefusedError: there is no listener.
            TimeoutError: a partition or a host without power blocked the attempt for `Knobs.connect_timeout`.
        """
        source = current_host.get() if source is None else source
        pair = (source, host)
        made = self._made[pair] = self._made.get(pair, 0) + 1
        stream = self._streams.stream("network", source, host, made)
        with trio.move_on_after(self.knobs.connect_timeout):
            await self._pass(source, host, stream.uniform(*self.knobs.latency))
            listener = self._listeners.get((host, port))
            if listener is not None:
                connection = VirtualConnection(self, source, listener, stream, made)
                listener.offer(connection.target_end)
            await self._pass(host, source, stream.uniform(*self.knobs.latency))
            if listener is None:
                raise ConnectionRefusedError(111, f"there is no listener on {host}:{port}")
            return connection.source_end
        raise TimeoutError(110, f"{host}:{port} did not answer {source}")

    async def _pass(self, source: str, target: str, latency: float) -> None:
        await trio.sleep(latency)
        while self.cut(source, target) or target in self._dark:
            await self._healed.park()

    # Faults

    def partition(self, one: str, other: str) -> None:
        """Block all data between two hosts, in both directions.

        Args:
            one: the name of a host.
            other: the name of another host.
        """
        self.partition_oneway(one, other)
        self.partition_oneway(other, one)

    def partition_oneway(self, source: str, target: str) -> None:
        """Block all data from one host to another. The other direction stays open.

        Args:
            source: the host whose data the network blocks.
            target: the host that does not get this data.
        """
        self._cuts[source, target] = None
        self.record("partition", {"from": source, "to": target})
        self.on_fault("partition")

    def heal(self, one: str | None = None, other: str | None = None) -> None:
        """End the partitions between two hosts, or all partitions. The network sends blocked data again.

        Args:
            one: the name of a host; None ends all partitions.
            other: the name of the other host of the partition.
        """
        hosts = {one, other}
        healed = [cut for cut in self._cuts if one is None or hosts == set(cut)]
        for cut in healed:
            del self._cuts[cut]
        self.record("healed", {"ways": healed})
        self._healed.unpark_all()
        for connection in self.connections:
            connection.go_on()
        self.on_fault("healed")

    @property
    def is_disturbed(self) -> bool:
        """True while there is a partition, or a held connection with two open ends."""
        return bool(self._cuts) or any(connection.is_held for connection in self.connections)

    def cut(self, source: str, target: str) -> bool:
        """Return True if a partition blocks the direction from one host to another."""
        return bool(self._cuts) and (source, target) in self._cuts

    # For nodes

    def host_gone(self, host: str, how: Literal["ended", "killed", "unplugged"]) -> None:
        """Close the connections of a host whose program has ended, as a kernel does. After a kill, reset them.

        If the machine is without power, its connections stay half open, because nothing closes them.
        """
        for listener in [each for each in self._listeners.values() if each.host == host]:
            listener.close() if how != "unplugged" else self.forget_listener(listener)
        for connection in [each for each in self.connections if host in each.hosts]:
            if how == "ended":
                connection.end_at(host).close()
            elif how == "killed":
                connection.reset()
            else:
                connection.unplugged(host)
        if how == "unplugged":
            self._dark[host] = None

    def power_on(self, host: str) -> None:
        """Turn on a host. It has forgotten its connections, and resets a connection when the peer sends something."""
        if self._dark.pop(host, host) is None:
            for connection in [each for each in self.connections if host in each.hosts]:
                connection.forgotten(host)
            self._healed.unpark_all()

    # For connections and listeners

    def address_of(self, host: str) -> str:
        """Return the address of a host. If its name is an address, return the name."""
        if host.replace(".", "").isdigit():
            return host
        number = len(self._addresses) + 1
        return self._addresses.setdefault(host, f"10.0.{number // 250}.{number % 250 + 1}")

    def forget_listener(self, listener: VirtualListener) -> None:
        """Remove a listener that was closed."""
        if self._listeners.get((listener.host, listener.port)) is listener:
            del self._listeners[listener.host, listener.port]

    def record(self, kind: str, fields: dict[str, Any]) -> None:
        """Add an event to the trace."""
        self._trace.add(kind, fields)


class VirtualConnection:
    """One connection, and the faults that it may have.

    Attributes:
        number: the number of the connection in the world, from 1.
        name: the hosts and a number: `phone->server#2` is the second connection from `phone` to `server`.
        source: the connecting host.
        target: the host of the listener.
        source_end: the stream of the source.
        target_end: the stream of the target.
        pid: the process that serves the connection, which is the first reader at the target; None before the first
            read, or if a plain task serves it.
    """

    def __init__(
        self, network: Network, source: str, listener: VirtualListener, stream: Any, made: int
    ) -> None:
        target = listener.host
        self.network = network
        self.number = next(network.numbers)
        self.name = f"{source}->{target}#{made}"
        self.source = source
        self.target = target
        self.pid: Pid | None = None
        self._was_read = False
        knobs = network.knobs
        self.shape = Shape(latency=knobs.latency, segment=knobs.segment, window=knobs.window)
        forth = Pipe(self.shape, stream, lambda: network.cut(source, target))
        back = Pipe(self.shape, stream, lambda: network.cut(target, source))
        self._pipes = (forth, back)
        here = (network.address_of(source), next(network.ports))
        there = (network.address_of(target), listener.port)
        self.source_end = VirtualStream(self, "source", (back, forth), here, there)
        self.target_end = VirtualStream(self, "target", (forth, back), there, here)
        network.connections.append(self)
        network.record("connected", {"connection": self.number, "source": source, "target": target})

    def read_by_server(self) -> None:
        """Remember the first reader at the target, which serves the connection."""
        if not self._was_read:
            self._was_read = True
            try:
                self.pid = current_pid()
            except NotAProcess:
                # A plain task serves the connection.
                return
            self.network.on_served(self.number, self.pid)

    @property
    def is_held(self) -> bool:
        """True while the connection holds back data and both its ends are open."""
        in_use = not (self.source_end.closed or self.target_end.closed)
        return in_use and any(pipe.held for pipe in self._pipes)

    def hold(self, direction: Direction = "both") -> None:
        """Hold back all data until `release`.

        Args:
            direction: the direction of the data to hold.
        """
        for pipe in self._chosen(direction):
            pipe.held = True
        self._record_fault("held", direction=direction)

    def release(self, direction: Direction = "both") -> None:
        """End a `hold`. The connection sends the held data again.

        Args:
            direction: the direction of the data to release.
        """
        for pipe in self._chosen(direction):
            pipe.held = False
            pipe.go_on()
        self._record_fault("released", direction=direction)

    def half_open(self) -> None:
        """Hold back all data, as if one side had disappeared silently. Neither end gets an error."""
        self.hold()

    def reset(self) -> None:
        """Reset the connection: data in transit is lost, and both ends fail with BrokenResourceError."""
        self._record("reset")
        for pipe in self._pipes:
            pipe.break_off("the connection was reset")
        self.closed()
        self.network.on_fault("reset")

    def slow(self, rate: float) -> None:
        """Limit each direction to a rate.

        Args:
            rate: the limit in bytes per second.
        """
        self.shape.rate = rate
        self._record_fault("slowed", rate=rate)

    def delay(self, seconds: float) -> None:
        """Add `seconds` to the latency of all later data. The latency never falls below 0.

        Args:
            seconds: the seconds to add. A negative number shortens the latency.
        """
        least, most = self.shape.latency
        self.shape.latency = (max(0.0, least + seconds), max(0.0, most + seconds))
        self._record_fault("delayed", seconds=seconds)

    @property
    def hosts(self) -> tuple[str, str]:
        """The source and the target."""
        return self.source, self.target

    def end_at(self, host: str) -> VirtualStream:
        """Return the stream of one of the hosts.

        Args:
            host: the source or the target. If both are the same host, the result is the end of the source.
        """
        return self.source_end if host == self.source else self.target_end

    def unplugged(self, host: str) -> None:
        """Cut off a host without power. It no longer reads, writes or closes.

        Args:
            host: the source or the target.
        """
        self.half_open()
        self.end_at(host).closed = True

    def forgotten(self, host: str) -> None:
        """Reset the connection as soon as data arrives at `host`, which has forgotten the connection."""
        towards = self._pipes[0 if host == self.target else 1]
        if towards.waiting:
            self.reset()
        towards.on_write = self.reset

    def go_on(self) -> None:
        """Continue after a partition."""
        for pipe in self._pipes:
            if not pipe.blocked:
                pipe.go_on()

    def closed(self) -> None:
        """Remove the connection if it was reset, or if both ends are closed."""
        broken = self._pipes[0].broken is not None
        if (broken or (self.source_end.closed and self.target_end.closed)) and (
            self in self.network.connections
        ):
            self.network.connections.remove(self)
            self._record("disconnected")

    def _chosen(self, direction: Direction) -> tuple[Pipe, ...]:
        forth, back = self._pipes
        return {"both": (forth, back), "to_target": (forth,), "to_source": (back,)}[direction]

    def _record_fault(self, kind: str, **fields: Any) -> None:
        self._record(kind, **fields)
        self.network.on_fault(kind)

    def _record(self, kind: str, **fields: Any) -> None:
        self.network.record(kind, {"connection": self.number, **fields})


class VirtualStream(trio.abc.HalfCloseableStream):
    """One end of a connection, as a Trio stream. `Network.connect` and listeners create it.

    Attributes:
        connection: the connection.
        socket: an object with the part of a socket that servers use: `family`, `getpeername()`, `getsockname()`.
        closed: True once this end is closed.
    """

    def __init__(
        self,
        connection: VirtualConnection,
        side: str,
        pipes: tuple[Pipe, Pipe],
        own: tuple[str, int],
        peer: tuple[str, int],
    ) -> None:
        self.connection = connection
        self.socket = _SocketLike(own, peer)
        self.closed = False
        self._side = side
        self._incoming, self._outgoing = pipes
        self._sending = self._receiving = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes. Wait until all of the bytes fit into the window.

        Args:
            data: the bytes to send.

        Raises:
            trio.BusyResourceError: another task is sending.
            trio.ClosedResourceError: this end is closed.
            trio.BrokenResourceError: the connection was reset, or the other end is closed.
        """
        connection = self.connection
        with self._sending_alone():
            if connection.network.knobs.messages and data:
                fields = {"side": self._side, "size": len(data), "crc": f"{crc32(data):08x}"}
                connection.network.record("data", {"connection": connection.number, **fields})
            await self._outgoing.write(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room in the window."""
        with self._sending_alone():
            await self._outgoing.writable()

    @contextmanager
    def _sending_alone(self) -> Iterator[None]:
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        if self.closed:
            raise trio.ClosedResourceError("this stream was closed")
        self._sending = True
        try:
            yield
        finally:
            self._sending = False

    async def send_eof(self) -> None:
        """Send the end of the data."""
        if self.closed:
            raise trio.ClosedResourceError("this stream was closed")
        await trio.lowlevel.checkpoint()
        self._outgoing.finish()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Wait for data, and return it; `b""` is the end.

        Args:
            max_bytes: the largest number of bytes to return; None returns all that have arrived.

        Raises:
            ValueError: `max_bytes` is below 1.
            trio.BusyResourceError: another task is receiving.
            trio.ClosedResourceError: this end is closed.
            trio.BrokenResourceError: the connection was reset.
        """
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving from this stream")
        if max_bytes is not None and operator.index(max_bytes) < 1:
            raise ValueError(f"max_bytes is {max_bytes!r}; write 1 or more, or None")
        if self._side == "target":
            self.connection.read_by_server()
        self._receiving = True
        try:
            return await self._incoming.read(max_bytes, lambda: self.closed)
        finally:
            self._receiving = False

    async def aclose(self) -> None:
        """Close both directions. Earlier data still arrives."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close both directions, without a checkpoint."""
        if not self.closed:
            self.closed = True
            self._outgoing.finish()
            self._outgoing.wake()
            self._incoming.reader_gone()
            self.connection.closed()


class _SocketLike:
    """The part of a socket that servers use."""

    family = sockets.AF_INET

    def __init__(self, own: tuple[str, int], peer: tuple[str, int]) -> None:
        self._own = own
        self._peer = peer

    def getsockname(self) -> tuple[str, int]:
        """Return the address of this end."""
        return self._own

    def getpeername(self) -> tuple[str, int]:
        """Return the address of the other end."""
        return self._peer


class VirtualListener(trio.abc.Listener[VirtualStream]):
    """A listener for virtual connections, for Trio and for endpoints. `Network.listen` creates it.

    Attributes:
        host: the host.
        port: the port. The network chooses it if `listen` got 0.
    """

    def __init__(self, network: Network, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._network = network
        self._waiting: list[VirtualStream] = []
        self._lot = trio.lowlevel.ParkingLot()
        self._closed = False

    def offer(self, stream: VirtualStream) -> None:
        """Add a connection, which then waits for `accept`."""
        self._waiting.append(stream)
        self._lot.unpark(count=1)

    async def accept(self) -> VirtualStream:
        """Wait for a connection.

        Returns:
            The stream of the new connection.
        """
        await trio.lowlevel.checkpoint()
        while True:
            if self._closed:
                raise trio.ClosedResourceError("this listener was closed")
            if self._waiting:
                return self._waiting.pop(0)
            await self._lot.park()

    async def main(self, on_connection: Callable[[Any], object]) -> None:
        """Pass every connection to `on_connection` until the listener closes. An endpoint calls this."""
        while not self._closed:
            try:
                stream = await self.accept()
            except trio.ClosedResourceError:
                return
            on_connection(stream)

    def close(self) -> None:
        """Accept no more connections, and reset the connections that wait for `accept`."""
        if not self._closed:
            self._closed = True
            self._network.forget_listener(self)
            for stream in self._waiting:
                stream.connection.reset()
            self._lot.unpark_all()

    async def aclose(self) -> None:
        """Close the listener. Trio's interface requires this async method."""
        self.close()
        await trio.lowlevel.checkpoint()
