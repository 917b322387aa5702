"""The server of the chat with tokens: the socket and the room. The log-in and its pages are in `examples/log_in.py`."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Annotated, Any

from attrs import frozen
from msgspec import Meta

from actors import current_pid, send
from channels import (
    Channel,
    ConnectInfo,
    Endpoint,
    JoinRefused,
    Mount,
    Socket,
    handle_in,
    handle_out,
    verify,
)
from examples.log_in import TWO_WEEKS, log_in_pages
from examples.phoenix_js import shared_folders

# Without this environment variable, each start has a new secret, so the users must log in again.
SECRET = os.environ.get("SECRET_KEY_BASE") or secrets.token_urlsafe(48)
FOLDER = Path(__file__).parent

# The room


@frozen
class Message:
    """The payload of `new_msg`: the text of a message."""

    body: Annotated[str, Meta(min_length=1, max_length=500)]


@frozen
class Person:
    """The payload of `ignore`: the name of a user."""

    user: Annotated[str, Meta(min_length=1, max_length=24)]


class RoomChannel(Channel):
    """One tab in the lobby. The name of its user comes from the token, never from the page."""

    max_ignored = 100

    async def join(self, topic: str, payload: Any) -> None:
        if topic != "room:lobby":
            raise JoinRefused({"reason": "unauthorized"})
        self.ignored: set[str] = set()
        send(current_pid(), "after join")

    async def handle_info(self, message: Any) -> None:
        self.broadcast_from("user_joined", {"user": self.assigns["user"]})

    @handle_in("new_msg")
    async def new_msg(self, payload: Message) -> None:
        self.broadcast("new_msg", {"user": self.assigns["user"], "body": payload.body})

    @handle_in("ignore")
    async def ignore(self, payload: Person) -> None:
        if len(self.ignored) < self.max_ignored:
            self.ignored.add(payload.user)

    @handle_out("user_joined")
    async def user_joined(self, payload: Any) -> None:
        # This runs once for each recipient, so it must be cheap.
        if payload["user"] not in self.ignored:
            self.push("user_joined", payload)


class UserSocket(Socket):
    """The socket of a tab. It accepts only a token that the server has signed."""

    channels = {"room:*": RoomChannel}

    async def connect(self, params: dict[str, Any], connect_info: ConnectInfo) -> None:
        token = connect_info.auth_token
        self.assigns["user"] = verify(SECRET, "user socket", token, max_age=TWO_WEEKS)  # step 3

    def id(self) -> str:
        return f"user:{self.assigns['user']}"


endpoint: Endpoint = Endpoint(
    sockets={"/socket": Mount(UserSocket, auth_token=True)},
    static=shared_folders(FOLDER, page="/page"),
    http=log_in_pages(FOLDER, "chat.html", SECRET, lambda: endpoint),
)
