"""The server of the news: the desk, which keeps the latest stories, and the channels of publishers and readers.

A publisher is a client with a token. A reader needs no token. The desk is one process, so all readers get the stories
in the same order.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Annotated, Any, Literal

from attrs import asdict, frozen
from msgspec import Meta

from actors import GenServer, Reply, Sender, call, current_pid, send
from channels import (
    Channel,
    ConnectInfo,
    Endpoint,
    JoinRefused,
    Mount,
    PushReply,
    Socket,
    handle_in,
    handle_out,
    verify,
)
from examples.one_worker import check_one_worker
from examples.phoenix_js import shared_folders
from supervision import child_spec

# Without this environment variable, the secret is random, so no publisher can make a valid token.
SECRET = os.environ.get("SECRET_KEY_BASE") or secrets.token_urlsafe(48)
ONE_DAY = 24 * 60 * 60

Section = Literal["world", "science", "sport"]


@frozen
class Story:
    """The payload of `publish`: a headline, and its section of the news."""

    section: Section
    headline: Annotated[str, Meta(min_length=1, max_length=200)]


@frozen
class Sections:
    """The payload of a reader's join and of `choose`: the sections that the reader wants."""

    sections: frozenset[Section]


class Desk(GenServer[tuple[dict[str, Any], ...]]):
    """The process that numbers each story, sends it to the readers, and keeps the latest twenty for new readers."""

    async def init(self) -> None:
        self.state = ()
        self.number = 0

    async def handle_call(self, request: Story | Literal["latest"], sender: Sender) -> Reply:
        if request == "latest":
            return Reply(self.state)
        self.number += 1
        story = {"number": self.number, **asdict(request)}
        self.state = (*self.state, story)[-20:]
        endpoint.broadcast("news", "story", story)
        return Reply(self.number)


class NewsroomChannel(Channel):
    """The channel of a publisher."""

    async def join(self, topic: str, payload: Any) -> None:
        if "publisher" not in self.assigns:
            raise JoinRefused({"reason": "unauthorized"})

    @handle_in("publish")
    async def publish(self, payload: Story) -> PushReply:
        return PushReply({"number": await call("desk", payload)})


class NewsChannel(Channel):
    """The channel of a reader, which keeps the sections that the reader wants."""

    async def join(self, topic: str, payload: Sections) -> None:
        self.sections = payload.sections
        send(current_pid(), "after join")

    async def handle_info(self, message: Any) -> None:
        await self.push_stories()

    @handle_in("choose")
    async def choose(self, payload: Sections) -> None:
        self.sections = payload.sections
        await self.push_stories()

    @handle_out("story")
    async def story(self, payload: Any) -> None:
        # This runs once for each reader and story, so it must be cheap.
        if payload["section"] in self.sections:
            self.push("story", payload)

    async def push_stories(self) -> None:
        """Push the latest stories. The page ignores a story whose number it already shows."""
        latest = await call("desk", "latest")
        stories = [story for story in latest if story["section"] in self.sections]
        self.push("latest", {"stories": stories})


class NewsSocket(Socket):
    """The socket of readers, and of publishers with a token."""

    channels = {"news": NewsChannel, "newsroom": NewsroomChannel}

    async def connect(self, params: dict[str, Any], connect_info: ConnectInfo) -> None:
        if (token := connect_info.auth_token) is not None:
            self.assigns["publisher"] = verify(SECRET, "newsroom", token, max_age=ONE_DAY)


check_one_worker("the desk of the news")
endpoint = Endpoint(
    sockets={"/socket": Mount(NewsSocket, auth_token=True)},
    static=shared_folders(Path(__file__).parent),
    children=[child_spec(Desk, kwargs={"name": "desk"})],
)
