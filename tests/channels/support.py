"""Helpers for tests of running channels: a server on a virtual clock, and clients without a network.

A client uses streams in memory. Its data arrives at once, and the test reads the server's data when it wants.
`await settle()` waits until every process waits for time to pass or for input.
"""

from __future__ import annotations

import gc
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import trio
import trio.testing
from attrs import field, frozen

from actors import SHUTDOWN, Down, GenServer, Pid, Runtime, monitor, receive, spawn, stop, whereis
from channels import Endpoint
from channels.connection.connection import Connection
from channels.endpoint.endpoint import services_of
from channels.serving.services import Services
from supervision import ChildSpec, DynamicSupervisor
from tests.channels.transports.frames import BINARY, TEXT, client_close, client_frame
from tests.patience import PATIENCE

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = (
    f"host: test\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
    f"sec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\n"
)
CONNECTION = ChildSpec("connection", Connection.spawn_link, restart="temporary")

GENEROUS = PATIENCE
"""Seconds of real time after which a test with a real socket fails. Nothing waits for them to pass."""


def run_on_virtual_clock(*args: Any, **kwargs: Any) -> Any:
    """`trio.run`, but sleeping takes no time and takes exactly as long as it was meant to."""
    kwargs["clock"] = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(*args, **kwargs)


async def settle() -> None:
    """Let every process run until all wait, without time passing."""
    await trio.testing.wait_all_tasks_blocked()


def head(path: str = "/socket/websocket?vsn=2.0.0", headers: str = UPGRADE) -> bytes:
    """The head of a GET request; by default one that opens a WebSocket."""
    return f"GET {path} HTTP/1.1\r\n{headers}\r\n".encode()


@frozen
class Close:
    """A close frame that the server sent."""

    code: int
    reason: str = ""


@frozen
class Data:
    """A binary message, ping or pong that the server sent."""

    opcode: int
    payload: bytes


EOF = "EOF"
"""The server has closed its side."""


@frozen
class Answer:
    """The head and body of an HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes = field(default=b"")


class Reader:
    """A parser of the server's data: an HTTP answer first, then WebSocket frames."""

    def __init__(self) -> None:
        self.data = b""
        self.ended = False

    def feed(self, data: bytes) -> None:
        if data:
            self.data += data
        else:
            self.ended = True

    def answer(self) -> Answer | None:
        """Wait for the answer to a request. The bytes after a 101 are left for `frames`."""
        before, end, rest = self.data.partition(b"\r\n\r\n")
        if not end:
            return None
        first, *lines = before.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        status = int(first.split(" ")[1])
        size = 0 if status == 101 else int(headers.get("content-length", len(rest)))
        if len(rest) < size:
            return None
        self.data = rest[size:]
        return Answer(status, headers, rest[:size])

    def frames(self) -> list[Any]:
        """The whole frames that have come: text as JSON, then `EOF` if there was one."""
        found: list[Any] = []
        while (one := self._frame()) is not None:
            found.append(one)
        if self.ended and not self.data:
            self.ended = False
            found.append(EOF)
        return found

    def inflate(self, payload: bytes) -> bytes:
        """Read a compressed message, for a client that has offered to."""
        raise AssertionError("a compressed frame that was not agreed on")

    def _frame(self) -> Any:
        data = self.data
        if len(data) < 2:
            return None
        opcode, size, start = data[0] & 0x0F, data[1], 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(data[2:start], "big")
        if len(data) < start + size:
            return None
        assert data[0] & 0x80, "a server does not fragment"
        payload, self.data = data[start : start + size], data[start + size :]
        if data[0] & 0x40:
            payload = self.inflate(payload)
        return self.message(opcode, payload)

    def message(self, opcode: int, payload: bytes) -> Any:
        """Return one frame in the form that `frames` returns."""
        if opcode == TEXT:
            return json.loads(payload)
        if opcode == 0x8:
            return Close(int.from_bytes(payload[:2], "big"), payload[2:].decode())
        return Data(opcode, payload)


def text(*message: Any) -> bytes:
    """The bytes of one message: join_ref, ref, topic, event, payload."""
    return client_frame(TEXT, json.dumps(message).encode())


