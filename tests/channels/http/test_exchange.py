"""An application can end its part of an exchange in any way, and the connection is closed or used again."""

from __future__ import annotations

from typing import Any

import h2.config
import h2.connection
import h2.settings
import pytest
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route
from trio.testing import MockClock, wait_all_tasks_blocked

from channels.http.exchange import Exchange
from channels.http.handover import HttpHandover, default_config
from tests.channels.transports.http_client import Client, served
from tests.channels.transports.sockets import fill, socket_pair
from tests.patience import until

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
        # Not only for writing, and without the client closing its side. A thread may have a file to close before.
        await until(lambda: not handover.connections)


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
    assert trio.current_time() == pytest.approx(default_config().keep_alive_timeout)


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


async def test_an_application_that_gives_up_while_its_last_piece_is_written_leaves_no_connection(
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


async def test_cancelling_ends_an_http2_connection_whose_client_allows_no_data(
    nursery: trio.Nursery,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": b"x"})

    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    connection.local_settings = h2.settings.Settings(
        client=True, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0}
    )
    connection.initiate_connection()
    fields = [(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "localhost")]
    connection.send_headers(1, fields, end_stream=True)
    handover = HttpHandover(app)
    ours, theirs = trio.testing.memory_stream_pair()
    scope = trio.CancelScope()

    async def serve() -> None:
        with scope:
            await handover.serve(ours, connection.data_to_send())

    nursery.start_soon(serve)
    await wait_all_tasks_blocked()
    assert handover.connections == 1
    scope.cancel()
    await wait_all_tasks_blocked()
    assert handover.connections == 0
    await theirs.aclose()


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


async def test_from_the_end_of_an_exchange_on_the_application_hears_that_its_client_has_gone() -> (
    None
):
    async def ignore(message: Any) -> None: ...

    exchange = Exchange(ignore, {}, max_messages=2)
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
