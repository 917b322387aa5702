"""Presence on a channel of a real server, which plays the part of the tracker."""

from __future__ import annotations

from typing import Any

import pytest

from channels.client.presence import PresenceView
from channels.client.presence_fold import PresenceJoin, PresenceLeave
from channels.client.socket import open_socket
from tests.channels.client.world import URL, World, broadcast, until

ANN = {"ann": {"metas": [{"phx_ref": "1", "name": "Ann"}]}}
BOB = {"bob": {"metas": [{"phx_ref": "2", "name": "Bob"}]}}


async def test_the_state_follows_the_messages_of_the_server(world: World) -> None:
    calls: list[Any] = []
    async with open_socket(URL, connect=world.connect) as socket:
        channel = socket.channel("room:a")
        presence = PresenceView(
            channel,
            on_join=calls.append,
            on_leave=calls.append,
            on_sync=lambda: calls.append("sync"),
        )
        async with channel:
            assert presence.is_pending
            changes = presence.changes()
            broadcast(world.server, "room:a", "presence_diff", {"joins": BOB, "leaves": {}})
            broadcast(world.server, "room:a", "presence_state", ANN)
            broadcast(world.server, "room:a", "presence_diff", {"joins": {}, "leaves": ANN})
            await channel.push("echo")
            assert presence.state == BOB
            assert not presence.is_pending
            assert presence.list() == [BOB["bob"]]
            assert presence.list(lambda key, one: (key, one["metas"][0]["name"])) == [
                ("bob", "Bob")
            ]
    expected = [
        PresenceJoin("ann", None, ANN["ann"]),
        PresenceJoin("bob", None, BOB["bob"]),
        PresenceLeave("ann", {"metas": []}, ANN["ann"]),
    ]
    assert calls == [*expected[:2], "sync", expected[2], "sync"]
    assert [change async for change in changes] == expected


async def test_after_a_rejoin_diffs_wait_for_the_new_state(world: World) -> None:
    async with open_socket(URL, connect=world.connect) as socket:
        channel = socket.channel("room:a")
        presence = PresenceView(channel)
        async with channel:
            broadcast(world.server, "room:a", "presence_state", ANN)
            await channel.push("echo")
            world.cut()
            await until(lambda: channel.state == "errored")
            await channel.wait_joined()
            assert presence.is_pending
            broadcast(world.server, "room:a", "presence_diff", {"joins": BOB, "leaves": {}})
            await channel.push("echo")
            assert presence.state == ANN
            with presence.changes() as changes:
                broadcast(world.server, "room:a", "presence_state", {})
                await channel.push("echo")
                assert len(changes) == 2
            assert presence.state == BOB


async def test_the_events_can_have_other_names(world: World) -> None:
    async with open_socket(URL, connect=world.connect) as socket:
        channel = socket.channel("room:a")
        presence = PresenceView(channel, state_event="here", diff_event="change")
        async with channel:
            broadcast(world.server, "room:a", "here", ANN)
            broadcast(world.server, "room:a", "change", {"joins": BOB, "leaves": ANN})
            await channel.push("echo")
            assert presence.state == BOB


async def test_a_message_that_is_no_presence_leaves_the_block_as_an_error(world: World) -> None:
    with pytest.raises((KeyError, TypeError, AttributeError)):
        async with open_socket(URL, connect=world.connect) as socket:
            channel = socket.channel("room:a")
            PresenceView(channel)
            async with channel:
                broadcast(world.server, "room:a", "presence_state", {"ann": {"no": "metas"}})
                await channel.push("echo")
                broadcast(world.server, "room:a", "presence_state", {"ann": {"no": "metas"}})
                await channel.push("echo")