class Client:
    """One client, on the other end of a stream that the server serves.

    `gate`, if given, is awaited before every write of the server's, so that it can be made to wait for this client.
    """

    def __init__(
        self, gate: Callable[[], Awaitable[None]] | None = None, reader: Reader | None = None
    ) -> None:
        self.is_closed = False
        """True if the server has closed its stream."""
        self._to_server = trio.testing.MemoryReceiveStream(close_hook=self._note_close)
        self._to_client = trio.testing.MemorySendStream(send_all_hook=gate)
        self.stream = trio.StapledStream(self._to_client, self._to_server)
        self._reader = Reader() if reader is None else reader
        self.process: Pid | None = None

    def write(self, data: bytes) -> None:
        """Send raw bytes. They must not be empty, because that would be the end of the stream."""
        if data:
            self._to_server.put_data(data)

    def send(self, *messages: tuple[Any, ...]) -> None:
        """Send messages in one burst. Each is join_ref, ref, topic, event, and an optional payload."""
        self.write(b"".join(text(*(m if len(m) == 5 else (*m, {}))) for m in messages))

    def write_text(self, data: str) -> None:
        """Send a text message of any form."""
        self.write(client_frame(TEXT, data.encode()))

    def send_binary(self, data: bytes) -> None:
        """Send a binary message."""
        self.write(client_frame(BINARY, data))

    def end(self) -> None:
        """Close this side, as a peer that goes away without a word."""
        self._to_server.put_eof()

    def close(self, code: int = 1000) -> None:
        """Send a close frame, then nothing more."""
        self.write(client_close(code))
        self.end()

    def answer(self) -> Answer | None:
        """The server's answer to the first request, if it has come."""
        self._read()
        return self._reader.answer()

    def frames(self) -> list[Any]:
        """Return the data that the server has written since the last call."""
        self._read()
        return self._reader.frames()

    def _note_close(self) -> None:
        self.is_closed = True

    def _read(self) -> None:
        try:
            while True:
                data = bytes(self._to_client.get_data_nowait())
                self._reader.feed(data)
                if not data:
                    return
        except trio.WouldBlock:
            pass

    async def exchange(self, *messages: tuple[Any, ...]) -> list[Any]:
        """Send messages in one burst, let everything settle, and return the answers."""
        self.send(*messages)
        await settle()
        return self.frames()

    async def join(self, topic: str = "room:a", ref: str = "1", payload: Any = None) -> None:
        """Join a topic and make sure that it worked."""
        got = await self.exchange((ref, ref, topic, "phx_join", {} if payload is None else payload))
        assert [ref, ref, topic, "phx_reply", {"status": "ok", "response": {}}] in got, got


class Gate:
    """A gate that delays the server's writes to one client while it is shut."""

    def __init__(self) -> None:
        self.opened = trio.Event()
        self.opened.set()

    def shut(self) -> None:
        self.opened = trio.Event()

    async def __call__(self) -> None:
        await self.opened.wait()


