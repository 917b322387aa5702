"""A proxy for WebSockets that applies one script of faults to several clients, each at the same moment of the protocol.

A moment is a frame, such as the reply to the third echo. It is not a time, so a client that is slow meets the same
faults as one that is quick. The proxy notes the frames of each connection.
"""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeAlias

import trio
from attrs import define, field, frozen

from tests.integration.servers import Server

Direction: TypeAlias = Literal["up", "down"]
"""Up to the server, or down to the client."""

Message: TypeAlias = list[Any]
"""`[join_ref, ref, topic, event, payload]`."""

_TEXT, _CLOSE = 1, 8
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)
_UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


@frozen
class Frame:
    """One frame on the wire.

    Attributes:
        opcode: of RFC 6455.
        raw: the frame as it travels.
        payload: its data, without the mask.
    """

    opcode: int
    raw: bytes
    payload: bytes

    @property
    def message(self) -> Message | None:
        """The Phoenix message in a text frame."""
        return json.loads(self.payload) if self.opcode == _TEXT else None

    def changed(self, at: int, mask: int) -> bytes:
        """Return the frame with one byte changed; a negative `at` counts from the end."""
        raw = bytearray(self.raw)
        raw[at] ^= mask
        return bytes(raw)


def take_frames(buffer: bytearray) -> Iterator[Frame]:
    """Remove the complete frames from the front of a buffer."""
    while len(buffer) >= 2:
        size, start = buffer[1] & 0x7F, 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(buffer[2:start])
        mask = bytes(4)
        if buffer[1] & 0x80:
            mask = bytes(buffer[start : start + 4])
            start += 4
        if len(buffer) < start + size:
            return
        raw = bytes(buffer[: start + size])
        del buffer[: start + size]
        payload = bytes(byte ^ mask[place % 4] for place, byte in enumerate(raw[start:]))
        yield Frame(raw[0] & 0x0F, raw, payload)


# The script


@frozen
class Cut:
    """End the connection in the place of the frame, or after a part of it."""

    sent: int = 0


@frozen
class Stall:
    """Pass nothing any more. The connection stays open until the client gives it up."""


@frozen
class Corrupt:
    """Change one byte of the frame."""

    at: int
    mask: int


@frozen
class CloseWith:
    """Pass the frame, and close the connection with a code, as a server or another proxy would."""

    code: int


Fault: TypeAlias = Cut | Stall | Corrupt | CloseWith


@frozen
class At:
    """A fault at the first frame that fits.

    Attributes:
        direction: of the frame.
        fits: whether a message is the moment.
        fault: the fault.
    """

    direction: Direction
    fits: Callable[[Message], bool]
    fault: Fault


@frozen
class Refuse:
    """End the connection before the server sees it."""


@frozen
class Unavailable:
    """Answer the request with 503, as a proxy whose server is away."""


@frozen
class Pass:
    """Pass the connection on, with faults that follow each other.

    Attributes:
        faults: the faults, in order.
        is_held: True keeps the request until `release`.
    """

    faults: tuple[At, ...] = ()
    is_held: bool = False


Step: TypeAlias = Refuse | Unavailable | Pass


# What the proxy has seen


@define
class Connection:
    """One connection of one client.

    Attributes:
        step: the step of the script that it met.
        up: the messages of the client, with those that met a fault.
        down: the messages that reached the client whole.
        faults: the faults that it met.
    """

    step: Step
    up: list[Message] = field(factory=list)
    down: list[Message] = field(factory=list)
    faults: list[Fault] = field(factory=list)


