"""The rules of the game, without processes: players walk on a board, and collect coins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random
from types import MappingProxyType
from typing import Any, Literal

from attrs import asdict, define

WIDTH, HEIGHT, COINS, MAX_PLAYERS = 10, 6, 4, 8

Direction = Literal["up", "down", "left", "right"]
_STEPS = {"up": (0, -1), "down": (0, 1), "left": (-1, 0), "right": (1, 0)}


@define
class Player:
    """A player on the board. `here` is False while the player has no channel."""

    name: str
    x: int
    y: int
    coins: int = 0
    here: bool = True


class Board:
    """The players by their ids, and the places of the coins."""

    def __init__(
        self,
        random: Random,
        players: Mapping[str, Player] = MappingProxyType({}),
        coins: Iterable[tuple[int, int]] = (),
    ) -> None:
        self.random = random
        self.players = dict(players)
        self.coins = set(coins)
        self.refill()

    def enter(self, id: str, name: str) -> bool:
        """Add a player, and return False if the board is full. A player who returns keeps the place and the coins."""
        known = self.players.get(id)
        if known is not None:
            known.name, known.here = name, True
        elif len(self.players) < MAX_PLAYERS:
            self.players[id] = Player(name, *self.random.choice(self.free()))
        return id in self.players

    def move(self, id: str, direction: Direction) -> None:
        """Move a player by one step, but not off the board or onto another player."""
        player, (right, down) = self.players[id], _STEPS[direction]
        place = (player.x + right, player.y + down)
        if place in self.coins or place in self.free():
            player.x, player.y = place
            player.coins += place in self.coins
            self.coins.discard(place)
            self.refill()

    def free(self) -> list[tuple[int, int]]:
        """Return the places without a player and without a coin."""
        taken = self.coins | {(each.x, each.y) for each in self.players.values()}
        return [(x, y) for y in range(HEIGHT) for x in range(WIDTH) if (x, y) not in taken]

    def refill(self) -> None:
        """Put a new coin on the board for each coin that a player has taken."""
        self.coins.update(self.random.sample(self.free(), COINS - len(self.coins)))

    def to_json(self) -> dict[str, Any]:
        """Return the board in the form that the pages expect."""
        players = [{"id": id, **asdict(each)} for id, each in self.players.items()]
        return {"width": WIDTH, "height": HEIGHT, "players": players, "coins": sorted(self.coins)}
