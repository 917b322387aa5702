"""Tests of the rules of the game, and of the channels and rooms."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
import trio

from actors import kill
from channels.pytest_plugin import OpenChannelTest
from channels.testing import ChannelTest, TestChannel
from supervision import Supervisor

from . import rules
from .room import SECONDS_AWAY, room_supervisor, rooms
from .rules import Board, Player
from .server import endpoint

# Rules

AT_THE_EDGE = Board({"ann": Player("Ann", (0, 0)), "bob": Player("Bob", (0, 1))}, frozenset())


@pytest.mark.parametrize("direction", ["up", "left", "down"])
def test_a_player_does_not_walk_off_the_board_or_onto_another_player(
    direction: rules.Direction,
) -> None:
    assert rules.move(AT_THE_EDGE, "ann", direction, Random(1)) == AT_THE_EDGE


@pytest.mark.parametrize("seed", range(20))
def test_a_long_walk_keeps_the_number_of_coins_and_counts_each_that_is_taken(seed: int) -> None:
    random = Random(seed)
    entered = rules.enter(rules.new_board(random), "ann", "Ann", random)
    assert entered is not None
    board, taken = entered, 0
    for _ in range(200):
        after = rules.move(board, "ann", random.choice(["up", "down", "left", "right"]), random)
        taken += after.players["ann"].place in board.coins
        board = after
        assert len(board.coins) == rules.COINS
        assert board.players["ann"].place not in board.coins
    assert board.players["ann"].coins == taken > 0


def test_a_full_board_takes_only_players_that_it_knows() -> None:
    random, board = Random(1), rules.new_board(Random(1))
    for number in range(rules.MAX_PLAYERS):
        entered = rules.enter(board, f"player {number}", "A", random)
        assert entered is not None
        board = entered
    assert rules.enter(board, "one more", "B", random) is None
    assert rules.enter(rules.away(board, "player 3"), "player 3", "A", random) == board


# Channels and rooms


@pytest.fixture
async def case(channel_test: OpenChannelTest) -> ChannelTest:
    case = await channel_test(endpoint)
    await Supervisor.start_link([room_supervisor])
    return case


async def play(case: ChannelTest, name: str, room: str = "lobby") -> TestChannel:
    client = await case.connect("/socket")
    _, channel = await client.subscribe_and_join(f"game:{room}", guest(name))
    return channel


def guest(name: str) -> dict[str, str]:
    return {"id": f"the tab of {name}", "name": name}


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
    room = rooms.whereis("lobby")
    ann.push("crash")
    await ann.assert_push("phx_error")
    await bob.refute_push("phx_error")
    await bob.assert_push("board", lambda board: not player(board, "Ann")["here"])

    await trio.sleep(SECONDS_AWAY - 1)
    _, again = await ann.client.join("game:lobby", guest("Ann"))
    assert again is not None
    assert rooms.whereis("lobby") == room
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
    assert (
        player(board, "Ann")["id"] == answer.response["player"] == rules.public_id("the tab of Ann")
    )
    assert "the tab of" not in str(board)


async def test_a_player_who_stays_away_leaves_and_an_empty_game_ends(case: ChannelTest) -> None:
    ann, bob = await play(case, "Ann"), await play(case, "Bob")
    await ann.client.disconnect()
    await trio.sleep(SECONDS_AWAY + 1)
    await bob.assert_push("board", lambda board: len(board["players"]) == 1)
    await bob.client.disconnect()
    await trio.sleep(SECONDS_AWAY + 1)
    assert rooms.whereis("lobby") is None


async def test_a_game_that_crashes_is_restarted_and_its_players_join_again(
    case: ChannelTest,
) -> None:
    ann = await play(case, "Ann")
    room = rooms.whereis("lobby")
    assert room is not None
    kill(room)
    await ann.assert_push("phx_error")
    _, again = await ann.client.join("game:lobby", guest("Ann"))
    assert again is not None
    await again.assert_push("board", lambda board: player(board, "Ann")["here"])
    assert rooms.whereis("lobby") not in (room, None)


@pytest.mark.parametrize("room", ["", "A room", "x" * 21])
async def test_a_room_without_a_short_plain_name_is_refused(case: ChannelTest, room: str) -> None:
    client = await case.connect("/socket")
    answer, _ = await client.join(f"game:{room}", guest("Ann"))
    assert (answer.status, answer.response) == ("error", {"reason": "invalid room"})
