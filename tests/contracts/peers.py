"""Clients of an endpoint over every transport, without a network, for `test_channels_over_transports`.

A peer sends and receives messages of five fields, over any transport and in any version of the protocol. `KINDS` lists
the transports. To test another transport, add a class here.
"""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import zlib
from functools import cache
from typing import Any, ClassVar

import trio
import trustme
from attrs import evolve

from actors import Pid
from tests.channels.polling import JSON, Poller
from tests.channels.support import (
    EOF,
    UPGRADE,
    Answer,
    Client,
    Close,
    Data,
    Reader,
    Server,
    head,
    settle,
)
from tests.channels.transports.frames import BINARY, TEXT, client_frame

__all__ = [
    "GONE",
    "KINDS",
    "VERSIONS",
    "DeflatePeer",
    "LongPollPeer",
    "NativePeer",
    "Peer",
    "TlsPeer",
    "TwoNodesPeer",
]

GONE = "GONE"
"""The close of a client that learns no code."""


class Peer:
    """A client of one endpoint.

    Attributes:
        has_binary: True if binary messages travel both ways.
        has_close_codes: True if the client gets a close code.
    """

    has_binary: ClassVar[bool] = True
    has_close_codes: ClassVar[bool] = True
    path: ClassVar[str] = "/socket/websocket"

    def __init__(self, server: Server, nursery: trio.Nursery, vsn: str, gate: Any = None) -> None:
        self.server = server
        self.nursery = nursery
        self.vsn = vsn
        self.client = self.make_client(gate)
        self.closed: int | str | None = None
        """The code of the end, or EOF where there was none; None as long as there was no end."""

    def make_client(self, gate: Any) -> Client:
        return Client(gate)

    async def serve(self) -> None:
        """Have the server take the connection."""
        await self.server.accept(self.client)

    async def ask(self, path: str | None = None, headers: str = UPGRADE, query: str = "") -> Answer:
        """Send the request that opens a WebSocket, and read the answer."""
        await self.serve()
        path = self.path if path is None else path
        self.client.write(head(f"{path}?vsn={self.vsn}{query}", headers))
        await settle()
        answer = self.client.answer()
        assert answer is not None
        return answer

    async def connect(self, query: str = "") -> None:
        """Open a connection."""
        answer = await self.ask(query=query)
        assert answer.status == 101, answer

    async def send(self, *message: Any) -> None:
        """Send join_ref, ref, topic, event and an optional payload."""
        await self.send_text(self.encode(*message))

    async def send_text(self, data: bytes) -> None:
        """Send a text message with any content."""
        self.client.write(client_frame(TEXT, data))
        await settle()

    async def send_binary(self, data: bytes) -> None:
        """Send a binary message."""
        self.client.write(client_frame(BINARY, data))
        await settle()

    async def received(self) -> list[Any]:
        """Return the messages since the last call: five-field messages, and binary ones as bytes."""
        found: list[Any] = []
        for frame in self.client.frames():
            if isinstance(frame, Close):
                assert self.closed is None
                self.closed = frame.code
            elif frame == EOF:
                self.closed = EOF if self.closed is None else self.closed
            elif isinstance(frame, Data):
                assert frame.opcode == BINARY
                found.append(frame.payload)
            else:
                found.append(self.decode(frame))
        return found

    async def exchange(self, *message: Any) -> list[Any]:
        """Send a message, and return the messages that follow."""
        await self.send(*message)
        return await self.received()

    async def join(self, topic: str = "room:a", ref: str = "1", payload: Any = None) -> None:
        """Join a topic and make sure that it worked."""
        got = await self.exchange(ref, ref, topic, "phx_join", {} if payload is None else payload)
        assert got == [self.reply(ref, ref, topic)]

    async def go(self) -> None:
        """Close the connection, and let the server close its side, unless it has."""
        with contextlib.suppress(trio.ClosedResourceError):
            self.client.close()
        await settle()

    async def leave(self) -> None:
        """Go without a word, and let the server notice."""
        self.client.end()
        await trio.sleep(6)

    def process(self) -> Pid:
        """The process of the first client of the server, which this one has to be."""
        return self.server.connections()[0]

    def was_closed(self, code: int | str) -> bool:
        """Return True if the client saw the end, with this code if its transport has codes."""
        return self.closed == (code if self.has_close_codes else GONE)

    # Versions

    def encode(self, join_ref: Any, ref: Any, topic: str, event: str, payload: Any = None) -> bytes:
        payload = {} if payload is None else payload
        if self.vsn.startswith("2"):
            return json.dumps([join_ref, ref, topic, event, payload]).encode()
        message = {"topic": topic, "event": event, "payload": payload, "ref": ref}
        return json.dumps({**message, "join_ref": join_ref}).encode()

    def decode(self, frame: Any) -> list[Any]:
        if self.vsn.startswith("2"):
            assert len(frame) == 5
            return list(frame)
        assert set(frame) == {"topic", "event", "payload", "ref"}
        return [None, frame["ref"], frame["topic"], frame["event"], frame["payload"]]

    def message(self, join_ref: Any, *rest: Any) -> list[Any]:
        """A message of the server's: the first version of the protocol has no join_ref there."""
        return [join_ref if self.vsn.startswith("2") else None, *rest]

    def reply(
        self, join_ref: Any, ref: Any, topic: str, response: Any = None, status: str = "ok"
    ) -> list[Any]:
        answer = {"status": status, "response": {} if response is None else response}
        return self.message(join_ref, ref, topic, "phx_reply", answer)


