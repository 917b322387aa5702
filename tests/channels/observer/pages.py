"""A program with an observer, and its page as the tests read it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from actors import current_pid
from channels import Channel, Endpoint, PushReply, Socket, handle_in
from channels.observer import Observer
from channels.testing import ChannelTest, TestChannel, TestClient

PATH = "/_ashtree/observer/socket"


class RoomChannel(Channel):
    async def join(self, topic: str, payload: Any) -> dict[str, Any]:
        self.assigns["password"] = "hunter2"
        self.assigns["name"] = "zelda"
        return {"process": current_pid().number}

    @handle_in("crash")
    async def crash(self, payload: Any) -> None:
        raise RuntimeError("the crash button")

    @handle_in("say")
    async def say(self, payload: Any) -> PushReply:
        return PushReply()


class UserSocket(Socket):
    channels = {"room:*": RoomChannel}


class Page:
    """An observer page. It takes the messages of its channel in the same way as the script in a browser."""

    def __init__(
        self, case: ChannelTest, observer: Observer, channel: TestChannel, first: dict[str, Any]
    ) -> None:
        self.case = case
        self.observer = observer
        self.channel = channel
        self.rows: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = list(first["events"])
        self.first = first
        self.point: dict[str, Any] = {}

    async def tick(self) -> dict[str, Any]:
        tick = await self.channel.assert_push("tick", timeout=5)
        if tick.get("all"):
            self.rows.clear()
        for key in tick.get("gone", ()):
            del self.rows[key]
        self.rows.update({row["key"]: row for row in tick.get("set", ())})
        self.events += tick.get("events", ())
        self.point = tick.get("point", self.point)
        return dict(tick)

    async def until_row(self, title: str) -> dict[str, Any]:
        while True:
            for row in self.rows.values():
                if row["title"] == title:
                    return row
            await self.tick()

    async def until_gone(self, key: str) -> None:
        while key in self.rows:
            await self.tick()

    async def until_event(self, kind: str) -> dict[str, Any]:
        while True:
            for event in self.events:
                if event["kind"] == kind:
                    return event
            await self.tick()

    async def show(self, node: str) -> dict[str, Any]:
        """Show another node, and return the first tick with its rows."""
        await self.ask("node", {"node": node})
        while not {"all", "elsewhere"} <= (tick := await self.tick()).keys():
            pass
        return tick

    async def ask(self, event: str, payload: Any) -> Any:
        return await self.channel.receive_reply(self.channel.push(event, payload), timeout=5)


Observe = Callable[..., Awaitable[Page]]
"""The type of the fixture `observe`. Its arguments are options of the observer."""


def endpoint_with(observer: Observer) -> Endpoint:
    return Endpoint(sockets={"/socket": UserSocket}, observer=observer)


async def open_page(case: ChannelTest, observer: Observer) -> Page:
    """Open a page of an endpoint."""
    client = await case.connect(PATH, {"ticket": observer.access.ticket()})
    first, channel = await client.subscribe_and_join("observer", {})
    return Page(case, observer, channel, first)


async def enter(
    case: ChannelTest, topic: str = "room:lobby"
) -> tuple[TestClient, TestChannel, int]:
    """Join a topic. Return the client, its channel and the number of the channel's process."""
    client = await case.connect("/socket")
    answer, room = await client.subscribe_and_join(topic)
    return client, room, answer["process"]
