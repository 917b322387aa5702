"""The server of the game: a process for each room, and a channel for each player."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

from attrs import frozen
from msgspec import Meta

import actors
from channels import Channel, Endpoint, JoinRefused, Socket, handle_in
from examples.one_worker import check_one_worker
from examples.phoenix_js import shared_folders
from supervision import DynamicSupervisor, MaxChildren, child_spec

from .rules import Board, Direction

SECONDS_AWAY = 30.0  # after this time, a player without a channel leaves the board


class Room(actors.GenServer[Board]):
    """The process of one room, with its game. The process stops when the last player has left.

    If the process crashes, its supervisor restarts it with a new board.
    """

    async def init(self, name: str) -> None:
        self.topic = f"game:{name}"
        self.state = Board(actors.current_runtime().random)
        self.refs: dict[str, actors.Ref] = {}  # the monitor of each player's channel

    async def handle_call(self, request: Any, sender: actors.Sender) -> actors.Reply:
        player, name, channel = request  # a player joins
        entered = self.state.enter(player, name)
        if entered:
            # The player has a new channel. So the end of the old channel must not mark the player as away.
            if (old := self.refs.get(player)) is not None:
                actors.demonitor(old, flush=True)
            self.refs[player] = actors.monitor(channel)
        return actors.Reply(entered)

    async def handle_cast(self, message: Any) -> None:
        # An older tab of a player may still send moves after the player has left with a newer tab.
        if message != "tell" and message[0] in self.state.players:
            self.state.move(*message)
        self.tell()

    async def handle_info(self, message: Any) -> actors.Stop | None:
        match message:
            case actors.Down(ref=ref):
                for player in [each for each, its in self.refs.items() if its == ref]:
                    self.state.players[player].here = False
                    actors.send_after(actors.current_pid(), ("forget", player, ref), SECONDS_AWAY)
            case ("forget", player, ref) if self.refs.get(player) == ref:
                del self.refs[player], self.state.players[player]
                if not self.refs:
                    return actors.Stop()
        self.tell()
        return None

    def tell(self) -> None:
        """Send the board to all players in the room."""
        endpoint.broadcast(self.topic, "board", self.state.to_json())


rooms = actors.Registry[str, None]("unique", name="rooms")


async def find_room(name: str) -> actors.Pid:
    """Return the process of a room. Start the process if it does not run."""
    found = rooms.whereis(name)
    if found is not None:
        return found
    spec = child_spec(Room, name, kwargs={"name": rooms.via(name)}, restart="transient")
    try:
        return await DynamicSupervisor.start_child("rooms", spec)
    except actors.AlreadyStarted as error:  # another player's channel has just started it
        return error.pid
    except MaxChildren:
        raise JoinRefused({"reason": "too many rooms"}) from None


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
        name = re.fullmatch(r"game:([a-z0-9-]{1,20})", topic)
        if name is None:
            raise JoinRefused({"reason": "invalid room"})
        self.room = await find_room(name[1])
        actors.monitor(self.room)
        me = actors.current_pid()
        # Anyone who knows the id can play as this player. So the other players get only its hash.
        self.player = sha256(payload.id.encode()).hexdigest()[:12]
        if not await actors.call(self.room, (self.player, payload.name, me)):
            raise JoinRefused({"reason": "the room is full"})
        actors.send(me, "after join")
        return {"player": self.player, "channel": me.number, "game": self.room.number}

    async def handle_info(self, message: Any) -> actors.Stop | None:
        if message != "after join":
            # The process of the room has ended. The client joins again, and gets the new game of the room.
            return actors.Stop("the game has ended")
        actors.cast(self.room, "tell")
        return None

    @handle_in("move")
    async def move(self, payload: Step) -> None:
        actors.cast(self.room, (self.player, payload.direction))

    @handle_in("crash")
    async def crash(self, payload: Any) -> None:
        raise RuntimeError("the player pressed the crash button")


class GameSocket(Socket):
    """The socket of a player."""

    channels = {"game:*": GameChannel}
    max_messages_per_second = 10.0


check_one_worker("the rooms of the game")
endpoint = Endpoint(
    sockets={"/socket": GameSocket},
    static=shared_folders(Path(__file__).parent),
    children=[DynamicSupervisor.child_spec(name="rooms", max_children=1000, max_restarts=100)],
)