class ScriptedProxy:
    """A proxy with one port for each client.

    Attributes:
        connections: the connections of each client so far, by its name.
    """

    def __init__(self, target: int, script: Sequence[Step]) -> None:
        self.connections: dict[str, list[Connection]] = {}
        self._target = target
        self._script = script
        self._ports: dict[str, int] = {}
        self._gates: dict[str, trio.Event] = {}

    def socket_url(self, client: str) -> str:
        """Return the URL of the socket for one client."""
        return f"ws://127.0.0.1:{self._ports[client]}/socket"

    def release(self, client: str) -> None:
        """Pass on the held request of a client."""
        self._gates[client].set()

    def is_holding(self, client: str) -> bool:
        """Return True if a request of the client is held."""
        return client in self._gates and not self._gates[client].is_set()

    async def main(self, clients: Sequence[str], *, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            for client in clients:
                (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
                self._ports[client] = listener.socket.getsockname()[1]
                self.connections[client] = []
                nursery.start_soon(self._listen, client, listener)
            task_status.started()

    async def _listen(self, client: str, listener: trio.SocketListener) -> None:
        async def serve(stream: trio.SocketStream) -> None:
            with contextlib.suppress(*_GONE):
                await self._serve(client, stream)
            await trio.aclose_forcefully(stream)

        await trio.serve_listeners(serve, [listener])

    async def _serve(self, client: str, stream: trio.SocketStream) -> None:
        seen = self.connections[client]
        # A client that connects more often than the script says meets the last step again, and is noted.
        connection = Connection(self._script[min(len(seen), len(self._script) - 1)])
        seen.append(connection)
        step = connection.step
        if isinstance(step, Refuse):
            return
        request = await _head(stream)
        if isinstance(step, Unavailable):
            await stream.send_all(_UNAVAILABLE)
            return
        if step.is_held:
            self._gates[client] = trio.Event()
            await self._gates[client].wait()
        server = await trio.open_tcp_stream("127.0.0.1", self._target)
        try:
            await server.send_all(request)
            await stream.send_all(await _head(server))
            await _Relay(connection, step.faults, stream, server).run()
        finally:
            await trio.aclose_forcefully(server)


class _Relay:
    """Both directions of one connection."""

    def __init__(
        self,
        connection: Connection,
        faults: Sequence[At],
        client: trio.SocketStream,
        server: trio.SocketStream,
    ) -> None:
        self._connection = connection
        self._faults = list(faults)
        self._client = client
        self._server = server
        self._is_stalled = False
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Return when the connection has ended."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._pass, "up", self._client, self._server)
            nursery.start_soon(self._pass, "down", self._server, self._client)

    def _end(self) -> None:
        assert self._nursery is not None
        self._nursery.cancel_scope.cancel()

    async def _pass(
        self, direction: Direction, source: trio.SocketStream, target: trio.SocketStream
    ) -> None:
        buffer = bytearray()
        with contextlib.suppress(*_GONE):
            while data := await source.receive_some():
                buffer += data
                for frame in take_frames(buffer):
                    await self._frame(direction, frame, target)
        # Bytes that the other side has not taken yet reach it before the end.
        if not self._is_stalled or direction == "up":
            self._end()

    async def _frame(self, direction: Direction, frame: Frame, target: trio.SocketStream) -> None:
        message = frame.message
        fault = self._fault(direction, message)
        if message is not None and direction == "up":
            self._connection.up.append(message)
        if self._is_stalled:
            if direction == "up" and frame.opcode == _CLOSE:
                self._end()
            return
        match fault:
            case None:
                await target.send_all(frame.raw)
            case Cut(sent=sent):
                await target.send_all(frame.raw[:sent])
                self._end()
                return
            case Stall():
                self._is_stalled = True
                return
            case Corrupt(at=at, mask=mask):
                await target.send_all(frame.changed(at, mask))
                return
            case CloseWith(code=code):
                close = struct.pack("!BBH", 0x80 | _CLOSE, 2, code)
                await target.send_all(frame.raw + close)
        if message is not None and direction == "down":
            self._connection.down.append(message)

    def _fault(self, direction: Direction, message: Message | None) -> Fault | None:
        if message is None or not self._faults:
            return None
        moment = self._faults[0]
        if moment.direction != direction or not moment.fits(message):
            return None
        del self._faults[0]
        self._connection.faults.append(moment.fault)
        return moment.fault


async def _head(stream: trio.SocketStream) -> bytes:
    """Read the head of a request or an answer. A WebSocket has nothing behind it before the other side has spoken."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        data = await stream.receive_some()
        if not data:
            raise trio.BrokenResourceError(f"the head ended after {head!r}")
        head += data
    return head


@asynccontextmanager
async def scripted_proxy(
    server: Server, script: Sequence[Step], clients: Sequence[str]
) -> AsyncIterator[ScriptedProxy]:
    """A proxy in front of a server, for as long as the block runs."""
    async with trio.open_nursery() as nursery:
        proxy = ScriptedProxy(server.port, script)
        await nursery.start(proxy.main, clients)
        yield proxy
        nursery.cancel_scope.cancel()


# Frames up to refs


def without_refs(connections: Sequence[Connection]) -> list[Mapping[str, Any]]:
    """Return the connections of one client with numbers in the place of its refs, so that two clients can be compared.

    A join_ref becomes the number of the join. The ref of an answer becomes the number of the message that it answers.
    Heartbeats are left out: their number depends on time.
    """
    joins: dict[str, int] = {}
    refs: dict[str, int] = {}

    def up(message: Message) -> Message:
        join_ref, ref, topic, event, payload = message
        assert ref not in refs, f"the ref {ref} was sent twice"
        if event == "phx_join":
            assert ref == join_ref
            joins[ref] = len(joins)
        refs[ref] = len(refs)
        return [joins[join_ref], refs[ref], topic, event, payload]

    def down(message: Message) -> Message:
        join_ref, ref, topic, event, payload = message
        join = joins[join_ref] if join_ref is not None else None
        number = refs[ref] if event == "phx_reply" else None if ref is None else joins[ref]
        return [join, number, topic, event, payload]

    def is_heartbeat(message: Message) -> bool:
        return bool(message[2] == "phoenix")

    return [
        {
            "up": [up(each) for each in one.up if not is_heartbeat(each)],
            "down": [down(each) for each in one.down if not is_heartbeat(each)],
            "faults": one.faults,
        }
        for one in connections
    ]
