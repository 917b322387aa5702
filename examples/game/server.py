"""The server of the game: an entity for each room, and a channel for each player."""

from __future__ import annotations

import math
import re
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

from attrs import frozen
from msgspec import Meta, Struct

import actors
from channels import Channel, Endpoint, JoinRefused, Socket, handle_in
from channels.entities import Entity, EntityBusy, EntitySupervisor, ProcessAddress
from examples.phoenix_js import shared_folders

from .rules import Board, Direction, Player

SECONDS_AWAY = 30.0  # after this time, a player without a channel leaves the board


class Enter(Struct, tag=True, frozen=True):
    """A player joins with a channel, on any node. The answer is False if the room is full."""

    player: str
    name: str
    channel: ProcessAddress


class Move(Struct, tag=True, frozen=True):
    """A player walks."""

    player: str
    direction: Direction


class Tell(Struct, tag=True, frozen=True):
    """Send the board to all players."""


class Game(Struct):
    """The game of a room that moves to another node."""

    players: dict[str, Player]
    coins: set[tuple[int, int]]
    channels: dict[str, ProcessAddress]


class Room(Entity):
    """One room with its game: one process in the whole cluster, which stops when the last player has left.

    If the process crashes, the next message starts it with a new board.
    """

    requests = Enter | Move | Tell
    answers = bool
    handoff = Game

    async def init(self, key: str, state: Game | None = None) -> None:
        self.topic = f"game:{key}"
        game = Game({}, set(), {}) if state is None else state
        self.board = Board(actors.current_runtime().random, game.players, game.coins)
        self.channels: dict[str, ProcessAddress] = {}
        self.refs: dict[str, actors.Ref] = {}  # the monitor of each player's channel
        for player, channel in game.channels.items():
            self.follow(player, channel)

    async def handle_handoff(self) -> Game:
        return Game(self.board.players, self.board.coins, self.channels)

    async def handle_call(self, request: Enter, sender: actors.Sender) -> actors.Reply:
        entered = self.board.enter(request.player, request.name)
        if entered:
            self.follow(request.player, request.channel)
        return actors.Reply(entered)

    async def handle_cast(self, message: Move | Tell) -> None:
        # An older tab of a player may still send moves after the player has left with a newer tab.
        if isinstance(message, Move) and message.player in self.board.players:
            self.board.move(message.player, message.direction)
        self.tell()

    async def handle_info(self, message: Any) -> actors.Stop | None:
        match message:
            case actors.Down(ref=ref):
                for player in [each for each, its in self.refs.items() if its == ref]:
                    self.board.players[player].here = False
                    actors.send_after(actors.current_pid(), ("forget", player, ref), SECONDS_AWAY)
            case ("forget", player, ref) if self.refs.get(player) == ref:
                del self.refs[player], self.channels[player], self.board.players[player]
                if not self.refs:
                    return actors.Stop()
        self.tell()
        return None

    def follow(self, player: str, channel: ProcessAddress) -> None:
        """Monitor the channel of a player. The end of an older channel must not mark the player as away."""
        if (old := self.refs.get(player)) is not None:
            actors.demonitor(old, flush=True)
        self.refs[player], self.channels[player] = actors.monitor(channel), channel

    def tell(self) -> None:
        """Send the board to all players in the room."""
        endpoint.broadcast(self.topic, "board", self.board.to_json())


# A room with players may wait for their next move for any time.
rooms = EntitySupervisor("rooms", Room, idle_timeout=math.inf, max_entities=1000)


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
    """One player in one room, which may live on another node. The room keeps the player's place and coins."""

    async def join(self, topic: str, payload: Guest) -> dict[str, Any]:
        name = re.fullmatch(r"game:([a-z0-9-]{1,20})", topic)
        if name is None:
            raise JoinRefused({"reason": "invalid room"})
        self.room, me = rooms.via(name[1]), actors.current_pid()
        # Anyone who knows the id can play as this player. So the other players get only its hash.
        self.player = sha256(payload.id.encode()).hexdigest()[:12]
        try:
            entered = await actors.call(self.room, Enter(self.player, payload.name, me))
        except EntityBusy:
            raise JoinRefused({"reason": "too many rooms"}) from None
        if not entered:
            raise JoinRefused({"reason": "the room is full"})
        actors.monitor(self.room)
        place = await rooms.where(name[1])
        game = "unknown" if place is None else f"{place.pid.number} on {place.node}"
        actors.send(me, "after join")
        return {"player": self.player, "channel": me.number, "game": game}

    async def handle_info(self, message: Any) -> actors.Stop | None:
        if message != "after join":
            # The process of the room has ended. The client joins again, and gets the new game of the room.
            return actors.Stop("the game has ended")
        actors.cast(self.room, Tell())
        return None

    @handle_in("move")
    async def move(self, payload: Step) -> None:
        actors.cast(self.room, Move(self.player, payload.direction))

    @handle_in("crash")
    async def crash(self, payload: Any) -> None:
        raise RuntimeError("the player pressed the crash button")


class GameSocket(Socket):
    """The socket of a player."""

    channels = {"game:*": GameChannel}
    max_messages_per_second = 10.0


endpoint = Endpoint(
    sockets={"/socket": GameSocket},
    static=shared_folders(Path(__file__).parent),
    children=[rooms],
)
