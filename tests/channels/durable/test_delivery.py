"""The same failures, for plain and for durable messages to the same client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from actors import kill
from channels import Endpoint
from channels.client import ClientChannel, RetryTable, open_socket
from channels.durable import History
from tests.channels.client.world import URL, World, until
from tests.channels.durable.documents import TOPIC, endpoint_of
from tests.channels.support import Server

SOON = RetryTable(steps=(), then=0.1)

Failure = Callable[[World, Endpoint], None]


def connection_lost(world: World, endpoint: Endpoint) -> None:
    world.cut()


def channel_crashed(world: World, endpoint: Endpoint) -> None:
    kill(*endpoint.pubsub.subscribers(TOPIC))


def too_slow(world: World, endpoint: Endpoint) -> None:
    """Send more at once than the out-buffer of a client holds."""
    for number in range(100):
        endpoint.broadcast(TOPIC, "plain", {"number": number})


@pytest.mark.parametrize(
    ("failure", "reconnects"), [(connection_lost, True), (channel_crashed, False), (too_slow, True)]
)
async def test_a_failure_loses_plain_messages_and_no_durable_one(
    serve: Callable[[Endpoint], Awaitable[Server]], failure: Failure, reconnects: bool
) -> None:
    history = History()
    endpoint = endpoint_of(history, max_buffered_messages=50)
    world = World(await serve(endpoint))
    got: dict[str, list[Any]] = {"edited": [], "plain": []}

    async def read(channel: ClientChannel) -> None:
        async for message in channel:
            if message.event in got:
                got[message.event].append(message.payload["number"])

    def send(number: int) -> None:
        endpoint.broadcast(TOPIC, "plain", {"number": number})
        history.append_nowait(TOPIC, "edited", {"number": number})

    async with (
        trio.open_nursery() as nursery,
        open_socket(URL, connect=world.connect, reconnect=SOON, rejoin=SOON) as socket,
        socket.channel(TOPIC, durable=True) as channel,
    ):
        nursery.start_soon(read, channel)
        send(1001)
        await until(lambda: got == {"edited": [1001], "plain": [1001]})
        failure(world, endpoint)
        # Some while the client is connected, although it gets no more, and some while it is away.
        send(1002)
        await until(lambda: channel.state == "errored")
        send(1003)
        await until(lambda: channel.state == "joined")
        send(1004)
        await until(lambda: got["edited"][-1] == 1004)
        nursery.cancel_scope.cancel()
    assert got["edited"] == [1001, 1002, 1003, 1004]
    assert 1003 not in got["plain"]
    assert got["plain"][-1] == 1004
    assert len(world.attempts) == 1 + reconnects