class NativePeer(Peer):
    """The endpoint's own WebSocket."""


class _InflatingReader(Reader):
    def inflate(self, payload: bytes) -> bytes:
        # Each message alone, because the server announced that it keeps no context (no_context_takeover).
        return zlib.decompressobj(wbits=-15).decompress(payload + b"\x00\x00\xff\xff")


class DeflatePeer(Peer):
    """The endpoint's own WebSocket, with messages compressed both ways (RFC 7692)."""

    path = "/packed/websocket"

    def make_client(self, gate: Any) -> Client:
        client = Client(gate)
        client._reader = _InflatingReader()
        self._compressor = zlib.compressobj(wbits=-15)
        return client

    async def ask(self, path: str | None = None, headers: str = UPGRADE, query: str = "") -> Answer:
        headers += "sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n"
        answer = await super().ask(path, headers, query)
        if answer.status == 101:
            agreed = "permessage-deflate; server_no_context_takeover"
            assert answer.headers["sec-websocket-extensions"] == agreed
        return answer

    async def send_text(self, data: bytes) -> None:
        self.client.write(client_frame(TEXT, self._packed(data), rsv=4))
        await settle()

    async def send_binary(self, data: bytes) -> None:
        self.client.write(client_frame(BINARY, self._packed(data), rsv=4))
        await settle()

    def _packed(self, data: bytes) -> bytes:
        packed = self._compressor.compress(data) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        return packed[:-4]


@cache
def _contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    client = ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    return server, client


class TlsClient(Client):
    """A client that speaks TLS over memory."""

    def __init__(self, gate: Any = None) -> None:
        super().__init__(gate)
        server, client = _contexts()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = client.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self.stream: Any = trio.SSLStream(
            self.stream, server, server_side=True, https_compatible=True
        )

    async def shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                await settle()
                self._fetch()
                continue
            self._flush()
            return

    def write(self, data: bytes) -> None:
        if data:
            try:
                self._tls.write(data)
            except ssl.SSLEOFError:
                # The server has closed already, so the end of TCP is enough.
                return
            self._flush()

    def _flush(self) -> None:
        super().write(self._outgoing.read())

    def _fetch(self) -> None:
        try:
            while data := bytes(self._to_client.get_data_nowait()):
                self._incoming.write(data)
            self._incoming.write_eof()
        except trio.WouldBlock:
            pass

    def _read(self) -> None:
        self._fetch()
        try:
            while data := self._tls.read():
                self._reader.feed(data)
            self._reader.feed(b"")
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLEOFError:
            self._reader.feed(b"")


