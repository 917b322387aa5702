"""chunnel: a client for asyncio that neither joins nor connects again by itself."""

from __future__ import annotations

import asyncio

from chunnel.channel import ChannelJoinFailure
from chunnel.socket import Socket

from tests.clients.drivers.steps import ROOM, URL, held, run


async def main() -> None:
    async with Socket(f"{URL}/socket/websocket", {}) as socket:
        held("connect")

        ann = socket.channel(ROOM, {})
        assert await ann.join() == {}
        welcome = await socket.channel("room:withreply", {"name": "ann"}).join()
        assert welcome == {"hello": "world", "params": {"name": "ann"}}
        held("join")

        try:
            await socket.channel("room:deny", {}).join()
        except ChannelJoinFailure:
            held("refused join")

        sent = await ann.push("echo", {"text": "grüße"})
        assert await sent.response() == {"text": "grüße"}
        sent = await ann.push("fail", {"n": 1})
        failures = await asyncio.gather(sent.response(), return_exceptions=True)
        assert [str(each) for each in failures] == ["Response not ok!"]
        held("reply")

        for event, expected in (("push", "pushed"), ("new_msg", "new_msg")):
            await ann.push(event, {"n": 1})
            message = await ann.receive()
            assert (message.event, message.payload) == (expected, {"n": 1})
        held("broadcast")

        await ann.push("boom", {})
        assert (await ann.receive()).event == "phx_error"
        await ann.join()
        held("crash")

        await ann.leave()
        assert (await ann.receive()).event == "phx_close"
        held("leave")

    async with Socket(f"{URL}/beating/websocket", {}) as socket:
        heart = socket.channel("phoenix", {})
        for _ in range(5):
            await (await heart.push("heartbeat", {})).response()
            await asyncio.sleep(1)
        await socket.channel(ROOM, {}).join()
        held("heartbeat")


run(main)