class Server:
    """A running endpoint, and a way into it that needs no network.

    Attributes:
        other_node: another node of the same application, where a test has one.
    """

    other_node: Server | None = None

    def __init__(self, endpoint: Endpoint, runtime: Runtime, pid: Pid) -> None:
        self.endpoint = endpoint
        self.runtime = runtime
        self.pid = pid

    @property
    def services(self) -> Services:
        return services_of(self.endpoint)

    async def accept(self, client: Client | None = None) -> Client:
        """Have a new client served, which has not sent anything yet."""
        client = client or Client()
        client.process = await DynamicSupervisor.start_child(
            (self.endpoint, "connections"), CONNECTION, self.services, client.stream
        )
        return client

    async def connect(self, path: str = "/socket", query: str = "", gate: Any = None) -> Client:
        """Connect and return a new client with an open WebSocket."""
        client = await self.accept(Client(gate))
        client.write(head(f"{path}/websocket?vsn=2.0.0{query}"))
        await settle()
        answer = client.answer()
        assert answer is not None
        assert answer.status == 101, answer
        return client

    async def stop(self) -> None:
        """Stop the endpoint in order."""
        await stop(self.pid, SHUTDOWN)

    def connections(self) -> list[Pid]:
        """The processes that serve connections, in the order in which they were started."""
        return [
            pid
            for pid in self.runtime.processes()
            if (info := self.runtime.process_info(pid)) and "Connection" in str(info["label"])
        ]

    def channels(self, topic: str) -> list[Pid]:
        """The processes that are subscribed to a topic, in the order of their joins."""
        return list(self.endpoint.pubsub.subscribers(topic))

    def channel(self, topic: str) -> Pid:
        """The one process that is subscribed to a topic."""
        (pid,) = self.channels(topic)
        return pid

    def listen(self, event: tuple[str, ...]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Collect the measurements and the metadata of an event from now on."""
        heard: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self.runtime.telemetry.attach(
            event, lambda _, m, about: heard.append((dict(m), dict(about)))
        )
        return heard

    def crashes(self) -> list[Any]:
        """Collect the exceptions of processes that crash from now on."""
        found: list[Any] = []
        self.runtime.telemetry.attach(
            ("actors", "process", "crash"), lambda _, __, about: found.append(about["exception"])
        )
        return found


def named(name: object) -> Pid:
    """The process that has a name."""
    pid = whereis(name)
    assert pid is not None, name
    return pid


def reply(
    join_ref: Any, ref: Any, topic: str, response: Any = None, status: str = "ok"
) -> list[Any]:
    """The frame of a reply."""
    answer = {"status": status, "response": {} if response is None else response}
    return [join_ref, ref, topic, "phx_reply", answer]


def phx_close(join_ref: Any, topic: str) -> list[Any]:
    """The frame that ends a membership in good order."""
    return [join_ref, join_ref, topic, "phx_close", {}]


def phx_error(join_ref: Any, topic: str) -> list[Any]:
    """The frame that ends a membership whose channel crashed."""
    return [join_ref, join_ref, topic, "phx_error", {"reason": "channel_crash"}]


class Mailbox:
    """A process that keeps its messages, for tests, whose task has no mailbox."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.pid: Pid | None = None

    async def start(self, *setup: Callable[[], Any]) -> Pid:
        """Start it; the functions of `setup` run in it first."""
        self.pid = await _Keeper.start(self.messages, setup)
        return self.pid


class _Keeper(GenServer[None]):
    async def init(self, messages: list[Any], setup: tuple[Callable[[], Any], ...]) -> None:
        self.messages = messages
        for each in setup:
            each()

    async def handle_info(self, message: Any) -> None:
        self.messages.append(message)


async def reason_of(pid: Pid) -> list[Any]:
    """A list that gets the exit reason of a process when it ends."""
    reasons: list[Any] = []

    async def watch() -> None:
        ref = monitor(pid)
        down = await receive(lambda message: isinstance(message, Down) and message.ref is ref)
        reasons.append(down.reason)

    spawn(watch)
    await settle()
    return reasons


@frozen
class Footprint:
    """The resources of a server at one moment: its processes by name, Trio tasks, and open file descriptors."""

    processes: tuple[Pid, ...]
    tasks: int
    descriptors: int

    @classmethod
    def of(cls, runtime: Runtime) -> Footprint:
        """Take the measure, which does not count itself."""
        # Sockets of earlier tests may wait for the garbage collector, and could be closed between two measures.
        gc.collect()
        return cls(
            tuple(runtime.processes()),
            trio.lowlevel.current_statistics().tasks_living,
            len(list(Path("/proc/self/fd").iterdir())),
        )


class TcpClient:
    """A client on a real socket. Each of its waits has a limit of `GENEROUS` seconds."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._reader = Reader()

    @classmethod
    async def open(cls, endpoint: Endpoint) -> TcpClient:
        """Connect to an endpoint."""
        with trio.fail_after(GENEROUS):
            return cls(await trio.open_tcp_stream(*endpoint.address))

    @classmethod
    async def connect(cls, endpoint: Endpoint, query: str = "") -> TcpClient:
        """Connect to an endpoint, and open a WebSocket."""
        client = await cls.open(endpoint)
        await client.write(head(f"/socket/websocket?vsn=2.0.0{query}"))
        assert (await client.answer()).status == 101
        return client

    async def write(self, data: bytes) -> None:
        """Send raw bytes."""
        with trio.fail_after(GENEROUS):
            await self.stream.send_all(data)

    async def answer(self) -> Answer:
        """Wait for the answer to a request."""
        while (found := self._reader.answer()) is None:
            assert not self._reader.ended, "the server closed the connection without an answer"
            await self._receive()
        return found

    async def frames(self, count: int = 1) -> list[Any]:
        """Wait for that many frames, or for the end."""
        found = self._reader.frames()
        while len(found) < count and EOF not in found:
            await self._receive()
            found += self._reader.frames()
        return found

    async def exchange(self, *message: Any, count: int = 1) -> list[Any]:
        """Send one message, and wait for as many frames."""
        await self.write(text(*(message if len(message) == 5 else (*message, {}))))
        return await self.frames(count)

    async def join(self, topic: str = "room:a", ref: str = "1", payload: Any = None) -> None:
        """Join a topic and make sure that it worked."""
        assert await self.exchange(ref, ref, topic, "phx_join", payload or {}) == [
            reply(ref, ref, topic)
        ]

    async def ended(self) -> list[Any]:
        """Read to the end, and return the data before it. A reset counts as an end."""
        found: list[Any] = []
        while not found or found[-1] != EOF:
            found += await self.frames()
        return found[:-1]

    async def reset(self) -> None:
        """Go away in the rudest way that there is."""
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await self.close()

    async def close(self) -> None:
        """Close the socket."""
        await trio.aclose_forcefully(self.stream)

    async def _receive(self) -> None:
        with trio.fail_after(GENEROUS):
            try:
                data = bytes(await self.stream.receive_some())
            except trio.BrokenResourceError:
                data = b""
        self._reader.feed(data)
