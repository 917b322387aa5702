"""Entities as children of an endpoint, called by channels."""

from __future__ import annotations

from typing import Any

from actors import call
from channels import Channel, Endpoint, PushReply, Socket, handle_in
from channels.entities import EntitySupervisor
from channels.pytest_plugin import OpenChannelTest
from tests.channels.entities.nodes import Counter
from tests.channels.support import settle

counters = EntitySupervisor("counters", Counter)
lasts: list[int] = []


class Room(Channel):
    async def join(self, topic: str, payload: Any) -> dict[str, Any]:
        return {"count": await call(counters.via(topic), "add")}

    @handle_in("add")
    async def add(self, payload: Any) -> PushReply:
        return PushReply({"count": await call(counters.via(self.topic), "add")})

    async def terminate(self, reason: object) -> None:
        lasts.append(await call(counters.via(self.topic), "add"))


class Rooms(Socket):
    channels = {"room:*": Room}


async def test_a_channel_calls_an_entity_from_join_to_terminate(
    channel_test: OpenChannelTest,
) -> None:
    case = await channel_test(Endpoint(sockets={"/socket": Rooms}, children=[counters]))
    client = await case.connect("/socket")
    reply, channel = await client.subscribe_and_join("room:1")
    assert reply == {"count": 1}
    await channel.assert_reply(channel.push("add"), "ok", {"count": 2})
    assert counters.statistics()["entities"] == 1
    await counters.drain()
    # Without another node, the entities serve the channels until the end.
    await channel.assert_reply(channel.leave())
    await settle()
    assert lasts == [3]
