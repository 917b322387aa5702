"""Tests of the rules of the game, and of the channels and rooms."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
import trio
from attrs import evolve

from actors import kill
from channels.pytest_plugin import OpenChannelTest
from channels.testing import ChannelTest, TestChannel

from . import rules
from .rules import Board
from .server import SECONDS_AWAY, endpoint, rooms

# Rules


def board_with(seed: int, players: int) -> Board:
    board = Board(Random(seed))
    assert all(board.enter(f"player {number}", "A") for number in range(players))
    return board


@pytest.mark.parametrize("direction", ["up", "left", "down"])
def test_a_player_does_not_walk_off_the_board_or_onto_another_player(
    direction: rules.Direction,
) -> None:
    board = board_with(1, 2)
    one, other = board.players.values()
    (one.x, one.y), (other.x, other.y) = (0, 0), (0, 1)
    board.move("player 0", direction)
    assert (one.x, one.y) == (0, 0)


@pytest.mark.parametrize("seed", range(20))
def test_a_long_walk_keeps_the_number_of_coins_and_counts_each_that_is_taken(seed: int) -> None:
    board, random, taken = board_with(seed, 1), Random(seed), 0
    (player,) = board.players.values()
    for _ in range(200):
        before = set(board.coins)
        board.move("player 0", random.choice(["up", "down", "left", "right"]))
        taken += (player.x, player.y) in before
        assert len(board.coins) == rules.COINS
        assert (player.x, player.y) not in board.coins
    assert player.coins == taken > 0


def test_a_full_board_takes_only_players_that_it_knows() -> None:
    board = board_with(1, rules.MAX_PLAYERS)
    assert not board.enter("one more", "B")
    board.players["player 3"].here = False
    before = evolve(board.players["player 3"], here=True)
    assert board.enter("player 3", "A")
    assert board.players["player 3"] == before


# Channels and rooms


@pytest.fixture
async def case(channel_test: OpenChannelTest) -> ChannelTest:
    return await channel_test(endpoint)


async def play(case: ChannelTest, name: str, room: str = "lobby") -> TestChannel:
    client = await case.connect("/socket")
    _, channel = await client.subscribe_and_join(f"game:{room}", guest(name))
    return channel


def guest(name: str) -> dict[str, str]:
    return {"id": f"the tab of {name}", "name": name}


async def room_of(name: str) -> Any:
    """Return the process of a room, or None."""
    place = await rooms.where(name)
    return None if place is None else place.pid


def player(board: Any, name: str) -> Any:
    """Return the player with this name from the board of a message."""
    (found,) = [each for each in board["players"] if each["name"] == name]
    return found


async def test_all_players_of_a_room_see_each_step(case: ChannelTest) -> None:
    ann, bob, eve = [await play(case, *who) for who in (("Ann",), ("Bob",), ("Eve", "attic"))]
    await bob.assert_push("board", lambda board: len(board["players"]) == 2)
    await eve.assert_push("board", lambda board: len(board["players"]) == 1)
    for direction in ("left", "up", "right", "down"):  # at least one of these steps is possible
        ann.push("move", {"direction": direction})
        await bob.assert_push("board")
    await eve.refute_push("board")


async def test_a_player_who_crashes_comes_back_into_the_same_game(case: ChannelTest) -> None:
    ann, bob = await play(case, "Ann"), await play(case, "Bob")
    before = await bob.assert_push("board", lambda board: len(board["players"]) == 2)
    room = await room_of("lobby")
    ann.push("crash")
    await ann.assert_push("phx_error")
    await bob.refute_push("phx_error")
    await bob.assert_push("board", lambda board: not player(board, "Ann")["here"])

    await trio.sleep(SECONDS_AWAY - 1)
    _, again = await ann.client.join("game:lobby", guest("Ann"))
    assert again is not None
    assert await room_of("lobby") == room
    after = await again.assert_push("board", lambda board: player(board, "Ann")["here"])
    assert player(after, "Ann") == player(before, "Ann")

    # The timer of the first absence must not remove the player.
    await trio.sleep(SECONDS_AWAY)
    again.push("move", {"direction": "up"})
    await bob.assert_push("board", lambda board: player(board, "Ann")["here"])


async def test_no_player_learns_the_secret_id_of_another(case: ChannelTest) -> None:
    client = await case.connect("/socket")
    answer, ann = await client.join("game:lobby", guest("Ann"))
    assert ann is not None
    board = await ann.assert_push("board")
    assert player(board, "Ann")["id"] == answer.response["player"]
    assert "the tab of" not in str(board)


async def test_a_player_who_stays_away_leaves_and_an_empty_game_ends(case: ChannelTest) -> None:
    ann, bob = await play(case, "Ann"), await play(case, "Bob")
    await ann.client.disconnect()
    await trio.sleep(SECONDS_AWAY + 1)
    await bob.assert_push("board", lambda board: len(board["players"]) == 1)
    await bob.client.disconnect()
    await trio.sleep(SECONDS_AWAY + 1)
    assert await room_of("lobby") is None


async def test_a_move_from_an_older_tab_of_a_player_who_left_does_not_end_the_game(
    case: ChannelTest,
) -> None:
    older, newer, bob = [await play(case, name) for name in ("Ann", "Ann", "Bob")]
    await newer.client.disconnect()
    await trio.sleep(SECONDS_AWAY + 1)
    room = await room_of("lobby")
    older.push("move", {"direction": "up"})
    await bob.assert_push("board", lambda board: len(board["players"]) == 1)
    await bob.refute_push("phx_error")
    assert await room_of("lobby") == room


async def test_a_game_that_crashes_is_restarted_and_its_players_join_again(
    case: ChannelTest,
) -> None:
    ann = await play(case, "Ann")
    room = await room_of("lobby")
    assert room is not None
    kill(room)
    await ann.assert_push("phx_error")
    _, again = await ann.client.join("game:lobby", guest("Ann"))
    assert again is not None
    await again.assert_push("board", lambda board: player(board, "Ann")["here"])
    assert await room_of("lobby") not in (room, None)


@pytest.mark.parametrize("room", ["", "A room", "x" * 21])
async def test_a_room_without_a_short_plain_name_is_refused(case: ChannelTest, room: str) -> None:
    client = await case.connect("/socket")
    answer, _ = await client.join(f"game:{room}", guest("Ann"))
    assert (answer.status, answer.response) == ("error", {"reason": "invalid room"})
