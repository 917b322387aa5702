"""The network of a live experiment, with real connections that faults can break, hold and slow down.

    run_live(scenario, seed=7, seconds=60, network=LiveNetwork())

    async def scenario(world):
        endpoint = Endpoint(sockets={"/socket": UserSocket}, listen=world.listen)

The endpoint serves real clients at a real port. Each connection passes through a proxy of two tasks, and faults act on
the proxy. A connection with the proxy takes about twice as much processor time. The endpoint sees a local address for
every client.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio

from actors.instrumentation.instrument import Instrument
from actors.refs import Pid
from actors.runtime import Runtime
from channels.laboratory._proxied_connection import LiveConnection
from channels.recording.clients import trace_clients
from channels.transports.listener import Listener
from supervision.recording.recorder import Recorder
from supervision.recording.trace import Trace

__all__ = ["LiveNetwork"]


class LiveNetwork(Instrument):
    """The network of one run, for `supervision.laboratory.chaos.live.run.run_live`.

    Attributes:
        connections: the open connections, oldest first.
    """

    def __init__(self) -> None:
        self.connections: list[LiveConnection] = []
        self._by_socket: dict[int, LiveConnection] = {}
        self._sources: dict[tuple[str, int], str] = {}
        self._cuts: list[tuple[str, str]] = []
        self._numbers: dict[tuple[str, str], int] = {}
        self._nursery: trio.Nursery | None = None
        self._trace: Trace | None = None

    # For scenarios

    async def open(self, host: str, port: int) -> _Led:
        """Listen, for `Endpoint(..., listen=world.listen)`.

        Raises:
            ListenError: the address cannot be used.
        """
        return _Led(self, await Listener.open(host, port))

    async def connect(
        self, host: str, port: int, *, source: str | None = None
    ) -> trio.SocketStream:
        """Connect to a listener of this run or of another program.

        Args:
            host: the host of the listener.
            port: the port of the listener.
            source: the name of the connecting host in the names of connections; by default its address.

        Raises:
            OSError: there is no listener.
        """
        stream = await trio.open_tcp_stream(host, port)
        if source is not None:
            address = stream.socket.getsockname()[:2]
            self._sources[address] = source
            for connection in self.connections:
                if connection.peer[:2] == address:
                    self._name(connection)
        return stream

    async def forward(
        self,
        target: str,
        dial: Callable[[], Awaitable[socket.socket]],
        *,
        source: str | None = None,
    ) -> int:
        """Listen on a free port of this machine, and carry each connection to a server in another process.

        Args:
            target: the name of the server in the names of connections.
            dial: connects to the server. It raises OSError if this fails; the network then closes the connection.
            source: the name of all connecting hosts; by default each has its address, or the `source` of `connect`.

        Returns:
            The port.
        """
        assert self._nursery is not None  # the run waits for `attached`
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        carry = partial(self._forward, target, dial, source)
        self._nursery.start_soon(trio.serve_listeners, carry, [listener])
        return int(listener.socket.getsockname()[1])

    async def _forward(
        self,
        target: str,
        dial: Callable[[], Awaitable[socket.socket]],
        source: str | None,
        stream: trio.SocketStream,
    ) -> None:
        try:
            here = await dial()
        except OSError:
            await trio.aclose_forcefully(stream)
            return
        # The server sees this address, and records it too. A Unix socket has none.
        line = f"tcp {':'.join(map(str, here.getsockname()[:2]))}"
        outside = socket.socket(fileno=stream.socket.detach())
        try:
            connection = LiveConnection(
                outside,
                target,
                here=here,
                heard=lambda: self._record("answered", connection, arrives=f"{line} answer"),
            )
        except OSError:
            # The client has gone meanwhile.
            outside.close()
            here.close()
            return
        if source is not None:
            connection.source = source
        self.connections.append(connection)
        self._name(connection)
        await self._serve(connection, leaves=line)

    # For faults

    def partition_oneway(self, source: str, target: str) -> None:
        """Stop data from one host to another, on current and future connections."""
        self._cuts.append((source, target))
        for connection in self.connections:
            connection.cut(source, target)

    def heal(self, one: str | None = None, other: str | None = None) -> None:
        """End the partitions between two hosts, or all partitions."""
        if one is None or other is None:
            self._cuts.clear()
        else:
            self._cuts = [cut for cut in self._cuts if set(cut) != {one, other}]
        for connection in self.connections:
            connection.mend()
            self._cut(connection)

    def _cut(self, connection: LiveConnection) -> None:
        for source, target in self._cuts:
            connection.cut(source, target)

    # For the run

    async def main(self, attached: Callable[[], object]) -> None:
        """Carry the data of all connections until cancelled. Call `attached` when clients can connect."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                attached()
                await trio.sleep_forever()
        finally:
            # A task that was cancelled before its first step did not close its connection.
            for connection in self.connections:
                connection.close()

    def watch(self, runtime: Runtime, trace: Trace) -> None:
        """Record in the trace the start, the end and the process of each connection, and what the clients see."""
        self._trace = trace
        runtime.add_instrument(self)
        for each in runtime.instruments:
            if isinstance(each, Recorder):
                trace_clients(each)

    def callback_started(self, pid: Pid, callback: str, message: Any) -> Awaitable[None] | None:
        if callback == "init":
            for argument in message:
                if type(argument) is socket.socket:
                    connection = self._by_socket.get(id(argument))
                    if connection is not None:
                        connection.pid = pid
                        self._tell_who_serves(connection)
        return None

    def accept(self, sock: Any, host: str) -> socket.socket | None:
        """Take over an accepted socket. Return the socket for the endpoint, or None if the client has gone."""
        try:
            connection = LiveConnection(sock, host)
        except OSError:
            sock.close()
            return None
        assert connection.inside is not None  # there is no `here`
        self.connections.append(connection)
        self._by_socket[id(connection.inside)] = connection
        self._name(connection)
        assert self._nursery is not None  # the run waits for `attached`
        self._nursery.start_soon(self._serve, connection)
        return connection.inside

    def _name(self, connection: LiveConnection) -> None:
        connection.source = self._sources.get(connection.peer[:2], connection.source)
        between = connection.source, connection.target
        connection.number = self._numbers[between] = self._numbers.get(between, 0) + 1
        self._cut(connection)
        self._tell_who_serves(connection)

    def _tell_who_serves(self, connection: LiveConnection) -> None:
        if connection.pid is not None:
            self._record("serves", connection)

    async def _serve(self, connection: LiveConnection, **ids: str) -> None:
        self._record("connected", connection, **ids)
        try:
            await connection.main()
        finally:
            self.connections.remove(connection)
            self._by_socket.pop(id(connection.inside), None)
            self._sources.pop(connection.peer[:2], None)
            self._record("disconnected", connection)

    def _record(self, kind: str, connection: LiveConnection, **ids: str) -> None:
        if self._trace is not None:
            pid = None if connection.pid is None else connection.pid.number
            self._trace.add(kind, {"pid": pid, "connection": connection.name, **ids})


class _Led:
    """A listener whose connections pass through a `LiveNetwork`."""

    def __init__(self, network: LiveNetwork, listener: Listener) -> None:
        self.host = listener.host
        self.port = listener.port
        self._network = network
        self._listener = listener

    async def main(self, on_connection: Callable[[Any], object]) -> None:
        """Pass connections to `on_connection`, until `close`."""

        def accepted(sock: Any) -> None:
            inside = self._network.accept(sock, self.host)
            if inside is not None:
                on_connection(inside)

        await self._listener.main(accepted)

    def close(self) -> None:
        """Accept no more connections. Open connections stay open."""
        self._listener.close()
