"""Reading the first request of a socket and of a stream."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from channels.transports.transports import Carrier
from channels.upgrade.head_reader import read_head
from channels.upgrade.request import BadRequest, Head, HeadParser, ParsedHead
from tests.channels.transports.sockets import socket_pair

REQUEST = b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n"
Send = Callable[[bytes], Awaitable[None]]


class Ends:
    """Both ends of a connection."""

    def __init__(self, carrier: Carrier, send: Send, close: Callable[[], Awaitable[None]]) -> None:
        self.carrier = carrier
        self.send = send
        self.close = close


@contextlib.asynccontextmanager
async def over_sockets() -> AsyncIterator[Ends]:
    with socket_pair() as (ours, theirs):
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
        yield Ends(ours, stream.send_all, stream.aclose)


@contextlib.asynccontextmanager
async def over_memory() -> AsyncIterator[Ends]:
    ours, theirs = trio.testing.memory_stream_pair()
    yield Ends(ours, theirs.send_all, theirs.aclose)


@pytest.fixture(params=[over_sockets, over_memory])
async def ends(request: pytest.FixtureRequest) -> AsyncIterator[Ends]:
    async with request.param() as ends:
        yield ends


async def test_a_head_that_is_there_already_is_read(ends: Ends) -> None:
    await ends.send(REQUEST + b"rest")
    head = await read_head(ends.carrier)
    assert isinstance(head, Head)
    assert (head.path, head.rest, head.received) == ("/a", b"rest", REQUEST + b"rest")


async def test_a_head_that_comes_in_pieces_is_waited_for(ends: Ends, nursery: trio.Nursery) -> None:
    results: list[ParsedHead | None] = []

    async def read() -> None:
        results.append(await read_head(ends.carrier))

    nursery.start_soon(read)
    for i in range(len(REQUEST)):
        assert results == []
        await ends.send(REQUEST[i : i + 1])
        await wait_all_tasks_blocked()
    assert isinstance(results[0], Head)


async def test_what_is_no_request_is_refused_at_once(ends: Ends) -> None:
    await ends.send(b"\x16\x03\x01")
    assert isinstance(await read_head(ends.carrier), BadRequest)


async def test_a_head_that_is_too_large_is_refused(ends: Ends) -> None:
    await ends.send(REQUEST)
    result = await read_head(ends.carrier, HeadParser(max_size=20))
    assert isinstance(result, BadRequest)
    assert result.status == 431


@pytest.mark.parametrize("sent", [b"", b"GET / HT"])
async def test_a_peer_that_leaves_without_a_request_is_none(ends: Ends, sent: bytes) -> None:
    if sent:
        await ends.send(sent)
    await ends.close()
    assert await read_head(ends.carrier) is None


async def test_a_peer_that_breaks_the_connection_is_none() -> None:
    with socket_pair() as (ours, theirs):
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        theirs.close()
        assert await read_head(ours) is None


async def test_waiting_can_be_cancelled(ends: Ends, autojump_clock: object) -> None:
    with trio.move_on_after(10) as scope:
        await read_head(ends.carrier)
    assert scope.cancelled_caught
    await ends.send(REQUEST)
    assert isinstance(await read_head(ends.carrier), Head)
