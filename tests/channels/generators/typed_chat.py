"""An endpoint whose channels declare their types, for the tests of `ashtree gen types`."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, Literal

from attrs import field, frozen
from msgspec import Meta

from channels import Binary, Channel, Endpoint, Mount, PushReply, Socket, handle_in


class Mood(Enum):
    GOOD = "good"
    BAD = "bad"


@frozen
class Credentials:
    """The name that a user chose."""

    name: str
    color: Annotated[str, Meta(description="A CSS color.")] = "black"


@frozen
class Welcome:
    users: list[str]


@frozen
class NewMessage:
    body: str
    mood: Mood = Mood.GOOD
    reply_to: int | None = None
    place: tuple[float, float] | None = None
    tags: dict[str, list[int | str]] = field(factory=dict)


@frozen
class Sent:
    id: int


@frozen
class TooLong:
    reason: Literal["too long"]
    limit: int


@frozen
class Folder:
    """A folder. */ Its comment does not end here."""

    name: str
    inside: list[Folder]


@frozen
class Refusal:
    """A class with a name that the generated file uses too."""

    at: float


class RoomChannel(Channel):
    """A room of the chat."""

    pushes = {"new_msg": NewMessage, "typing-now": None, "photo": Binary, "anything": Any}
    replies = {"new_msg": {"ok": Sent, "error": TooLong, "busy": None}, "list": list[Folder]}

    async def join(self, topic: str, payload: Credentials) -> Welcome | None:
        """Join with a name."""

    @handle_in("new_msg")
    async def new_msg(self, payload: NewMessage) -> PushReply:
        """Publish a message."""
        return PushReply(Sent(1))

    @handle_in("list", "list-again")
    async def list_folders(self, payload: Any) -> PushReply:
        return PushReply([])


class ClockChannel(Channel):
    pushes = {"tick": Refusal}
    replies = {"phx_join": {"error": TooLong}}

    async def join(self, topic: str, payload: Any) -> None:
        pass


class OpenChannel(Channel):
    async def handle_in(self, event: str, payload: Any) -> None:
        pass


class UserSocket(Socket):
    """The socket of a browser tab."""

    channels = {"room:`lobby`": RoomChannel, "room:*": RoomChannel, "clock": ClockChannel}


class OpenSocket(Socket):
    channels = {"*": OpenChannel}


endpoint = Endpoint(
    sockets={
        "/socket": UserSocket,
        "/poll": Mount(UserSocket, websocket=False, longpoll=True),
        "/open": OpenSocket,
    }
)
