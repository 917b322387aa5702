"""Durable topics and `channels.client`: under lost connections and crashes, every message arrives once, in order."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from actors import kill
from actors.errors import InvalidOption
from channels import Endpoint
from channels.client import PushTimeout, RetryTable, open_socket
from channels.client.records import PositionTracker
from channels.durable import History, MemoryStorage
from tests.channels.client.world import URL, World, until
from tests.channels.durable.documents import TOPIC, endpoint_of
from tests.channels.support import Server

SOON = RetryTable(steps=(), then=0.1)


async def test_a_client_gets_what_it_missed_while_its_connection_was_lost(
    serve: Callable[[Endpoint], Awaitable[Server]],
) -> None:
    history = History()
    world = World(await serve(endpoint_of(history)))
    async with (
        open_socket(URL, connect=world.connect) as socket,
        socket.channel(TOPIC, durable=True) as channel,
    ):
        edits = channel.on("edited")
        await history.append(TOPIC, "edited", {"text": "a"})
        assert (await anext(edits))["text"] == "a"
        world.cut()
        await until(lambda: channel.state == "errored")
        await history.append(TOPIC, "edited", {"text": "b"})
        assert (await anext(edits))["text"] == "b"
        assert channel.response["_recovered"] is True


async def test_params_that_are_no_dict_have_no_room_for_a_position() -> None:
    with pytest.raises(InvalidOption) as refused:
        PositionTracker(lambda: [1], lambda: 0.5).params()
    assert refused.value.option == "params"


class SlowAppends(MemoryStorage):
    """A storage that takes half a second to append."""

    async def append(self, *args: Any, **options: Any) -> Any:
        await trio.sleep(0.5)
        return await super().append(*args, **options)


async def test_a_push_whose_answer_was_lost_is_sent_again_and_handled_once(
    serve: Callable[[Endpoint], Awaitable[Server]],
) -> None:
    history = History(SlowAppends())
    world = World(await serve(endpoint_of(history)))
    async with (
        open_socket(URL, connect=world.connect, reconnect=SOON, rejoin=SOON) as socket,
        socket.channel(TOPIC, durable=True) as channel,
    ):
        push = channel.push_nowait("edit", {"text": "a"})
        await until(lambda: history.statistics()["handling"] == 1)
        world.cut()
        answer = await push.wait()
        assert answer["position"].endswith(":1")
        assert history.statistics()["repeated"] == 1
        assert history.statistics()["appended"] == 1


async def test_a_push_that_crashes_its_channel_again_and_again_ends_with_its_timeout(
    serve: Callable[[Endpoint], Awaitable[Server]],
) -> None:
    history = History()
    server = await serve(endpoint_of(history))
    crashes = server.crashes()
    async with (
        open_socket(URL, connect=World(server).connect, reconnect=SOON, rejoin=SOON) as socket,
        socket.channel(TOPIC, durable=True) as channel,
    ):
        begin = trio.current_time()
        with pytest.raises(PushTimeout):
            await channel.push("unknown", {}, timeout=2)
        assert trio.current_time() == pytest.approx(begin + 2)
        assert len(crashes) > 1
        await channel.push("edit", {"text": "a"})


@pytest.mark.parametrize("seed", range(20))
async def test_every_message_arrives_once_and_in_order_whatever_is_lost(
    serve: Callable[[Endpoint], Awaitable[Server]], seed: int
) -> None:
    chance = random.Random(seed)
    history = History(max_messages=1000)
    endpoint = endpoint_of(history)
    world = World(await serve(endpoint))
    got: list[list[int]] = [[], [], []]
    sent = 0

    async def read(numbers: list[int], *, task_status: Any) -> None:
        async with (
            open_socket(URL, connect=world.connect, reconnect=SOON, rejoin=SOON) as socket,
            socket.channel(TOPIC, durable=True) as channel,
        ):
            task_status.started()
            async for message in channel:
                if message.event == "edited":
                    numbers.append(message.payload["number"])  # noqa: PERF401 - one by one, as they come

    async with trio.open_nursery() as nursery:
        for numbers in got:
            await nursery.start(read, numbers)
        for _ in range(100):
            match chance.choice(["append", "append", "cut", "kill", "wait"]):
                case "append":
                    for _ in range(chance.randint(1, 3)):
                        sent += 1
                        history.append_nowait(TOPIC, "edited", {"number": sent})
                case "cut":
                    world.cut()
                case "kill":
                    channels = endpoint.pubsub.subscribers(TOPIC)
                    if channels:
                        kill(chance.choice(channels))
                case "wait":
                    await trio.sleep(chance.uniform(0, 0.3))
        await until(lambda: all(len(numbers) >= sent for numbers in got))
        nursery.cancel_scope.cancel()
    assert got == [list(range(1, sent + 1))] * 3
    assert history.statistics()["replayed"] > 0
