"""phoenix-channels-python-client: a client for asyncio that listens, and joins and connects again by itself.

It has no method that pushes, so its own functions for messages do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from phoenix_channels_python_client import PhoenixChannelsProtocolVersion, PHXChannelsClient
from phoenix_channels_python_client.exceptions import PHXTopicError
from phoenix_channels_python_client.utils import make_message

from tests.clients.drivers.steps import ROOM, URL, WIRE, held, restart, run

VERSIONS = {
    "1.0.0": PhoenixChannelsProtocolVersion.V1,
    "2.0.0": PhoenixChannelsProtocolVersion.V2,
}


async def until(holds: Callable[[], bool]) -> None:
    # The client has no event for a join that it made by itself.
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(0.02)


async def main() -> None:
    messages: asyncio.Queue[tuple[str, str | None, Any]] = asyncio.Queue()
    reconnected = asyncio.Event()

    async def seen(message: Any) -> None:
        await messages.put((str(message.event), message.ref, message.payload))

    async def on_reconnect() -> None:
        reconnected.set()

    async def push(client: PHXChannelsClient, event: str, payload: dict[str, Any]) -> None:
        join_ref = client.get_current_subscriptions()[ROOM].join_ref
        message = make_message(event, ROOM, f"push {event}", payload, join_ref)
        await client.get_protocol_handler().send_message(client.connection, message)

    async with PHXChannelsClient(
        f"{URL}/socket/websocket", "key", protocol_version=VERSIONS[WIRE], on_reconnect=on_reconnect
    ) as client:
        held("connect")

        await client.subscribe_to_topic(ROOM, seen)
        held("join")

        refusal = None
        try:
            await client.subscribe_to_topic("room:deny")
        except PHXTopicError as error:
            refusal = error.args
        assert refusal == ("unauthorized",)
        held("refused join")

        await push(client, "echo", {"text": "grüße"})
        reply = {"status": "ok", "response": {"text": "grüße"}}
        assert await messages.get() == ("phx_reply", "push echo", reply)
        await push(client, "fail", {"n": 0})
        refused = {"status": "error", "response": {"n": 0}}
        assert await messages.get() == ("phx_reply", "push fail", refused)
        await push(client, "push", {"n": 1})
        assert await messages.get() == ("pushed", None, {"n": 1})
        held("reply")

        # With version 2.0.0, the client drops each broadcast, because a server sends it without a join_ref.
        await push(client, "new_msg", {"n": 2})
        if WIRE == "1.0.0":
            assert await messages.get() == ("new_msg", None, {"n": 2})
            held("broadcast")

        first = client.get_current_subscriptions()[ROOM].join_ref
        await push(client, "boom", {})
        await until(lambda: client.get_current_subscriptions()[ROOM].join_ref != first)
        await until(lambda: client.is_topic_joined(ROOM))
        await push(client, "push", {"n": 3})
        assert await messages.get() == ("pushed", None, {"n": 3})
        held("crash")

        restart()
        await reconnected.wait()
        await until(lambda: client.is_topic_joined(ROOM))
        await push(client, "push", {"n": 4})
        assert await messages.get() == ("pushed", None, {"n": 4})
        held("restart")

        await client.unsubscribe_from_topic(ROOM)
        await client.subscribe_to_topic(ROOM, seen)
        held("leave")

    closed: list[Exception | None] = []
    beats: list[None] = []

    async def on_disconnect(error: Exception | None) -> None:
        closed.append(error)

    async with PHXChannelsClient(
        f"{URL}/beating/websocket",
        "key",
        protocol_version=VERSIONS[WIRE],
        heartbeat_interval_s=1.0,
        on_disconnect=on_disconnect,
        on_heartbeat_ack=lambda: beats.append(None),
    ) as client:
        await asyncio.sleep(5)
        await client.subscribe_to_topic(ROOM)
        assert beats
        assert not closed
        held("heartbeat")


run(main)
