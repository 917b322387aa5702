"""The promises of channels/transports/contract.py, for every transport."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import pytest
import trio
import trustme
from trio.testing import wait_all_tasks_blocked

from channels.transports.contract import Signal, Transport
from channels.transports.tls import secure
from channels.transports.transports import ByteStream, Transports
from tests.channels.transports.readers import Heard
from tests.channels.transports.sockets import socket_pair

MAX_MESSAGES = 50


class Wire:
    """Both ends of one connection: the transport, and the stream of the peer."""

    def __init__(self, stream: ByteStream, peer: Any) -> None:
        self.stream = stream
        self.peer: trio.abc.Stream = peer


@contextlib.asynccontextmanager
async def plain_socket() -> AsyncIterator[Wire]:
    with socket_pair() as (ours, theirs):
        yield Wire(ours, trio.SocketStream(trio.socket.from_stdlib_socket(theirs)))


@contextlib.asynccontextmanager
async def memory() -> AsyncIterator[Wire]:
    # The other kind of memory stream, without a buffer: its writers wait for a reader.
    ours, theirs = trio.testing.lockstep_stream_pair()
    yield Wire(ours, theirs)


@contextlib.asynccontextmanager
async def tls() -> AsyncIterator[Wire]:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    with socket_pair() as (ours, theirs):
        ours_tls = secure(ours, server)
        theirs_tls = trio.SSLStream(
            trio.SocketStream(trio.socket.from_stdlib_socket(theirs)),
            client,
            server_hostname="localhost",
            https_compatible=True,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours_tls.handshake)
            nursery.start_soon(theirs_tls.do_handshake)
        with ours_tls:
            yield Wire(ours_tls, theirs_tls)


Kind: TypeAlias = Callable[[], contextlib.AbstractAsyncContextManager[Wire]]
KINDS: dict[str, tuple[Kind, bool]] = {
    "socket, poller": (plain_socket, True),
    "socket, pump": (plain_socket, False),
    "memory": (memory, True),
    "tls, poller": (tls, True),
    "tls, pump": (tls, False),
}


class Connection:
    """One transport under test, with its other end."""

    def __init__(self, transports: Transports, wire: Wire, tasks: trio.Nursery) -> None:
        self.heard = Heard()
        self.stream = wire.stream
        self.peer = wire.peer
        self.transport: Transport = transports.attach(wire.stream, self.heard)
        self.transports = transports
        self.tasks = tasks

    async def read(self, count: int) -> bytes:
        """Read as the peer."""
        data = bytearray()
        while len(data) < count:
            piece = await self.peer.receive_some(count - len(data))
            if not piece:
                break
            data += piece
        return bytes(data)

    async def is_closed(self) -> bool:
        """True if the stream is closed."""
        if isinstance(self.stream, socket.socket):
            return self.stream.fileno() < 0
        try:
            await self.stream.send_all(b"x")
        except trio.ClosedResourceError:
            return True
        return False


@contextlib.asynccontextmanager
async def connect(name: str) -> AsyncIterator[Connection]:
    kind, use_poller = KINDS[name]
    async with trio.open_nursery() as loops, trio.open_nursery() as tasks, kind() as wire:
        transports = Transports(
            spawn=tasks.start_soon, use_poller=use_poller, max_messages=MAX_MESSAGES
        )
        loops.start_soon(transports.flusher.main)
        for poller in transports.pollers.values():
            loops.start_soon(poller.main)
        connection = Connection(transports, wire, tasks)
        yield connection
        connection.transport.close()
        await wait_all_tasks_blocked()
        assert not tasks.child_tasks, "a transport that is closed leaves no task behind"
        assert await connection.is_closed()
        loops.cancel_scope.cancel()
    transports.close()


@pytest.fixture(params=list(KINDS))
async def connection(request: pytest.FixtureRequest) -> AsyncIterator[Connection]:
    async with connect(request.param) as connection:
        yield connection


@pytest.fixture(params=[name for name in KINDS if not name.startswith("tls")])
async def half_closing(request: pytest.FixtureRequest) -> AsyncIterator[Connection]:
    """A connection of which each side can be closed alone, as TLS cannot in Python."""
    async with connect(request.param) as connection:
        yield connection


@contextlib.asynccontextmanager
async def at_once(*functions: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """Run functions beside a block: some wires need both ends to move at the same time."""
    async with trio.open_nursery() as nursery:
        for function in functions:
            nursery.start_soon(function)
        yield


async def end(connection: Connection) -> None:
    assert isinstance(connection.peer, trio.abc.HalfCloseableStream)
    await connection.peer.send_eof()


async def test_bytes_travel_both_ways_in_order(connection: Connection) -> None:
    async with at_once(lambda: connection.peer.send_all(b"hello")):
        assert await connection.heard.bytes(5) == b"hello"
    for frame in (b"a", b"b", b"c"):
        connection.transport.out.put(frame)
    assert await connection.read(3) == b"abc"
    connection.transport.out.put(b"d")
    assert await connection.read(1) == b"d"


async def test_a_large_message_arrives_whole(connection: Connection) -> None:
    data = bytes(range(256)) * 10_000
    connection.transport.out.put(data)
    connection.transport.out.put(b"end")
    assert await connection.read(len(data) + 3) == data + b"end"


async def test_the_end_of_the_peer_is_reported_once_and_writing_goes_on(
    half_closing: Connection,
) -> None:
    await end(half_closing)
    assert await half_closing.heard.other() == b""
    half_closing.transport.out.put(b"still here")
    assert await half_closing.read(10) == b"still here"
    assert half_closing.heard.events == [b""]


async def test_a_peer_that_does_not_read_overflows_its_buffer_without_blocking(
    connection: Connection,
) -> None:
    frame = b"x" * 100_000
    while not connection.heard.others:
        connection.transport.out.put(frame)
        await trio.lowlevel.checkpoint()
    connection.transport.out.put(frame)
    await wait_all_tasks_blocked()
    assert connection.heard.others == [Signal.OVERFLOW]
    assert connection.transport.out.statistics().dropped_messages == 2


async def test_the_last_frame_arrives_after_all_others_and_then_the_end(
    connection: Connection,
) -> None:
    connection.transport.out.put(b"frame ")
    connection.transport.finish(b"last")
    connection.transport.out.put(b"late")
    assert await connection.read(10) == b"frame last"

    async def say_goodbye() -> None:
        if isinstance(connection.peer, trio.abc.HalfCloseableStream):
            assert await connection.read(1) == b""
        await connection.peer.aclose()

    async with at_once(say_goodbye):
        assert await connection.heard.other() is Signal.FINISHED
    assert connection.heard.events == [Signal.FINISHED]


async def test_a_connection_can_be_finished_without_a_last_frame(connection: Connection) -> None:
    async def say_goodbye() -> None:
        await connection.read(1)
        await connection.peer.aclose()

    connection.transport.finish()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(say_goodbye)
        assert await connection.heard.other() is Signal.FINISHED
        nursery.cancel_scope.cancel()


async def test_data_from_the_peer_after_finish_is_read_and_dropped(
    half_closing: Connection,
) -> None:
    half_closing.transport.pause()
    half_closing.transport.finish(b"last")
    # Far more than the network buffers, so this ends only if the transport reads it.
    async with at_once(lambda: half_closing.peer.send_all(b"x" * 5_000_000)):
        assert await half_closing.read(4) == b"last"
    await wait_all_tasks_blocked()
    assert half_closing.heard.events == [], "finished only when the peer has closed its side"
    await half_closing.peer.aclose()
    assert await half_closing.heard.other() is Signal.FINISHED
    assert half_closing.heard.events == [Signal.FINISHED]


async def test_a_connection_whose_peer_is_at_its_end_finishes_without_waiting(
    half_closing: Connection,
) -> None:
    await end(half_closing)
    await half_closing.heard.other()
    half_closing.transport.finish(b"last")
    assert await half_closing.read(4) == b"last"
    while len(half_closing.heard.events) < 2:
        await trio.lowlevel.checkpoint()
    assert half_closing.heard.events == [b"", Signal.FINISHED]


async def test_a_peer_that_does_not_read_keeps_a_connection_from_finishing_until_it_is_closed(
    connection: Connection,
) -> None:
    for _ in range(MAX_MESSAGES):
        connection.transport.out.put(b"x" * 100_000)
    connection.transport.finish(b"last")
    await wait_all_tasks_blocked()
    assert connection.heard.events == []
    connection.transport.close()
    await wait_all_tasks_blocked()
    assert connection.heard.events == []
    assert await connection.is_closed()


async def test_a_peer_that_is_gone_is_reported_and_finish_still_works(
    connection: Connection,
) -> None:
    await connection.peer.aclose()
    # The system may need a second write to notice.
    while not any(isinstance(event, OSError) for event in connection.heard.events):
        connection.transport.out.put(b"x" * 1000)
        await wait_all_tasks_blocked()
    before = len(connection.heard.events)
    connection.transport.finish(b"last")
    while len(connection.heard.events) == before:
        await trio.lowlevel.checkpoint()
    assert connection.heard.events[before:] == [Signal.FINISHED]


async def test_no_event_follows_close(
    connection: Connection,
) -> None:
    connection.transport.out.put(b"x")
    connection.transport.close()
    connection.transport.close()
    connection.transport.out.put(b"x")
    connection.transport.finish(b"x")
    connection.transport.pause()
    connection.transport.resume()
    await wait_all_tasks_blocked()
    assert connection.heard.events == []


async def test_a_paused_connection_is_read_again_when_it_is_resumed(
    connection: Connection,
) -> None:
    connection.transport.pause()
    async with at_once(lambda: connection.peer.send_all(b"hello")):
        await wait_all_tasks_blocked()
        assert connection.heard.events == []
        connection.transport.resume()
        assert await connection.heard.bytes(5) == b"hello"
