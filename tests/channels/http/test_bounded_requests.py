"""Requests of HTTP clients are handled in pieces, and other clients are served in between.

The tests count turns of the scheduler, not seconds. Other clients run once in each turn.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from channels import Endpoint, LongPoll, Mount
from channels.http.handover import HttpHandover
from channels.protocol.work_budget import TURN_BUDGET
from tests.channels.conftest import Serve
from tests.channels.protocol.test_work_budget import Turns
from tests.channels.rooms import UserSocket
from tests.channels.transports.http_client import Client, echo


@pytest.fixture
async def turns() -> AsyncIterator[Turns]:
    counter = Turns()
    trio.lowlevel.add_instrument(counter)
    yield counter
    trio.lowlevel.remove_instrument(counter)


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
