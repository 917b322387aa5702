"""A client that sends faster than its channel handles is left unread, and nothing that it sent is lost."""

from __future__ import annotations

from typing import Any

import trio

from channels import Channel, Endpoint, Reply, Socket, handle_in
from channels._session_server import WAITING_LIMIT
from tests.channels.conftest import Serve
from tests.channels.support import Client, Server, phx_error, reply, settle

SENT = 6 * WAITING_LIMIT


class Sluggish(Channel):
    """Waits for whoever tests it before it answers anything."""

    gate = trio.Event()

    @handle_in("slow")
    async def slow(self, payload: Any) -> Reply:
        await Sluggish.gate.wait()
        return Reply(payload)

    @handle_in("crash")
    async def crash(self, payload: Any) -> None:
        await Sluggish.gate.wait()
        raise RuntimeError("crash")


class SluggishSocket(Socket):
    channels = {"slow:*": Sluggish}


async def flood(serve: Serve, event: str) -> tuple[Server, Client, list[Any]]:
    """A client that has sent very much, in small pieces, to a channel that does not move."""
    Sluggish.gate = trio.Event()
    server = await serve(Endpoint(sockets={"/socket": SluggishSocket}))
    client = await server.connect()
    await client.join("slow:a")
    pushes = [("1", str(number), "slow:a", event, {"n": number}) for number in range(SENT)]
    for begin in range(0, SENT, 128):
        client.send(*pushes[begin : begin + 128])
        await settle()
    return server, client, pushes


async def test_what_waits_for_a_slow_channel_is_bounded(serve: Serve) -> None:
    server, _, _ = await flood(serve, "slow")
    info = server.runtime.process_info(server.channel("slow:a"))
    assert info is not None
    assert WAITING_LIMIT <= info["queue_length"] < SENT / 2
    Sluggish.gate.set()


async def test_nothing_is_lost_and_all_is_answered_in_order_once_it_moves(serve: Serve) -> None:
    _, client, _ = await flood(serve, "slow")
    Sluggish.gate.set()
    await settle()
    assert client.frames() == [
        reply("1", str(number), "slow:a", {"n": number}) for number in range(SENT)
    ]


async def test_the_crash_of_the_slow_channel_lets_the_rest_be_read(serve: Serve) -> None:
    _, client, _ = await flood(serve, "crash")
    Sluggish.gate.set()
    await settle()
    frames = client.frames()
    assert frames[0] == phx_error("1", "slow:a")
    assert await client.exchange((None, "h", "phoenix", "heartbeat")) == [
        reply(None, "h", "phoenix")
    ]


async def test_a_client_that_is_not_read_is_not_closed_for_its_silence(serve: Serve) -> None:
    _, client, _ = await flood(serve, "slow")
    await trio.sleep(1000)
    Sluggish.gate.set()
    await settle()
    assert len(client.frames()) == SENT
