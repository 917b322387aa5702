"""Hypercorn's server for one connection: replayed bytes, strict heads, and exchanges that end."""

from __future__ import annotations

import gc
import socket
from typing import Any

import h11
import pytest
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked

from channels.http.handover import DEFAULT_KEEP_ALIVE_TIMEOUT, HttpHandover
from channels.http.hypercorn_server import Exchange, ReplayStream, Shields, StrictConnection
from channels.protocol.work_budget import WorkBudget
from tests.channels.transports.http_client import Client, echo, served
from tests.channels.transports.sockets import fill, socket_pair
from tests.patience import until


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 200_000])
async def test_everything_is_written_in_order(size: int) -> None:
    ours, theirs = memory_stream_pair()
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    await ReplayStream(ours, b"").send_all(data)
    await ours.send_eof()
    assert b"".join([piece async for piece in theirs]) == data


async def test_a_peer_that_reads_slowly_gets_everything(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    ours, theirs = lockstep_stream_pair()
    data = b"x" * 300_000
    nursery.start_soon(ReplayStream(ours, b"").send_all, data)
    read = 0
    while read < len(data):
        await trio.sleep(50)
        # A whole piece in each minute.
        read += len(await theirs.receive_some(64 * 1024))


async def test_a_peer_that_does_not_read_is_cut_off_after_a_minute(
    autojump_clock: MockClock,
) -> None:
    ours, _ = lockstep_stream_pair()
    with pytest.raises(trio.BrokenResourceError):
        await ReplayStream(ours, b"").send_all(b"x" * 300_000)
    assert trio.current_time() == pytest.approx(60)
    with pytest.raises(trio.ClosedResourceError):
        await ours.receive_some()


async def test_hypercorn_drops_a_client_that_does_not_read_its_answer(
    autojump_clock: MockClock,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 1_000_000})

    ours, theirs = lockstep_stream_pair()
    handover = HttpHandover(app)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(handover.serve, ours)
        await theirs.send_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
        assert (await theirs.receive_some(10)).startswith(b"HTTP/1.1")
    assert handover.connections == 0
    assert trio.current_time() == pytest.approx(60)


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
async def test_bytes_after_a_chunked_body_are_not_a_request(
    trailers: bytes, autojump_clock: MockClock
) -> None:
    head = b"POST /first HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with served(HttpHandover(echo), head + trailers + GOOD) as (client, _):
        answers = await everything(client)
    assert answers.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answers.lower()
    assert autojump_clock.current_time() == 0


async def test_bytes_after_the_last_request_do_not_cut_off_an_answer_that_comes_before_its_body_is_read(
    autojump_clock: MockClock,
) -> None:
    head = b"POST /first HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with served(HttpHandover(), head + b"3\r\nabc\r\n0\r\n\r\n" + GOOD) as (client, _):
        answers = await everything(client)
    assert answers.count(b"HTTP/1.1 404 ") == answers.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answers.lower()
    assert answers.endswith(b"not found")
    assert autojump_clock.current_time() == 0


def test_a_stream_that_ends_inside_a_head_is_refused() -> None:
    connection = StrictConnection()
    connection.receive_data(b"GET / HTTP/1.1\r\n")
    assert connection.next_event() is h11.NEED_DATA
    connection.receive_data(b"")
    with pytest.raises(h11.RemoteProtocolError, match="ends in its head"):
        connection.next_event()


def test_a_stream_may_end_between_two_requests() -> None:
    connection = StrictConnection()
    connection.receive_data(b"")
    assert isinstance(connection.next_event(), h11.ConnectionClosed)


START = {"type": "http.response.start", "status": 200, "headers": []}


async def streamed(request: Request) -> Response:
    async def pieces() -> Any:
        yield b"one"
        yield b"two"

    return StreamingResponse(pieces())


async def file(request: Request) -> Response:
    return FileResponse(__file__)


starlette = Starlette(routes=[Route("/streamed", streamed), Route("/file", file)])
PATHS = pytest.mark.parametrize("path", ["/streamed", "/file"])


