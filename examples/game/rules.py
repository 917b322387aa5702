"""The rules of the game, without processes: players walk on a board, and collect coins."""

from __future__ import annotations

from hashlib import sha256
from random import Random
from typing import Any, Literal

from attrs import evolve, field, frozen

WIDTH, HEIGHT, COINS, MAX_PLAYERS = 10, 6, 4, 8

Direction = Literal["up", "down", "left", "right"]
Place = tuple[int, int]

_STEPS: dict[Direction, Place] = {"up": (0, -1), "down": (0, 1), "left": (-1, 0), "right": (1, 0)}


@frozen
class Player:
    """A player on the board. `here` is False while the player has no channel."""

    name: str
    place: Place
    coins: int = 0
    here: bool = True


@frozen
class Board:
    """The players by their ids, and the places of the coins."""

    players: dict[str, Player] = field(factory=dict)
    coins: frozenset[Place] = frozenset()

    def to_json(self) -> dict[str, Any]:
        """Return the board in the form that the pages expect."""
        players = [
            {"id": public_id(id), "name": each.name, "x": each.place[0], "y": each.place[1]}
            | {"coins": each.coins, "here": each.here}
            for id, each in self.players.items()
        ]
        size = {"width": WIDTH, "height": HEIGHT}
        return {**size, "players": players, "coins": sorted(self.coins)}


def public_id(id: str) -> str:
    """Return the id of a player for other players. Whoever knows the id itself can play as this player."""
    return sha256(id.encode()).hexdigest()[:12]


def new_board(random: Random) -> Board:
    """Return a board with coins and without players."""
    return _refill(Board(), random)


def enter(board: Board, id: str, name: str, random: Random) -> Board | None:
    """Return the board with this player, or None if the board is full.

    A player who is already on the board keeps the place and the coins.
    """
    known = board.players.get(id)
    if known is not None:
        return _with_player(board, id, evolve(known, name=name, here=True))
    if len(board.players) == MAX_PLAYERS:
        return None
    return _with_player(board, id, Player(name, random.choice(_free(board))))


def away(board: Board, id: str) -> Board:
    """Return the board with a player marked as away. The player keeps the place and the coins."""
    return _with_player(board, id, evolve(board.players[id], here=False))


def leave(board: Board, id: str) -> Board:
    """Return the board without this player."""
    return evolve(board, players={key: each for key, each in board.players.items() if key != id})


def move(board: Board, id: str, direction: Direction, random: Random) -> Board:
    """Return the board after a step. A step off the board or onto another player changes nothing."""
    player = board.players[id]
    (x, y), (right, down) = player.place, _STEPS[direction]
    place = (x + right, y + down)
    if not (0 <= place[0] < WIDTH and 0 <= place[1] < HEIGHT):
        return board
    if any(other.place == place for other in board.players.values()):
        return board
    took = place in board.coins
    moved = _with_player(board, id, evolve(player, place=place, coins=player.coins + took))
    return _refill(evolve(moved, coins=moved.coins - {place}), random)


def _with_player(board: Board, id: str, player: Player) -> Board:
    return evolve(board, players={**board.players, id: player})


def _free(board: Board) -> list[Place]:
    taken = board.coins | {each.place for each in board.players.values()}
    return [(x, y) for y in range(HEIGHT) for x in range(WIDTH) if (x, y) not in taken]


def _refill(board: Board, random: Random) -> Board:
    new = random.sample(_free(board), COINS - len(board.coins))
    return evolve(board, coins=board.coins.union(new))
