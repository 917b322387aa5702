"""The whole chat server: a room that anyone may join, and a page with a chat client.

Every browser tab in a room has its own process on the server, with an instance of `RoomChannel`. The process starts
when the tab joins, and keeps its state in attributes. When the process ends, after a leave or a crash, the state is
lost.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from actors import current_pid
from channels import Channel, Endpoint, JoinRefused, Mount, PushReply, Socket, handle_in
from examples.phoenix_js import page_folders


class RoomChannel(Channel):
    """One tab in one room, with the name of its user and a count of its messages."""

    async def join(self, topic: str, payload: Any) -> dict[str, Any]:
        if topic != "room:lobby":
            raise JoinRefused({"reason": "unauthorized"})
        self.name: str = payload["name"]
        self.count = 0
        return {"process": current_pid().number}

    @handle_in("new_msg")
    async def new_msg(self, payload: Any) -> PushReply:
        self.count += 1
        speaker = {"name": self.name, "process": current_pid().number}
        self.broadcast("new_msg", {"body": payload["body"], **speaker})
        return PushReply({"count": self.count})

    @handle_in("rename")
    async def rename(self, payload: Any) -> None:
        self.name = payload["name"]

    @handle_in("crash")
    async def crash(self, payload: Any) -> None:
        raise RuntimeError(f"{self.name} pressed the crash button")


class UserSocket(Socket):
    """The socket of a browser tab, which routes rooms to their channel."""

    channels = {"room:*": RoomChannel}


# phoenix.js falls back to polling if a proxy breaks WebSockets.
endpoint = Endpoint(
    sockets={"/socket": Mount(UserSocket, longpoll=True)},
    static=page_folders(Path(__file__).parent),
)