@PATHS
async def test_a_streamed_answer_to_connection_close_closes_the_connection_at_once(
    path: str,
) -> None:
    handover = HttpHandover(starlette)
    async with served(handover) as (client, _):
        status, body = await client.ask("GET", path, headers={"connection": "close"})
        assert (status, bool(body)) == (200, True)
        with trio.fail_after(5):
            assert await client.stream.receive_some() == b""
        # Not only for writing, and without the client closing its side.
        await until(lambda: handover.connections == 0)


@PATHS
async def test_a_connection_is_idle_after_a_streamed_answer_and_may_be_used_again(
    path: str,
) -> None:
    async with served(HttpHandover(starlette)) as (client, _):
        for _ in range(3):
            assert (await client.ask("GET", path))[0] == 200


async def test_a_connection_that_stays_idle_after_a_streamed_answer_is_closed(
    autojump_clock: MockClock,
) -> None:
    handover = HttpHandover(starlette)
    async with served(handover) as (client, _):
        await client.ask("GET", "/streamed")
        assert await client.stream.receive_some() == b""
    assert trio.current_time() == pytest.approx(DEFAULT_KEEP_ALIVE_TIMEOUT)


@PATHS
async def test_draining_closes_a_connection_that_is_idle_after_a_streamed_answer(
    path: str,
) -> None:
    handover = HttpHandover(starlette)
    async with served(handover) as (client, _):
        await client.ask("GET", path)
        await wait_all_tasks_blocked()
        await handover.drain()
        with trio.fail_after(2):
            assert await client.stream.receive_some() == b""


