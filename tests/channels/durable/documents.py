"""A document on a durable topic, as a user writes it, and the clients of its tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from channels import Endpoint, PushReply, Socket, handle_in
from channels.durable import DurableChannel, History, Recovery
from channels.testing import ChannelTest, TestChannel, TestClient

TOPIC = "document:1"

Start = Callable[[History], Awaitable[History]]
"""The type of the fixture `start`, which starts a history without an endpoint, and returns the history."""


class DocumentChannel(DurableChannel):
    async def on_recovered(self, recovery: Recovery) -> None:
        if not recovery.recovered:
            self.push("snapshot", {"reason": recovery.reason})

    @handle_in("edit")
    async def edit(self, payload: Any) -> PushReply:
        position = await self.append("edited", payload)
        return PushReply({"position": position})

    @handle_in("typing")
    async def typing(self, payload: Any) -> None:
        self.endpoint.broadcast(self.topic, "typing", payload)


def endpoint_of(history: History, **options: Any) -> Endpoint:
    """An endpoint with documents on one history."""

    class Document(DocumentChannel):
        pass

    Document.history = history

    class UserSocket(Socket):
        channels = {"document:*": Document}

    return Endpoint(sockets={"/socket": UserSocket}, histories=[history], **options)


class Reader:
    """A client as phoenix.js is one: it keeps the position of the last message, and sends it at each join."""

    def __init__(self, case: ChannelTest, topic: str = TOPIC) -> None:
        self.case = case
        self.topic = topic
        self.position: Any = None
        self.client: TestClient
        self.channel: TestChannel
        self.response: Any = None

    async def join(self) -> Any:
        self.client = await self.case.connect("/socket")
        return await self.join_again()

    async def join_again(self) -> Any:
        answer, self.channel = await self.client.join(self.topic, {"_position": self.position})
        assert answer.status == "ok", answer
        self.response = answer.response
        self.position = answer.response["_position"]
        return answer.response

    async def lose(self) -> None:
        """Lose the connection."""
        await self.client.disconnect()

    async def edit(self, text: str) -> Any:
        ref = self.channel.push("edit", {"text": text})
        return await self.channel.assert_reply(ref, "ok")

    async def heard(self, count: int) -> list[str]:
        """Take the next edits, and note their positions."""
        texts = []
        for _ in range(count):
            payload = await self.channel.assert_push("edited")
            self.position = payload["_position"]
            texts.append(payload["text"])
        return texts

    async def hears_nothing(self) -> None:
        await self.channel.refute_push("edited")


async def joined(case: ChannelTest) -> Reader:
    """Return a reader that has joined."""
    reader = Reader(case)
    await reader.join()
    return reader
