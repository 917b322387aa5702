"""The process of one room. It keeps the board, and monitors the players' channels."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from attrs import frozen

from actors import (
    AlreadyStarted,
    Down,
    GenServer,
    Pid,
    Ref,
    Registry,
    Reply,
    Sender,
    Stop,
    current_pid,
    current_runtime,
    demonitor,
    monitor,
    send_after,
)
from supervision import DynamicSupervisor, child_spec

from . import rules
from .rules import Board, Direction

SECONDS_AWAY = 30.0
"""Seconds after which a player without a channel leaves the board."""

Tell = Callable[[str, dict[str, Any]], object]


@frozen
class Enter:
    """A call: add a player, who joined with this channel. The answer is False if the board is full."""

    player: str
    name: str
    channel: Pid


@frozen
class Move:
    """A cast: move a player by one step."""

    player: str
    direction: Direction


@frozen
class Forget:
    """A message from the room to itself: remove a player who has been away for `SECONDS_AWAY`."""

    player: str
    ref: Ref


class Room(GenServer[Board]):
    """The game of one room. It stops when the last player has left.

    If the game crashes, its supervisor restarts it with a new board.
    """

    async def init(self, name: str, tell: Tell) -> None:
        self.name, self.tell = name, tell
        self.random: Random = current_runtime().random
        self.state = rules.new_board(self.random)
        self.refs: dict[str, Ref] = {}  # the monitor of each player's channel

    async def handle_call(self, request: Enter, sender: Sender) -> Reply:
        board = rules.enter(self.state, request.player, request.name, self.random)
        if board is None:
            return Reply(False)
        # The player has a new channel. So the end of the old channel must not mark the player as away.
        if (old := self.refs.get(request.player)) is not None:
            demonitor(old, flush=True)
        self.refs[request.player] = monitor(request.channel)
        self.state = board
        return Reply(True)

    async def handle_cast(self, message: Any) -> None:
        match message:
            case Move(player, direction) if player in self.state.players:
                self.state = rules.move(self.state, player, direction, self.random)
            case _:
                pass  # "tell": a new player needs the board
        self.tell_all()

    async def handle_info(self, message: Any) -> Stop | None:
        match message:
            case Down(ref=ref):
                for player in [each for each, its in self.refs.items() if its == ref]:
                    self.state = rules.away(self.state, player)
                    send_after(current_pid(), Forget(player, ref), SECONDS_AWAY)
            case Forget(player, ref) if self.refs.get(player) == ref:
                del self.refs[player]
                self.state = rules.leave(self.state, player)
                if not self.state.players:
                    return Stop()
        self.tell_all()
        return None

    def tell_all(self) -> None:
        """Send the board to all players in the room."""
        self.tell(self.name, self.state.to_json())


rooms = Registry[str, None]("unique", name="rooms")
room_supervisor = DynamicSupervisor.child_spec(
    name="room supervisor", max_children=1000, max_restarts=100
)


async def find_room(name: str, tell: Tell) -> Pid:
    """Return the process of a room. Start the process if it does not run.

    Raises:
        MaxChildren: there are already 1000 rooms.
    """
    found = rooms.whereis(name)
    if found is not None:
        return found
    spec = child_spec(Room, name, tell, kwargs={"name": rooms.via(name)}, restart="transient")
    try:
        return await DynamicSupervisor.start_child("room supervisor", spec)
    except AlreadyStarted as error:  # another player's channel has just started it
        return error.pid
