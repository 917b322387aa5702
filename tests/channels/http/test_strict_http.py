"""Later requests of a connection are read as strictly as its first one."""

from __future__ import annotations

import h11
import pytest
from trio.testing import MockClock

from channels.http.handover import HttpHandover
from channels.http.strict_http import StrictConnection
from tests.channels.transports.http_client import Client, echo, served

GOOD = b"GET /first HTTP/1.1\r\nHost: localhost\r\n\r\n"
LENIENT = {
    "bare LF": b"GET /second HTTP/1.1\nHost: localhost\n\n",
    "a bare LF at the end": b"GET /second HTTP/1.1\r\nHost: localhost\n\r\n",
    "a folded line": b"GET /second HTTP/1.1\r\nHost: localhost\r\nX-A: b\r\n c\r\n\r\n",
    "two lengths of the body": b"POST /second HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two hosts": b"GET /second HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n\r\n",
}


async def everything(client: Client) -> bytes:
    return b"".join([bytes(data) async for data in client.stream])


@pytest.mark.parametrize("lenient", LENIENT.values(), ids=LENIENT.keys())
@pytest.mark.parametrize("pipelined", [True, False], ids=["in one go", "after the answer"])
async def test_a_lenient_second_head_is_answered_400_and_ends_the_connection(
    lenient: bytes, pipelined: bool, autojump_clock: MockClock
) -> None:
    handover = HttpHandover(echo)
    counts: list[tuple[str, ...]] = []
    handover.count = counts.append
    async with served(handover, GOOD + (lenient if pipelined else b"")) as (client, _):
        if not pipelined:
            client.question("GET", "/first")
            assert (await client.answer())[0] == 200
            await client.stream.send_all(lenient)
        answers = await everything(client)
    assert b"/second" not in answers
    assert b"HTTP/1.1 400 " in answers
    assert counts == [("http", "bad_request")]
    assert autojump_clock.current_time() == 0, "the connection is not kept until it has been idle"


async def test_a_second_head_may_arrive_byte_by_byte() -> None:
    async with served(HttpHandover(echo)) as (client, _):
        for _ in range(2):
            for byte in client.question("GET", "/a"):
                await client.stream.send_all(bytes((byte,)))
            assert await client.answer() == (200, b"GET /a? ")


async def test_a_second_head_that_is_too_large_is_answered_431(autojump_clock: MockClock) -> None:
    async with served(HttpHandover(echo)) as (client, _):
        await client.ask("GET", "/first")
        head = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"b" * 20_000
        await client.stream.send_all(head)
        assert b"HTTP/1.1 431 " in await everything(client)


@pytest.mark.parametrize(
    "trailers", [b"0\r\n\r\n", b"0\r\n\n", b"0\r\nX-A: b\n\n"], ids=["none", "bare LF", "lenient"]
)
async def test_nothing_behind_a_chunked_body_is_taken_for_a_request(
    trailers: bytes, autojump_clock: MockClock
) -> None:
    head = b"POST /first HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with served(HttpHandover(echo), head + trailers + GOOD) as (client, _):
        answers = await everything(client)
    assert answers.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answers.lower()
    assert autojump_clock.current_time() == 0


def test_a_head_that_ends_with_the_stream_is_refused() -> None:
    connection = StrictConnection()
    connection.receive_data(b"GET / HTTP/1.1\r\n")
    assert connection.next_event() is h11.NEED_DATA
    connection.receive_data(b"")
    with pytest.raises(h11.RemoteProtocolError, match="ends in its head"):
        connection.next_event()


def test_a_stream_that_ends_between_two_requests_is_no_mistake() -> None:
    connection = StrictConnection()
    connection.receive_data(b"")
    assert isinstance(connection.next_event(), h11.ConnectionClosed)
