"""A small server that speaks RESP3, for virtual time: it runs on any Trio stream.

It knows the commands that adapters send. It can pause, die and come back, and answer a command with an error.
"""

from __future__ import annotations

import hiredis
import trio
import trio.testing


class RespClient:
    """The server's side of one connection."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.out: list[bytes] = []
        self.marked = trio.Event()
        self.channels: dict[bytes, None] = {}
        self.authenticated = False
        self.name = b""
        self.gate = trio.Event()
        self.gate.set()

    def write(self, data: bytes) -> None:
        self.out.append(data)
        self.marked.set()


class RespServer:
    """A server in this process.

    Attributes:
        received: every command that came, without PUBLISH.
        published: the number of PUBLISH commands.
        answers: answers in place of the usual ones, by the name of the command.
        connects: connections that were opened.
        password: clients must know it; None lets everybody in.
    """

    def __init__(self, nursery: trio.Nursery, *, password: str | None = None) -> None:
        self._nursery = nursery
        self.password = password
        self._running = trio.Event()
        self._running.set()
        self.is_up = True
        self.clients: dict[RespClient, None] = {}
        self.received: list[list[bytes]] = []
        self.published = 0
        self.answers: dict[bytes, bytes] = {}
        self.connects = 0

    # What happens to it

    def pause(self) -> None:
        """Stop to read, write and accept, as under SIGSTOP."""
        self._running = trio.Event()

    def resume(self) -> None:
        self._running.set()

    def ignore(self, name: bytes) -> None:
        """Read nothing more from the present connections with this name."""
        for client in self.clients:
            if client.name == name:
                client.gate = trio.Event()

    async def kill(self) -> None:
        """Break all connections, and refuse new ones until `start`."""
        self.is_up = False
        await self.close_all()

    async def close_all(self) -> None:
        """Close all connections."""
        for client in list(self.clients):
            await trio.aclose_forcefully(client.stream)

    def start(self) -> None:
        self.is_up = True

    # Connecting

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        """Open a connection, as `trio.open_tcp_stream` does."""
        await trio.lowlevel.checkpoint()
        if not self.is_up:
            raise ConnectionRefusedError(111, "Connection refused")
        self.connects += 1
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self.serve, ours)
        return theirs

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection until it ends."""
        client = RespClient(stream)
        self.clients[client] = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, client)
                await self._read(client)
                nursery.cancel_scope.cancel()
        finally:
            self.clients.pop(client, None)
            await trio.aclose_forcefully(stream)

    async def _read(self, client: RespClient) -> None:
        reader = hiredis.Reader()
        while True:
            try:
                data = await client.stream.receive_some(65536)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            await self._running.wait()
            await client.gate.wait()
            if not data:
                return
            reader.feed(bytes(data))
            for command in iter(reader.gets, False):
                client.write(self._answer(client, command))

    async def _write(self, client: RespClient) -> None:
        while True:
            await client.marked.wait()
            client.marked = trio.Event()
            await self._running.wait()
            data, client.out = b"".join(client.out), []
            try:
                await client.stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return

    # Commands

    def _answer(self, client: RespClient, command: list[bytes]) -> bytes:
        name = command[0].upper()
        if name == b"PUBLISH":
            self.published += 1
        else:
            self.received.append(command)
        if name in self.answers:
            return self.answers[name]
        match command:
            case [b"HELLO", b"3", *credentials]:
                if self.password is not None and credentials[-1:] != [self.password.encode()]:
                    return b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
                client.authenticated = True
                return b"%2\r\n$6\r\nserver\r\n$4\r\nfake\r\n$5\r\nproto\r\n:3\r\n"
            case _ if not client.authenticated:
                return b"-NOAUTH Authentication required.\r\n"
            case [b"CLIENT", b"SETNAME", name]:
                client.name = name
                return b"+OK\r\n"
            case [b"SELECT", _]:
                return b"+OK\r\n"
            case [b"PING"]:
                return b"+PONG\r\n"
            case [b"SUBSCRIBE", *channels]:
                for channel in channels:
                    client.channels[channel] = None
                return b"".join(_push(b"subscribe", each, b":1\r\n") for each in channels)
            case [b"PUBLISH", channel, payload]:
                return b":%d\r\n" % self.publish(channel, payload)
        return b"-ERR unknown command\r\n"

    def publish(self, channel: bytes, payload: bytes) -> int:
        """Send a message to all subscribers, as PUBLISH does."""
        data = _push(b"message", channel, b"$%d\r\n%b\r\n" % (len(payload), payload))
        subscribers = [client for client in self.clients if channel in client.channels]
        for client in subscribers:
            client.write(data)
        return len(subscribers)


def _push(kind: bytes, channel: bytes, last: bytes) -> bytes:
    return b">3\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n%b" % (len(kind), kind, len(channel), channel, last)