async def test_an_application_that_stops_during_its_last_write_leaves_no_connection(
    autojump_clock: MockClock,
) -> None:
    async def impatient(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        with trio.move_on_after(1):
            await send({"type": "http.response.body", "body": bytes(1_000_000)})

    handover = HttpHandover(impatient)
    ours, theirs = trio.testing.lockstep_stream_pair()
    request = Client(theirs).question("GET", "/", headers={"connection": "close"})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(handover.serve, ours, request)
        await trio.sleep(2)
        body = b"".join([bytes(data) async for data in theirs])
        assert body.count(bytes(1000)) == 1000
        assert body.endswith(b"0\r\n\r\n")
    assert handover.connections == 0


async def test_an_answer_that_its_client_does_not_read_is_cut_off_after_a_minute(
    autojump_clock: MockClock,
) -> None:
    async def pieces() -> Any:
        yield bytes(10)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await StreamingResponse(pieces())(scope, receive, send)

    handover = HttpHandover(app)
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(handover.serve, ours, Client(theirs).question("GET", "/"))
        await trio.sleep(59)
        assert handover.connections == 1
        await trio.sleep(7)
        assert handover.connections == 0


async def test_cancelling_ends_a_connection_whose_client_does_not_read_the_last_piece(
    nursery: trio.Nursery,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": bytes(1_000_000)})

    with socket_pair() as (ours, _theirs):
        fill(ours)
        scope = trio.CancelScope()
        handover = HttpHandover(app)
        request = Client(trio.testing.memory_stream_pair()[0]).question("GET", "/")

        async def serve() -> None:
            with scope:
                await handover.serve(ours, request)

        nursery.start_soon(serve)
        await wait_all_tasks_blocked()
        assert handover.connections == 1
        scope.cancel()
        await wait_all_tasks_blocked()
        assert handover.connections == 0


@pytest.mark.parametrize("raises", [False, True])
async def test_an_application_that_does_not_read_a_large_body_leaves_no_connection(
    raises: bool, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def hasty(scope: Any, receive: Any, send: Any) -> None:
        await trio.sleep(1)  # until everything has been read that there is room for
        if raises:
            raise RuntimeError("a bug")
        await send(START)
        await send({"type": "http.response.body", "body": b"no"})

    head = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9000000\r\n\r\n"
    handover = HttpHandover(hasty)
    async with served(handover, head + bytes(2_000_000)) as (client, _):
        with trio.fail_after(3):
            answer = b"".join([bytes(data) async for data in client.stream])
    assert answer.startswith(b"HTTP/1.1 500 " if raises else b"HTTP/1.1 200 ")
    assert handover.connections == 0


async def test_after_an_exchange_the_application_receives_only_a_disconnect() -> None:
    async def ignore(message: Any) -> None: ...

    exchange = Exchange(ignore, Shields(), max_messages=2)
    body = {"type": "http.request", "body": b"a", "more_body": True}
    await exchange.put(body)
    await exchange.put(body)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange.put, body)
        await wait_all_tasks_blocked()
        await exchange.put({"type": "http.disconnect"})
    await exchange.put(body)
    assert [await exchange.receive() for _ in range(4)] == [
        body,
        body,
        {"type": "http.disconnect"},
        {"type": "http.disconnect"},
    ]


async def test_an_exchange_that_finishes_after_the_cancellation_of_its_connection_does_not_wait() -> (
    None
):
    async def stuck(message: Any) -> None:
        await trio.sleep_forever()

    shields = Shields()
    exchange = Exchange(stuck, shields, max_messages=2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange.send, None)
        await wait_all_tasks_blocked()
        shields.cancel()
    # Applications unwind in any order, so one may send its last piece later.
    await exchange.send(None)


WEBSOCKET = (
    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        WEBSOCKET,
        b"\x00\x01\r\n\r\n",
    ],
    ids=["request", "WebSocket", "garbage"],
)
async def test_an_ended_connection_leaves_no_reference_cycle(first: bytes) -> None:
    handover = HttpHandover(echo)

    async def serve_one() -> None:
        # Use real sockets, because Trio's streams in memory have reference cycles themselves.
        with socket_pair() as (ours, theirs):
            theirs.shutdown(socket.SHUT_WR)
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
            await handover.serve(stream, first)

    await serve_one()  # creates the objects that stay for good
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            await serve_one()
        await wait_all_tasks_blocked()
        # With a reference cycle, each connection would leave more than 40 objects. On some Pythons, the parser of
        # wsproto leaves a cycle of its own: 7 objects for a WebSocket, which hold nothing of the connection.
        of_wsproto = 7 * 10 if first == WEBSOCKET else 0
        assert gc.collect() < 10 + of_wsproto
    finally:
        gc.enable()


async def wait_for_disconnect(scope: Any, receive: Any, send: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class HeldBudget(WorkBudget):
    """A budget whose line does not move until the event."""

    def __init__(self) -> None:
        super().__init__()
        self.released = trio.Event()

    async def take(self, cost: int) -> bool:
        await self.released.wait()
        return True


@pytest.mark.parametrize(
    "drains", [False, True], ids=["beyond the idle timeout", "while the drain begins"]
)
async def test_a_request_that_waits_for_the_work_budget_is_answered(
    drains: bool, autojump_clock: MockClock
) -> None:
    budget = HeldBudget()
    handover = HttpHandover(echo, budget=budget)
    async with served(handover) as (client, _):
        await client.stream.send_all(client.question("GET", "/"))
        await wait_all_tasks_blocked()
        if drains:
            await handover.drain()
        await trio.sleep(2 * DEFAULT_KEEP_ALIVE_TIMEOUT)
        budget.released.set()
        assert await client.answer() == (200, b"GET /? ")


async def test_a_part_of_a_head_does_not_prolong_the_idle_timeout(
    autojump_clock: MockClock,
) -> None:
    async with served(HttpHandover(echo)) as (client, _):
        await client.ask("GET", "/")
        head = client.question("GET", "/")
        for index in range(3):
            await trio.sleep(1)
            await client.stream.send_all(head[index : index + 1])
        await everything(client)
    assert trio.current_time() == pytest.approx(DEFAULT_KEEP_ALIVE_TIMEOUT)


async def test_a_drain_closes_a_connection_that_has_sent_a_part_of_its_next_head(
    autojump_clock: MockClock,
) -> None:
    handover = HttpHandover(echo)
    async with served(handover) as (client, _):
        await client.ask("GET", "/")
        await client.stream.send_all(client.question("GET", "/")[:10])
        await wait_all_tasks_blocked()
        await handover.drain()
        await everything(client)
    assert trio.current_time() == 0
