"""phx-events: a client for asyncio that listens. It pushes nothing, so a second connection sends for it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import websockets
from phx_events.client import PHXChannelsClient
from phx_events.phx_messages import Event, Topic
from phx_events.topic_subscription import SubscriptionStatus

from tests.clients.drivers.steps import ROOM, URL, held, run


async def send(*events: str) -> None:
    """Join the room on another connection, and push these events."""
    async with websockets.connect(f"{URL}/socket/websocket") as connection:
        for ref, event in enumerate(("phx_join", *events)):
            message = {"topic": ROOM, "event": event, "payload": {"n": ref}, "ref": str(ref)}
            await connection.send(json.dumps(message))
            await connection.recv()


async def main() -> None:
    messages: asyncio.Queue[Any] = asyncio.Queue()

    async def seen(message: Any, client: PHXChannelsClient) -> None:
        messages.put_nowait(message.payload)

    url = f"{URL}/socket/websocket"
    async with (
        PHXChannelsClient(url, event_loop=asyncio.get_running_loop()) as client,
        asyncio.TaskGroup() as tasks,
    ):
        answered = [client.register_topic_subscription(Topic(each)) for each in (ROOM, "room:deny")]
        client.register_event_handler(Event("new_msg"), [seen], Topic(ROOM))
        processing = tasks.create_task(client.start_processing())

        for each in answered:
            await each.wait()
        joined, refused = (each.result for each in client._topic_registration_status.values())
        assert joined.status == SubscriptionStatus.SUCCESS
        held("join")

        assert refused.status == SubscriptionStatus.FAILED
        assert refused.result_message.payload["response"] == {"reason": "unauthorized"}
        held("refused join")

        await send("new_msg", "new_msg")
        assert [await messages.get(), await messages.get()] == [{"n": 1}, {"n": 2}]
        held("broadcast")
        processing.cancel()


run(main)
