"""Requests and frames of HTTP clients are handled in pieces, and other clients are served in between.

The tests count turns of the scheduler, not seconds. Other clients run once in each turn.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import priority.priority
import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from channels import Endpoint, LongPoll, Mount
from channels.http.handover import HttpHandover
from channels.http.hypercorn_server import FrameGroups
from channels.protocol.work_budget import TURN_BUDGET, WorkBudget
from tests.channels.conftest import Serve
from tests.channels.protocol.test_work_budget import Turns
from tests.channels.rooms import UserSocket
from tests.channels.transports.frames import CONTINUATION, PING, PONG, TEXT, client_frame
from tests.channels.transports.http_client import Client, echo, served

READ = 64 * 1024
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
UPGRADE = {
    "connection": "upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    header = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
    return header + payload


HEADERS, PRIORITY, RESET, SETTINGS, PING_FRAME, WINDOW_UPDATE, CONTINUED = 1, 2, 3, 4, 6, 8, 9
GET = b"\x82\x84\x86\x01\x04test"


@pytest.fixture
async def turns() -> AsyncIterator[Turns]:
    counter = Turns()
    trio.lowlevel.add_instrument(counter)
    yield counter
    trio.lowlevel.remove_instrument(counter)


FLOODS = {
    "settings": frame(SETTINGS),
    "pings": frame(PING_FRAME, bytes(8)),
    "window updates": frame(WINDOW_UPDATE, b"\0\0\0\1"),
    "unknown frames": frame(0x20),
    "priorities": frame(PRIORITY, b"\x80\0\0\0\x0f", stream=1),
}


@pytest.mark.parametrize("kind", FLOODS)
async def test_a_read_full_of_http2_frames_takes_many_turns(kind: str) -> None:
    flood, budget = FLOODS[kind], WorkBudget()
    count = READ // len(flood)
    last = frame(PING_FRAME, b"the last")
    handover = HttpHandover(echo, http2=True, budget=budget)
    async with served(handover, PREFACE + frame(SETTINGS)) as (client, _):
        await client.stream.send_all(flood * count + last)
        answer = b""
        while b"the last" not in answer:
            answer += await client.stream.receive_some()
        # Each frame costs two units. The first budget was there already.
        assert budget.statistics().waits >= 2 * count / TURN_BUDGET - 1
        await client.stream.aclose()


async def test_priorities_of_http2_streams_do_no_work_in_the_tree_of_priorities(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moved: list[priority.priority.Stream] = []
    add_child = priority.priority.Stream.add_child

    def counted(parent: Any, child: Any) -> None:
        moved.append(child)
        add_child(parent, child)

    monkeypatch.setattr(priority.priority.Stream, "add_child", counted)
    last_of_all = b"\x80\0\0\0\x0f"
    requests = range(1, 21, 2)
    flood = b"".join(
        [
            *(frame(PRIORITY, bytes(4) + b"\x0f", stream=101 + 2 * each) for each in range(850)),
            *(frame(PRIORITY, last_of_all, stream=101 + 2 * (each % 850)) for each in range(2000)),
            # The flags: the headers end, the request ends, and the frame contains a priority.
            *(frame(HEADERS, last_of_all + GET, flags=0x25, stream=each) for each in requests),
        ]
    )
    answered: set[int | None] = set()
    connection = h2.connection.H2Connection()
    connection.initiate_connection()
    for number in requests:
        connection.send_headers(
            number,
            [(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "test")],
            end_stream=True,
        )
    async with served(HttpHandover(echo, http2=True), PREFACE + frame(SETTINGS) + flood) as (
        client,
        _,
    ):
        with trio.fail_after(60):
            while answered != set(requests):
                data = bytes(await client.stream.receive_some())
                for event in connection.receive_data(data):
                    if isinstance(event, h2.events.StreamEnded):
                        answered.add(event.stream_id)
        await client.stream.aclose()
    # The tree contains each request once, below its root.
    assert len(moved) == len(requests)


async def test_requests_that_are_reset_at_once_take_many_turns(turns: Turns) -> None:
    started: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        started.append(turns.count)
        await echo(scope, receive, send)

    flood = b"".join(
        frame(HEADERS, GET, flags=5, stream=number) + frame(RESET, bytes(4), stream=number)
        for number in range(1, 801, 2)
    )
    async with served(HttpHandover(app, http2=True), PREFACE + frame(SETTINGS) + flood) as (
        client,
        _,
    ):
        await wait_all_tasks_blocked()
        assert len(started) == 400
        assert max(map(started.count, started)) <= 2 * TURN_BUDGET / 48 + 1
        await client.stream.aclose()


WEBSOCKET_FLOODS = {
    "pongs": client_frame(PONG, b""),
    "pings": client_frame(PING, b""),
    "fragments": client_frame(CONTINUATION, b"x", fin=False),
}


async def websocket(scope: Any, receive: Any, send: Any) -> None:
    """Answer each message with its length."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": f"{len(message['text'])} characters"})