class TlsPeer(Peer):
    """The same over TLS."""

    client: TlsClient

    def make_client(self, gate: Any) -> Client:
        return TlsClient(gate)

    async def serve(self) -> None:
        await super().serve()
        await self.client.shake_hands()


class KeptPeer(NativePeer):
    """A WebSocket on a connection that has served a page before, as proxies have it that keep connections."""

    async def serve(self) -> None:
        await super().serve()
        self.client.write(head("/page", "host: test\r\n"))
        await settle()
        answer = self.client.answer()
        assert answer is not None
        assert answer.status == 404


class LongPollPeer(Peer):
    """A polling client. It gets no close code and no close. Its next poll finds no session: `GONE`.

    Messages that the test sends together are one batch. The client polls when the test asks for received messages.
    """

    has_binary = False
    has_close_codes = False
    path = "/socket/longpoll"

    async def ask(self, path: str | None = None, headers: str = "", query: str = "") -> Answer:
        """Begin a session. The status is the one in the answer's JSON."""
        pairs = [line.partition(": ") for line in headers.split("\r\n") if line]
        self.poller = Poller(
            self.server,
            path=self.path if path is None else path,
            query=f"vsn={self.vsn}{query}",
            headers=tuple((name, value) for name, _, value in pairs if name == "origin"),
        )
        answer = await self.poller.ask("GET")
        if not answer.body.startswith(b"{"):
            return answer
        said = json.loads(answer.body)
        self.poller.tokens.append(said.get("token", ""))
        return evolve(answer, status=said["status"], body=b"")

    async def connect(self, query: str = "") -> None:
        answer = await self.ask(query=query)
        assert answer.status == 410, answer

    async def send_text(self, data: bytes) -> None:
        self.posted = await self.poller.ask("POST", data, ("content-type", JSON))

    async def send_binary(self, data: bytes) -> None:
        if self.vsn.startswith("2"):
            await self.poller.post(base64.b64encode(data))
        else:
            # It has no batches, and so no form for bytes.
            await self.send_text(data)

    def process(self) -> Pid:
        return next(iter(self.server.services.admission.polling.values()))

    async def received(self) -> list[Any]:
        poll = await self.poller.begin("GET")
        said = poll.said()
        if said is None:
            poll.go()
            await settle()
            return []
        if said["status"] != 200:
            self.closed = GONE
            return []
        return [self.decode(json.loads(message)) for message in said["messages"]]

    async def go(self) -> None:
        """Poll no more: there is no other goodbye."""
        await trio.sleep(31)

    async def leave(self) -> None:
        await self.go()


class TwoNodesPeer(LongPollPeer):
    """A polling client behind a balancer in front of two nodes. Each request goes to the other node than the last one.

    Its session is on the first node, whose channels and connections the tests look at.
    """

    _pollers: tuple[Poller, Poller]
    _turn: bool

    @property
    def poller(self) -> Poller:
        self._turn = not self._turn
        return self._pollers[self._turn]

    @poller.setter
    def poller(self, poller: Poller) -> None:
        assert self.server.other_node is not None
        self._pollers = (poller, evolve(poller, server=self.server.other_node))
        # The first request begins the session.
        self._turn = True


KINDS: dict[str, type[Peer]] = {
    "native": NativePeer,
    "deflate": DeflatePeer,
    "tls": TlsPeer,
    "kept": KeptPeer,
    "longpoll": LongPollPeer,
    "longpoll over two nodes": TwoNodesPeer,
}
VERSIONS = ("1.0.0", "2.0.0")
