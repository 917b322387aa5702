"""Test clients for the sweeps of channels. They follow the protocol and use no code of Ashtree's own client.

A `Client` speaks V1 or V2 over one of three transports: a WebSocket in the network of the world, a WebSocket of an ASGI
server, or long polling as ASGI requests. It collects the frames of the server, and checks the format of each frame.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import zlib
from random import Random
from typing import Any, Literal

import trio
from attrs import define, field, frozen

from channels import Endpoint
from supervision.simulation import World

__all__ = ["ABSENT", "Carrier", "Client", "Frame", "pack_push"]

Carrier = Literal["socket", "asgi", "poll"]

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
PORT = 4000
LEFT = "left"
"""The status of a poll that the client has left."""

BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class _Absent:
    def __repr__(self) -> str:
        return "absent"


ABSENT: Any = _Absent()
"""The placeholder for the join_ref of a V1 frame. The V1 format has no such field."""


@frozen
class Frame:
    """One frame of the server. A binary payload is `bytes`."""

    join_ref: Any
    ref: Any
    topic: Any
    event: str
    payload: Any

    def __str__(self) -> str:
        return (
            f"[{self.join_ref!r}, {self.ref!r}, {self.topic!r}, {self.event!r}, {self.payload!r}]"
        )


def pack_push(join_ref: str, ref: str, topic: str, event: str, data: bytes) -> bytes:
    """Return the binary push of a V2 client."""
    names = [each.encode() for each in (join_ref, ref, topic, event)]
    return bytes([0, *map(len, names)]) + b"".join(names) + data


def _unpack(data: bytes) -> Frame:
    """Read a binary frame of the server."""
    kind, names = data[0], {0: 3, 1: 4, 2: 2}[data[0]]
    place = 1 + names
    texts = []
    for size in data[1:place]:
        texts.append(data[place : place + size].decode())
        place += size
    rest = data[place:]
    if kind == 0:
        join_ref, topic, event = texts
        return Frame(join_ref, None, topic, event, rest)
    if kind == 1:
        join_ref, ref, topic, status = texts
        return Frame(join_ref, ref, topic, "phx_reply", {"status": status, "response": rest})
    topic, event = texts
    return Frame(None, None, topic, event, rest)


def _read(text: str, vsn: str) -> Frame:
    """Parse a text frame of the server. Raise ValueError if the frame has another format."""
    value = json.loads(text)
    if vsn == "1":
        if not isinstance(value, dict) or set(value) != {"topic", "event", "payload", "ref"}:
            raise ValueError(f"{text} is no V1 frame")
        return Frame(ABSENT, value["ref"], value["topic"], value["event"], value["payload"])
    if not isinstance(value, list) or len(value) != 5:
        raise ValueError(f"{text} is no V2 frame")
    return Frame(*value)


@define(eq=False)
class Client:
    """One client.

    Attributes:
        name: the name, which is also its host in the network.
        vsn: "1" or "2".
        carrier: the transport.
        frames: the frames that have arrived since the last `take`, the oldest first.
        status: the HTTP status of the answer to the first request. None before this answer.
        code: the close code of the server. None before its close frame.
        gone: set when nothing more can arrive.
    """

    world: World
    endpoint: Endpoint
    name: str
    vsn: Literal["1", "2"] = "2"
    carrier: Carrier = "socket"
    path: str = "/socket"
    params: dict[str, str] = field(factory=dict)
    headers: tuple[tuple[str, str], ...] = ()
    compress: bool = False
    frames: list[Frame] = field(factory=list)
    status: int | None = None
    answer_headers: dict[str, str] = field(factory=dict)
    answer_body: bytes = b""
    code: int | None = None
    gone: trio.Event = field(factory=trio.Event)
    token: str = ""
    # Set when the client leaves its poll.
    leaves: trio.Event = field(factory=trio.Event)
    # The payloads of the pings that the client sent, and of the pongs that it got.
    pings: list[bytes] = field(factory=list)
    pongs: list[bytes] = field(factory=list)
    is_reading: bool = True
    random: Random = field(init=False)
    stream: Any = None
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    _buffer: bytearray = field(factory=bytearray)
    _inflater: Any = None
    # The client's compressor. Unlike the server's compressor, it refers to earlier messages.
    _deflater: Any = None
    _to_server: Any = None
    _resumed: trio.Event = field(factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        self.random = self.world.random("client", self.name)

    def __str__(self) -> str:
        return f"{self.name} (V{self.vsn}, {self.carrier})"

    # Connecting

    @property
    def ended(self) -> bool:
        return self.gone.is_set()

    @property
    def query(self) -> str:
        vsn = {"1": "1.0.0", "2": "2.0.0"}[self.vsn]
        pairs = {**self.params} if "vsn" in self.params else {"vsn": vsn, **self.params}
        return "&".join(f"{key}={value}" for key, value in pairs.items() if value is not None)

    async def connect(self, nursery: trio.Nursery) -> bool:
        """Connect, and read frames in the background from then on. Return True if the server accepts."""
        if self.carrier == "socket":
            await self._open_socket(nursery)
            return self.status == 101
        if self.carrier == "asgi":
            await self._open_asgi(nursery)
            return self.status == 101
        answer = await self.request("GET")
        if self.status == 200 and answer["status"] == 410:
            self.token = answer["token"]
            nursery.start_soon(self._poll)
            return True
        self.gone.set()
        return False

    async def _open_socket(self, nursery: trio.Nursery) -> None:
        network = self.world.network
        self.stream = await network.connect("server", PORT, source=self.name)
        key = base64.b64encode(self.random.randbytes(16))
        lines = [
            f"GET {self.path}/websocket?{self.query} HTTP/1.1",
            "host: server",
            "connection: Upgrade",
            "upgrade: websocket",
            "sec-websocket-version: 13",
            f"sec-websocket-key: {key.decode()}",
            *(f"{name}: {value}" for name, value in self.headers),
        ]
        if self.compress:
            lines.append("sec-websocket-extensions: permessage-deflate")
        await self.stream.send_all("\r\n".join((*lines, "", "")).encode())
        await self._read_head(key)
        if self.status == 101:
            nursery.start_soon(self._receive)
        else:
            self.gone.set()
            async for data in self.stream:
                self._buffer += data
            self.answer_body = bytes(self._buffer)
            await self.stream.aclose()

    async def _read_head(self, key: bytes) -> None:
        while b"\r\n\r\n" not in self._buffer:
            data = await self.stream.receive_some()
            if not data:
                self.gone.set()
                return
            self._buffer += data
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        self._buffer = bytearray(rest)
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split(" ")[1])
        for line in lines:
            name, _, value = line.partition(":")
            self.answer_headers[name.lower()] = value.strip()
        if self.status == 101:
            expected = base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode()
            found = self.answer_headers.get("sec-websocket-accept")
            self.world.check(found == expected, f"{self}: the accept key is {found}")
            extension = self.answer_headers.get("sec-websocket-extensions")
            if extension is not None:
                self._inflater = True

    async def _open_asgi(self, nursery: trio.Nursery) -> None:
        # A case may send more than the server reads, and continue. No other limit holds the client back.
        put, take = trio.open_memory_channel[Any](math.inf)
        answered = trio.Event()
        self._to_server = put
        scope = {
            "type": "websocket",
            "path": f"{self.path}/websocket",
            "raw_path": f"{self.path}/websocket".encode(),
            "root_path": "",
            "scheme": "ws",
            "query_string": self.query.encode(),
            "headers": self._raw_headers(),
            "client": ("10.9.9.9", 1234),
            "extensions": {"websocket.http.response": {}},
        }

        async def send(message: Any) -> None:
            await trio.lowlevel.checkpoint()
            kind = message["type"]
            if kind == "websocket.accept":
                self.status = 101
                answered.set()
            elif kind == "websocket.http.response.start":
                self.status = message["status"]
            elif kind == "websocket.http.response.body":
                self.answer_body = message["body"]
                answered.set()
            elif kind == "websocket.close":
                self.code = message["code"]
                self.gone.set()
            elif message.get("text") is not None:
                self._frame(_read(message["text"], self.vsn))
            else:
                self._frame(_unpack(message["bytes"]))

        async def main() -> None:
            with self.scope:
                put.send_nowait({"type": "websocket.connect"})
                await self.endpoint(scope, take.receive, send)
            self.gone.set()
            answered.set()

        nursery.start_soon(main)
        await answered.wait()

    def _raw_headers(self) -> list[tuple[bytes, bytes]]:
        pairs = [("host", "server"), *self.headers]
        return [(name.encode(), value.encode()) for name, value in pairs]

    # Long polling

    async def request(
        self,
        method: str,
        body: bytes = b"",
        kind: str = "application/x-ndjson",
        token: str | None = None,
    ) -> dict[str, Any]:
        """Send one request of a polling client. Return the JSON of the answer, or {} without an answer."""
        token = self.token if token is None else token
        headers = [*self._raw_headers(), (b"content-type", kind.encode())]
        if token:
            headers.append((b"x-phoenix-longpoll-token", token.encode()))
        scope = {
            "type": "http",
            "method": method,
            "path": f"{self.path}/longpoll",
            "raw_path": f"{self.path}/longpoll".encode(),
            "root_path": "",
            "scheme": "http",
            "query_string": self.query.encode(),
            "headers": headers,
            "client": ("10.9.9.9", 1234),
        }
        first = True
        answer: dict[str, Any] = {}
        data = b""

        async def receive() -> Any:
            nonlocal first
            if not first:
                await self.leaves.wait()
                return {"type": "http.disconnect"}
            first = False
            await trio.lowlevel.checkpoint()
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            nonlocal data
            await trio.lowlevel.checkpoint()
            if message["type"] == "http.response.start":
                answer.update(message)
            else:
                data += message["body"]

        await self.endpoint(scope, receive, send)
        if not answer:
            # The client has left.
            return {"status": LEFT}
        self.status = int(answer["status"])
        self.answer_headers = {k.decode(): v.decode() for k, v in answer["headers"]}
        return json.loads(data) if data else {}

    async def _poll(self) -> None:
        with self.scope:
            while True:
                while not self.is_reading:
                    await self._resumed.wait()
                answer = await self.request("GET")
                if answer.get("status") == LEFT:
                    continue
                if self.status != 200 or answer["status"] in (410, 403):
                    break
                self.world.check(
                    answer["status"] == (200 if answer["messages"] else 204)
                    and answer["token"] == self.token,
                    f"{self}: a poll was answered {answer}",
                )
                for text in answer["messages"]:
                    self._frame(_read(text, self.vsn))
        self.gone.set()

    def leave_poll(self) -> None:
        """Leave the waiting poll, as a client with a bad connection does. The client then polls again."""
        self.leaves.set()
        self.leaves = trio.Event()

    # Frames

    def _frame(self, frame: Frame) -> None:
        self.frames.append(frame)

    def take(self) -> list[Frame]:
        """Return the frames since the last call."""
        frames, self.frames = self.frames, []
        return frames

    async def _receive(self) -> None:
        with self.scope:
            try:
                self._parse()
                while True:
                    while not self.is_reading:
                        await self._resumed.wait()
                    data = await self.stream.receive_some()
                    if not data:
                        break
                    self._buffer += data
                    self._parse()
            except BROKEN:
                pass
        self.gone.set()
        if self.stream is not None:
            with trio.move_on_after(1, shield=True):
                await self.stream.aclose()

    def pause(self) -> None:
        """Read nothing until `resume`."""
        self.is_reading = False
        self._resumed = trio.Event()

    def resume(self) -> None:
        """Read again."""
        self.is_reading = True
        self._resumed.set()

    def _parse(self) -> None:
        buffer = self._buffer
        while len(buffer) >= 2:
            first, size, start = buffer[0], buffer[1], 2
            if size == 126:
                size, start = int.from_bytes(buffer[2:4], "big"), 4
            elif size == 127:
                size, start = int.from_bytes(buffer[2:10], "big"), 10
            if len(buffer) < start + size:
                return
            payload = bytes(buffer[start : start + size])
            del buffer[: start + size]
            self._websocket_frame(first, payload)

    def _websocket_frame(self, first: int, payload: bytes) -> None:
        opcode = first & 15
        self.world.check(
            self.code is None, f"{self}: a frame with opcode {opcode} came after the close frame"
        )
        if first & 0x40:
            self.world.check(self._inflater is not None, f"{self}: a compressed frame came unasked")
            payload = zlib.decompressobj(-15).decompress(payload + b"\x00\x00\xff\xff")
        if opcode == TEXT:
            self._frame(_read(payload.decode(), self.vsn))
        elif opcode == BINARY:
            self._frame(_unpack(payload))
        elif opcode == PONG:
            self.pongs.append(payload)
        elif opcode == CLOSE:
            self.code = int.from_bytes(payload[:2], "big") if payload else 1005
        else:
            self.world.check(False, f"{self}: the server sent a frame with opcode {opcode}")

    # Sending

    async def send(
        self, join_ref: Any, ref: Any, topic: Any, event: Any, payload: Any, *, joined: bool = True
    ) -> None:
        """Send one message. With V1, send the join_ref only if `joined`. Send bytes as a binary message."""
        if isinstance(payload, bytes):
            await self.send_raw(
                pack_push(join_ref or "", ref or "", topic, event, payload), binary=True
            )
            return
        await self.send_raw(self.text(join_ref, ref, topic, event, payload, joined=joined))

    def text(
        self, join_ref: Any, ref: Any, topic: Any, event: Any, payload: Any, *, joined: bool = True
    ) -> bytes:
        """Return the text of one message."""
        if self.vsn == "2":
            return json.dumps([join_ref, ref, topic, event, payload]).encode()
        message = {"topic": topic, "event": event, "payload": payload, "ref": ref}
        if joined:
            message["join_ref"] = join_ref
        return json.dumps(message).encode()

    async def send_raw(self, data: bytes, *, binary: bool = False) -> None:
        """Send a whole message. If the connection has ended, do nothing."""
        if self.carrier == "poll":
            await self._post(data, binary)
        elif self.carrier == "asgi":
            message: dict[str, Any] = {"type": "websocket.receive"}
            message.update({"bytes": data} if binary else {"text": data.decode()})
            try:
                self._to_server.send_nowait(message)
            except BROKEN:
                pass
            await trio.lowlevel.checkpoint()
        else:
            await self.write(self.fragmented(data, BINARY if binary else TEXT))

    async def _post(self, data: bytes, binary: bool) -> None:
        if binary:
            await self.request("POST", base64.b64encode(data))
        elif self.vsn == "1":
            await self.request("POST", data, "application/json")
        else:
            await self.request("POST", data)

    def fragmented(self, data: bytes, opcode: int) -> bytes:
        """Return a message as one frame, or as two fragments. Compress some messages. Some fragments enclose a ping."""
        if self._inflater is not None and self.random.random() < 0.5:
            if self._deflater is None:
                self._deflater = zlib.compressobj(wbits=-15)
            packed = self._deflater.compress(data) + self._deflater.flush(zlib.Z_SYNC_FLUSH)
            # The first frame has the bit for a compressed message. The compressed data ends without 00 00 FF FF.
            data, opcode = packed[:-4], opcode | 0x40
        if self.random.random() < 0.85 or len(data) < 4:
            return self.frame(opcode, data)
        middle = self.random.randrange(1, len(data))
        parts = [self.frame(opcode, data[:middle], fin=False)]
        if self.random.random() < 0.5:
            parts.append(self.ping())
        return b"".join((*parts, self.frame(0, data[middle:])))

    def ping(self) -> bytes:
        """Return a ping frame, and record its payload for the comparison with the pongs."""
        self.pings.append(b"ping %d" % self.random.randrange(1000))
        return self.frame(PING, self.pings[-1])

    def frame(self, opcode: int, data: bytes, *, fin: bool = True) -> bytes:
        """Return one masked frame."""
        first, size = (0x80 if fin else 0) | opcode, len(data)
        if size < 126:
            header = bytes([first, 0x80 | size])
        elif size < 65536:
            header = bytes([first, 0x80 | 126]) + size.to_bytes(2, "big")
        else:
            header = bytes([first, 0x80 | 127]) + size.to_bytes(8, "big")
        mask = self.random.randbytes(4)
        long = (mask * (size // 4 + 1))[:size]
        masked = (int.from_bytes(data, "big") ^ int.from_bytes(long, "big")).to_bytes(size, "big")
        return header + mask + masked

    async def write(self, data: bytes) -> None:
        """Write bytes to the socket. If the connection has ended, do nothing."""
        try:
            await self.stream.send_all(data)
        except BROKEN:
            pass

    # The end

    async def close(self, code: int = 1000) -> None:
        """Close the connection with a close frame."""
        if self.carrier == "socket":
            await self.write(self.frame(CLOSE, code.to_bytes(2, "big")))
        elif self.carrier == "asgi":
            self._to_server.send_nowait({"type": "websocket.disconnect", "code": code})
            await trio.lowlevel.checkpoint()
        else:
            self.scope.cancel()
            await trio.lowlevel.checkpoint()

    def vanish(self) -> None:
        """End the connection without a close frame."""
        if self.carrier == "socket":
            self.stream.connection.reset()
        else:
            self.scope.cancel()