@pytest.mark.parametrize("kind", WEBSOCKET_FLOODS)
async def test_a_read_full_of_frames_of_a_websocket_that_hypercorn_serves_takes_many_turns(
    kind: str,
) -> None:
    flood, budget = WEBSOCKET_FLOODS[kind], WorkBudget()
    data = flood * (READ // len(flood))
    last = client_frame(TEXT, b"ab")
    if kind == "fragments":
        data, last = client_frame(TEXT, b"x", fin=False) + data, client_frame(CONTINUATION, b"x")
    async with served(HttpHandover(websocket, budget=budget)) as (client, _):
        await client.stream.send_all(client.question("GET", "/", headers=UPGRADE))
        assert bytes(await client.stream.receive_some()).startswith(b"HTTP/1.1 101 ")
        await client.stream.send_all(data + last)
        answer = b""
        while b"characters" not in answer:
            answer += await client.stream.receive_some()
        assert budget.statistics().waits >= len(data) / 8 / TURN_BUDGET - 1
        await client.stream.aclose()


async def test_an_http2_websocket_gets_its_bytes_in_pieces() -> None:
    budget = WorkBudget()
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    connection.initiate_connection()
    fields = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "test"),
        ("sec-websocket-version", "13"),
    ]
    connection.send_headers(1, fields)
    handover = HttpHandover(websocket, http2=True, budget=budget)
    async with served(handover, connection.data_to_send()) as (client, _):
        await wait_all_tasks_blocked()
        for _ in range(3):
            connection.send_data(1, client_frame(PONG, b"") * 2500)
        connection.send_data(1, client_frame(TEXT, b"ab"))
        await client.stream.send_all(connection.data_to_send())
        answer = b""
        while b"2 characters" not in answer:
            answer += await client.stream.receive_some()
        assert budget.statistics().waits >= 3 * 2500 * 6 / 8 / TURN_BUDGET - 1
        await client.stream.aclose()


async def test_requests_of_many_connections_start_in_many_turns(
    turns: Turns, nursery: trio.Nursery
) -> None:
    started: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        started.append(turns.count)
        await echo(scope, receive, send)

    handover = HttpHandover(app)
    clients, arriving = [], []
    for _ in range(200):
        ours, theirs = memory_stream_pair()
        nursery.start_soon(handover.serve, ours, b"")
        client = Client(theirs)
        clients.append(client)
        arriving.append((ours, client.question("GET", "/")))
    await wait_all_tasks_blocked()
    for ours, request in arriving:
        ours.receive_stream.put_data(request)
    for client in clients:
        assert (await client.answer())[0] == 200
        await client.stream.aclose()
    assert len(started) == 200
    assert max(map(started.count, started)) <= 2 * TURN_BUDGET / 48 + 1


async def test_polls_whose_windows_end_together_are_answered_in_many_turns(
    serve: Serve, autojump_clock: MockClock
) -> None:
    mount = Mount(UserSocket, longpoll=LongPoll(window=10))
    server = await serve(Endpoint(sockets={"/socket": mount}))
    clients = [await server.accept() for _ in range(120)]
    head = "GET /socket/longpoll?vsn=2.0.0{} HTTP/1.1\r\nhost: test\r\n\r\n"
    for client in clients:
        client.write(head.format("").encode())
    await wait_all_tasks_blocked()
    for client in clients:
        client._read()
        token = bytes(client._reader.data).partition(b'"token":"')[2].partition(b'"')[0]
        client._reader.data = b""
        client.write(head.format(f"&token={token.decode()}").encode())
    await wait_all_tasks_blocked()
    await trio.sleep(10)
    waiting, by_turn = clients, []
    while waiting:
        await trio.lowlevel.checkpoint()
        for client in waiting:
            client._read()
        before, waiting = waiting, [client for client in waiting if not client._reader.data]
        by_turn.append(len(before) - len(waiting))
    assert sum(by_turn) == 120
    assert max(by_turn) <= 2 * TURN_BUDGET / 24 + 1


# The groups of frames


def test_groups_contain_whole_frames_and_all_bytes() -> None:
    data = PREFACE + b"".join(frame(SETTINGS, bytes(6 * (n % 5))) for n in range(500))
    for size in (1, 7, 100, len(data)):
        groups = FrameGroups(max_frame_size=16384)
        found = [
            group
            for start in range(0, len(data), size)
            for group, _ in groups.feed(data[start : start + size])
        ]
        assert b"".join(found) == data
    assert max(cost for _, cost in FrameGroups(max_frame_size=16384).feed(data)) <= 65


def test_a_frame_that_is_too_large_is_refused_before_it_has_arrived() -> None:
    groups = FrameGroups(max_frame_size=16384)
    with pytest.raises(h2.exceptions.FrameTooLargeError, match="16385"):
        list(groups.feed(PREFACE + (16385).to_bytes(3, "big") + bytes(6)))


def test_headers_that_are_too_large_are_refused_before_they_are_decoded() -> None:
    groups = FrameGroups(max_frame_size=16384)
    list(groups.feed(PREFACE + frame(HEADERS, bytes(10_000), stream=1)))
    with pytest.raises(h2.exceptions.DenialOfServiceError, match="16384"):
        list(groups.feed(frame(CONTINUED, bytes(10_000), stream=1)))


@pytest.mark.parametrize(
    "sent",
    [
        (16385).to_bytes(3, "big") + bytes(6),
        frame(HEADERS, bytes(10_000), stream=1) + frame(CONTINUED, bytes(10_000), stream=1),
    ],
    ids=["a frame", "headers"],
)
async def test_a_client_whose_input_is_too_large_is_disconnected_and_counted(sent: bytes) -> None:
    handover = HttpHandover(echo, http2=True)
    counts: list[tuple[str, ...]] = []
    handover.count = counts.append
    async with served(handover, PREFACE + frame(SETTINGS) + sent) as (client, _):
        with trio.fail_after(5):
            async for _data in client.stream:
                pass
    assert counts == [("http", "unreadable")]
    assert handover.connections == 0
