"""The server of the game. The channel of each player finds the process of the player's room."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from attrs import frozen
from msgspec import Meta

from actors import Stop, call, cast, current_pid, monitor, send
from channels import Channel, Endpoint, JoinRefused, Socket, handle_in
from examples.phoenix_js import shared_folders
from supervision import MaxChildren

from .room import Enter, Move, find_room
from .rules import Direction, public_id


@frozen
class Guest:
    """The payload of a join: the secret id of a browser tab, the same at each join, and the name of the player."""

    id: Annotated[str, Meta(min_length=8, max_length=40)]
    name: Annotated[str, Meta(min_length=1, max_length=16)]


@frozen
class Step:
    """The payload of `move`."""

    direction: Direction


class GameChannel(Channel):
    """One player in one room. The process of the room keeps the player's place and coins."""

    async def join(self, topic: str, payload: Guest) -> dict[str, Any]:
        name = topic.removeprefix("game:")
        if not re.fullmatch(r"[a-z0-9-]{1,20}", name):
            raise JoinRefused({"reason": "invalid room"})
        try:
            self.room = await find_room(name, tell)
        except MaxChildren:
            raise JoinRefused({"reason": "too many rooms"}) from None
        monitor(self.room)
        if not await call(self.room, Enter(payload.id, payload.name, current_pid())):
            raise JoinRefused({"reason": "the room is full"})
        self.player = payload.id
        send(current_pid(), "after join")
        return {
            "player": public_id(payload.id),
            "channel": current_pid().number,
            "game": self.room.number,
        }

    async def handle_info(self, message: Any) -> Stop | None:
        if message == "after join":
            cast(self.room, "tell")
            return None
        # The process of the room has ended. The client joins again, and gets the new game of the room.
        return Stop("the game has ended")

    @handle_in("move")
    async def move(self, payload: Step) -> None:
        cast(self.room, Move(self.player, payload.direction))

    @handle_in("crash")
    async def crash(self, payload: Any) -> None:
        raise RuntimeError("the player pressed the crash button")


class GameSocket(Socket):
    """The socket of a player."""

    channels = {"game:*": GameChannel}
    max_messages_per_second = 10.0


def tell(room: str, board: dict[str, Any]) -> None:
    """Send the board of a room to all players in the room."""
    endpoint.broadcast(f"game:{room}", "board", board)


endpoint = Endpoint(sockets={"/socket": GameSocket}, static=shared_folders(Path(__file__).parent))
