"""Replayed messages count: for the bounds of the client's out-buffer, and for the work budget of a scheduler turn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from channels import Endpoint
from channels.durable import History
from channels.protocol.work_budget import TURN_BUDGET
from tests.channels.durable.documents import TOPIC, endpoint_of
from tests.channels.support import Client, Close, Server, settle

Serve = Callable[[Endpoint], Awaitable[Server]]


async def away(serve: Serve, missed: int, text: str = "", **options: Any) -> tuple[Server, Client]:
    """A client that asks to join again after it has missed some messages."""
    history = History(max_messages=missed, max_bytes=10**9)
    server = await serve(endpoint_of(history, **options))
    first = await server.connect()
    reply, *_ = await first.exchange(("1", "1", TOPIC, "phx_join", {}))
    position = reply[4]["response"]["_position"]
    for number in range(missed):
        history.append_nowait(TOPIC, "edited", {"number": number, "text": text})
    await settle()
    client = await server.connect()
    client.send(("1", "1", TOPIC, "phx_join", {"_position": position}))
    return server, client


def numbers(frames: list[Any]) -> list[int]:
    return [
        frame[4]["number"] for frame in frames if isinstance(frame, list) and frame[3] == "edited"
    ]


@pytest.mark.parametrize(
    "bound", [{"max_buffered_messages": 20}, {"max_buffered_bytes": 2_000}], ids=str
)
async def test_a_client_whose_missed_messages_exceed_its_out_buffer_is_closed(
    serve: Serve, bound: dict[str, int]
) -> None:
    _, client = await away(serve, 100, "x" * 50, **bound)
    await settle()
    assert Close(1013) in client.frames()


async def test_missed_messages_within_the_out_buffer_arrive(serve: Serve) -> None:
    _, client = await away(serve, 100, max_buffered_messages=200)
    await settle()
    assert numbers(client.frames()) == list(range(100))


async def test_a_long_replay_takes_several_turns_of_the_scheduler(serve: Serve) -> None:
    # Each message costs three units: one for the frame, and two for its bytes.
    server, client = await away(serve, 2_000, "x" * 128)
    waits = server.services.budget.statistics().waits
    turns: list[int] = []
    for _ in range(1_000):
        await trio.lowlevel.checkpoint()
        got = len(numbers(client.frames()))
        if got or turns:
            turns.append(got)
        if sum(turns) == 2_000:
            break
    assert sum(turns) == 2_000
    # A turn may handle twice the budget.
    assert max(turns) <= 2 * TURN_BUDGET / 3 + 1
    assert server.services.budget.statistics().waits > waits
