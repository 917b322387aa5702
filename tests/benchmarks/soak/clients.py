"""The clients of the soak. They talk, leave, crash their channels, vanish, read slowly and send invalid bytes.

Each kind of client is a function that counts events. All random decisions come from one seed.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import struct
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import trio
from attrs import Factory, define

from tests.benchmarks.channels.wire import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    WireError,
    client_frame,
    frames_in,
    request,
    response_end,
)
from tests.benchmarks.soak.app import TIMEOUT

__all__ = ["KINDS", "PATIENCE", "Gone", "Line", "World", "live", "open_line"]

PATIENCE = 20.0
"""Seconds until a missing answer counts as lost, if the connection is still open."""

_PATH = "/socket/websocket?vsn=2.0.0"
# Large, so that the kernel's buffers are full within seconds, even on a busy machine.
_FLOOD = "x" * 60_000


class Gone(Exception):
    """The server has closed the connection. `code` is None if there was no closing frame."""

    def __init__(self, code: int | None) -> None:
        super().__init__(f"closed with {code}")
        self.code = code


class NotAccepted(Gone):
    """No worker has answered the upgrade in time. The connection waits for the next worker of its place."""

    def __init__(self) -> None:
        super().__init__(None)


@define
class World:
    """The state that all clients share.

    Attributes:
        port: the port of the server.
        random: the source of all random decisions.
        counts: the number of events of each kind.
        codes: the codes of the closing frames that clients got.
        times: the times of the events that a fault excuses.
        is_over: True once clients must not start anything new.
    """

    port: int
    random: random.Random
    counts: Counter[str] = Factory(Counter)
    codes: Counter[str] = Factory(Counter)
    times: dict[str, list[float]] = Factory(lambda: defaultdict(list))
    is_over: bool = False

    def note(self, name: str) -> None:
        """Count an event that only a fault may cause, and note its time."""
        self.counts[name] += 1
        self.times[name].append(trio.current_time())

    async def stream(
        self, *, receive_buffer: int | None = None, port: int | None = None
    ) -> trio.SocketStream:
        """Connect. If the server refuses the connection, count that and raise `Gone`."""
        sock = trio.socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            await sock.connect(("127.0.0.1", self.port if port is None else port))
        except OSError:
            sock.close()
            self.note("refused")
            raise Gone(None) from None
        return trio.SocketStream(sock)


class Line:
    """One WebSocket of a client."""

    def __init__(self, world: World, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._world = world
        self._rest = b""
        self._messages: list[list[Any]] = []
        self._refs = 0
        # Several tasks of a member push, and the reader answers pings.
        self._sending = trio.Lock()

    async def upgrade(self) -> None:
        """Open the WebSocket.

        Raises:
            Gone: the server closed the connection, as a worker may during its replacement.
        """
        await self._send(request("localhost", _PATH))
        while not (end := self._answer_end()):
            self._rest += await self._receive()
        self._rest = self._rest[end:]

    def _answer_end(self) -> int:
        try:
            return response_end(self._rest)
        except WireError:
            raise Gone(None) from None  # a draining worker answers 503

    def make_ref(self) -> str:
        """Return the ref of a further push."""
        self._refs += 1
        return str(self._refs)

    async def push(
        self, topic: str, event: str, payload: Any, join_ref: str = "1", ref: str | None = None
    ) -> str:
        """Push, and return the ref."""
        ref = self.make_ref() if ref is None else ref
        text = json.dumps([join_ref, ref, topic, event, payload])
        await self._send(client_frame(TEXT, text.encode()))
        return ref

    async def next(self) -> list[Any]:
        """Return the next message.

        Raises:
            Gone: the server closed the connection.
        """
        while not self._messages:
            self._rest += await self._receive()
            await self._take_frames()
        return self._messages.pop(0)

    async def _take_frames(self) -> None:
        start = 0
        for opcode, payload, end in frames_in(self._rest):
            start = end
            if opcode == TEXT:
                self._messages.append(json.loads(payload))
            elif opcode == PING:
                await self._send(client_frame(PONG, payload))
            elif opcode == CLOSE:
                code = int.from_bytes(payload[:2], "big")
                self._world.codes[str(code)] += 1
                with contextlib.suppress(Gone):
                    await self._send(client_frame(CLOSE, payload[:2]))
                raise Gone(code)
        self._rest = self._rest[start:]

    async def reply(self, ref: str, then: Callable[[list[Any]], object] | None = None) -> Any:
        """Wait for the reply to a ref, and return the payload of the reply. `then` gets all other messages.

        Raises:
            Gone: the server closed the connection.
            trio.TooSlowError: the reply is lost.
        """
        with trio.fail_after(PATIENCE):
            while True:
                message = await self.next()
                if message[1] == ref and message[3] == "phx_reply":
                    return message[4]
                if then is not None:
                    then(message)

    async def join(self, topic: str, join_ref: str = "1") -> None:
        """Join a topic."""
        text = json.dumps([join_ref, f"j{join_ref}", topic, "phx_join", {}])
        await self._send(client_frame(TEXT, text.encode()))
        answer = await self.reply(f"j{join_ref}")
        assert answer["status"] == "ok", answer

    async def close(self) -> None:
        """Close the connection in the regular way: both sides send a closing frame."""
        await self._send(client_frame(CLOSE, (1000).to_bytes(2, "big")))
        with contextlib.suppress(Gone), trio.move_on_after(PATIENCE):
            while True:
                await self.next()

    def abort(self) -> None:
        """Reset the connection, as a killed client process does."""
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def _send(self, data: bytes) -> None:
        try:
            async with self._sending:
                await self.stream.send_all(data)
        except trio.BrokenResourceError:
            raise Gone(None) from None

    async def _receive(self) -> bytes:
        try:
            data = bytes(await self.stream.receive_some(65536))
        except trio.BrokenResourceError:
            data = b""
        if not data:
            raise Gone(None)
        return data


@contextlib.asynccontextmanager
async def open_line(
    world: World, *, receive_buffer: int | None = None, port: int | None = None
) -> AsyncIterator[Line]:
    """Connect, open a WebSocket, and close the connection at the end of the block."""
    stream = await world.stream(receive_buffer=receive_buffer, port=port)
    async with stream:
        line = Line(world, stream)
        with trio.move_on_after(PATIENCE) as waiting:
            await line.upgrade()
        if waiting.cancelled_caught:
            world.note("not_accepted")
            raise NotAccepted
        yield line


# The kinds


async def talk(world: World, number: int) -> None:
    """Join a room, talk and leave, up to three times, and close. Every answer has to arrive."""
    async with open_line(world) as line:
        topic = f"room:{world.random.randrange(10)}"
        for visit in range(world.random.randrange(1, 4)):
            ref = str(visit + 1)
            await line.join(topic, ref)
            for said in range(world.random.randrange(5, 40)):
                if world.is_over:
                    break
                await _say(world, line, topic, ref, [number, visit, said])
                await trio.sleep(world.random.uniform(0.0, 0.5))
            left = await line.push(topic, "phx_leave", {}, ref)
            await line.reply(left)
        await line.close()
        world.counts["visits"] += 1


async def _say(world: World, line: Line, topic: str, join_ref: str, what: list[int]) -> None:
    heard: list[Any] = []

    def hear(message: list[Any]) -> None:
        if message[3] == "said" and message[4] == {"what": what}:
            heard.append(message)

    ref = await line.push(topic, "say", {"what": what}, join_ref)
    answer = await line.reply(ref, hear)
    world.counts["answered"] += 1
    if answer != {"status": "ok", "response": {"what": what}}:
        world.counts["lost_replies"] += 1
    with trio.move_on_after(PATIENCE):
        while not heard:
            hear(await line.next())
        return
    world.counts["lost_broadcasts"] += 1


async def crash(world: World, number: int) -> None:
    """Crash and rejoin a channel again and again. A second channel of the connection must still answer."""
    async with open_line(world) as line:
        topic, other = f"room:crash{number}", f"room:calm{number}"
        await line.join(other, "o")
        for attempt in range(world.random.randrange(5, 30)):
            if world.is_over:
                break
            ref = str(attempt + 1)
            try:
                await line.join(topic, ref)
                await line.push(topic, "boom", {}, ref)
                with trio.fail_after(PATIENCE):
                    while (await line.next())[3] != "phx_error":
                        pass
            except trio.TooSlowError:
                world.counts["failed_rejoins"] += 1
                return
            world.counts["crashes"] += 1
            await line.reply(await line.push(other, "say", {}, "o"))
            await trio.sleep(world.random.uniform(0.2, 1.0))
        await line.close()


async def vanish(world: World, number: int) -> None:
    """Join. Then reset the connection, or send nothing more until the server gives up."""
    async with open_line(world) as line:
        await line.join(f"room:{number % 10}")
        await line.push(f"room:{number % 10}", "say", {"what": number})
        await trio.sleep(world.random.uniform(0.0, 2.0))
        if world.random.random() < 0.8:
            line.abort()
        else:
            # After its timeout, the server closes the silent connection.
            with trio.move_on_after(TIMEOUT * 2), contextlib.suppress(Gone):
                while True:
                    await line.next()
        world.counts["vanished"] += 1


async def flood(world: World, number: int) -> None:
    """Broadcast large messages to the room of the slow readers."""
    async with open_line(world) as line:
        await line.join("room:flood")
        for _ in range(200):
            if world.is_over:
                break
            await line.push("room:flood", "flood", {"text": _FLOOD})
            await trio.sleep(0.04)
        await line.close()


async def read_slowly(world: World, number: int) -> None:
    """Join the flooded room, and read so slowly that the server has to close the connection."""
    async with open_line(world, receive_buffer=4096) as line:
        await line.join("room:flood")
        with trio.move_on_after(60), contextlib.suppress(trio.BrokenResourceError):
            while not world.is_over:
                await trio.sleep(0.2)
                if not await line.stream.receive_some(512):
                    break
        world.counts["slow"] += 1


def _rubbish(world: World) -> bytes:
    chance = world.random
    pieces = [
        chance.randbytes(200),
        b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n",
        request("localhost", "/no/such/socket"),
        request("localhost", _PATH) + chance.randbytes(100),
        request("localhost", _PATH) + client_frame(TEXT, b"{"),
        request("localhost", _PATH) + client_frame(TEXT, b'[1,2,3,4,"\xff"]'),
        request("localhost", _PATH) + client_frame(TEXT, b'["1","1","nowhere","phx_join",{}]'),
        request("localhost", _PATH) + client_frame(3, b"reserved"),
        request("localhost", _PATH) + b"\x81\x05hello",
        request("localhost", _PATH)[:50],
        b"",
    ]
    return chance.choice(pieces)


async def send_rubbish(world: World, number: int) -> None:
    """Send invalid bytes, and read the server's answer."""
    stream = await world.stream()
    async with stream:
        with trio.move_on_after(3), contextlib.suppress(trio.BrokenResourceError):
            if rubbish := _rubbish(world):
                await stream.send_all(rubbish)
            while await stream.receive_some(65536):
                pass
    world.counts["rubbish"] += 1


Kind = Callable[[World, int], Awaitable[None]]

KINDS: dict[Kind, int] = {
    talk: 40,
    crash: 10,
    vanish: 10,
    flood: 1,
    read_slowly: 3,
    send_rubbish: 5,
}
"""The number of clients of each kind."""


async def live(world: World, kind: Kind, number: int) -> None:
    """Run one client of a kind after another, until the soak is over."""
    while not world.is_over:
        try:
            await kind(world, number)
        except NotAccepted:
            pass
        except Gone as gone:
            # A worker that is being replaced closes with 1012. Its clients then know that they have to repeat requests.
            world.counts["closed_by_server"] += 1
            if kind in (talk, crash) and gone.code is None:
                world.note("cut")
            elif kind in (talk, crash) and gone.code != 1012:
                world.counts["lost_replies"] += 1
        except trio.TooSlowError:
            world.counts["lost_replies"] += 1
        except trio.BrokenResourceError:
            world.counts["closed_by_server"] += 1
        await trio.sleep(world.random.uniform(0.0, 0.5))
