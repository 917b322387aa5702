"""Applications with processes of their own, under each way to serve them."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trio

from channels import sign
from channels.client import ClientChannel, open_socket
from examples.vehicles.sensors import drive
from supervision.recording.reader.page import render_page
from supervision.story import read_recording, tell_story
from tests.integration.browsers import chromium
from tests.integration.worker_servers import WorkersServer
from tests.patience import until

SECRET = "the secret of the servers of these tests, which is long enough"
TARGET = "tests.integration.children_app:endpoint"
# Workers need Linux, so these tests are not collected elsewhere.
WAYS: list[tuple[int | None, tuple[str, ...]]] = [(None, ())]
WORKERS: list[int | None] = [None]
if sys.platform == "linux":
    WAYS += [(1, ()), (2, ()), (None, ("--reload",))]
    WORKERS += [2]


@contextmanager
def serving(
    folder: Path, target: str, workers: int | None, *options: str, **environment: str
) -> Iterator[WorkersServer]:
    server = WorkersServer(folder, workers, *options, target=target, environment=environment)
    try:
        server.serve()
        yield server
    finally:
        server.close()


def socket_url(server: WorkersServer, path: str = "/socket") -> str:
    return f"ws://127.0.0.1:{server.port}{path}"


@pytest.mark.parametrize(("workers", "options"), WAYS)
def test_a_channel_calls_the_child_of_its_server_from_join_to_terminate(
    tmp_path: Path, workers: int | None, options: tuple[str, ...]
) -> None:
    programs: set[int] = set()

    async def bid() -> None:
        async with open_socket(socket_url(server)) as socket:
            channel: ClientChannel
            async with socket.channel("auction:1") as channel:
                programs.add(channel.response["program"])
                answer = await channel.push("bid", 10)
                assert answer["pid"] == channel.response["pid"]

    async def bid_everywhere() -> None:
        # The system chooses the worker of each connection at random.
        while len(programs) < (workers or 1):
            await bid()

    with serving(tmp_path, TARGET, workers, *options) as server:
        trio.run(bid_everywhere)
        server.send(signal.SIGTERM)
        assert server.wait() == 0
    assert len(programs) == (workers or 1)
    # Each worker has its own child, which stops after the channels have called it from `terminate`.
    totals = [int(found) for found in re.findall(r"auction stopped at (\d+)", server.output())]
    assert len(totals) == (workers or 1)
    assert all(total >= 1011 and total % 1011 == 0 for total in totals), server.output()


def test_a_recording_has_the_crash_of_a_child_and_its_restart(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"

    async def crash_it() -> None:
        async with (
            open_socket(socket_url(server)) as socket,
            socket.channel("auction:1") as channel,
        ):
            channel.push_nowait("crash")
            await until(lambda: channel.state != "joined")
            while channel.state != "joined":
                await channel.wait_joined()
            # The new child has forgotten the first join. The end of the first channel adds 1000, now or later.
            assert channel.response["total"] % 1000 == 1

    with serving(tmp_path, TARGET, None, "--record", str(file)) as server:
        trio.run(crash_it)
        server.send(signal.SIGTERM)
        server.wait()
    events = [json.loads(line) for line in file.read_text().splitlines()]
    of_child = [
        (event["kind"], event["exit"] if event["kind"] == "exited" else event["inc"])
        for event in events
        if event.get("path", "").endswith("/endpoint/children/auction")
    ]
    assert of_child == [("spawned", 1), ("exited", "crash"), ("spawned", 2), ("exited", "shutdown")]
    lines, _ = read_recording(file)
    story = tell_story(lines)
    assert [str(incident.fault.text).partition(" with ")[0] for incident in story.incidents] == [
        "auction crashed",
        "Bids 'auction:1' crashed",
    ]
    page = tmp_path / "run.html"
    page.write_text(render_page(lines, title="run"))
    with chromium() as browser:
        opened = browser.new_page()
        opened.goto(page.as_uri())
        tree = [line.strip() for line in opened.locator("#tree").inner_text().splitlines()]
    below = tree[tree.index("endpoint") + 1 :]
    # The processes of the application stand first.
    assert below[0] == "children"
    assert below[1].startswith("auction")
    assert below[2] == "UserSocket channels"
    # Those of the endpoint itself are one row, which is closed.
    assert below[-1].startswith("Ashtree's own processes")
    assert "flusher" not in below


# The examples


class Player:
    """A client in the game, with the latest board that it got."""

    def __init__(self, channel: ClientChannel) -> None:
        self.channel = channel
        self.players: dict[str, Any] = {}
        channel.listen("board", self.see)

    def see(self, board: Any, join_ref: str | None) -> None:
        self.players = {each["name"]: each for each in board["players"]}


async def play_together(server: WorkersServer) -> None:
    """Let players on all workers meet in one room. One of them crashes, and comes back to the same place."""
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(open_socket(socket_url(server)))]
        while len(sockets) < 2 or not await has_clients_everywhere(server, len(sockets)):
            sockets.append(await stack.enter_async_context(open_socket(socket_url(server))))
        players: list[Player] = []
        # The last connection is the first one on its worker. The others would only take seats in the room.
        for number, socket in enumerate((sockets[0], sockets[-1])):
            payload = {"id": f"tab {number} of a player", "name": str(number)}
            # It listens before it joins, because a board may come right after the reply to the join.
            players.append(Player(socket.channel("game:lobby", payload)))
            await stack.enter_async_context(players[-1].channel)
        await until(lambda: all(len(each.players) == len(players) for each in players))
        assert len({each.channel.response["game"] for each in players}) == 1
        first, second = players[:2]
        for direction in ("left", "up"):
            first.channel.push_nowait("move", {"direction": direction})
        first.channel.push_nowait("crash")
        await until(lambda: not second.players["0"]["here"])
        place = second.players["0"]
        await until(lambda: second.players["0"]["here"])
        assert second.players["0"] == {**place, "here": True}


async def has_clients_everywhere(server: WorkersServer, clients: int) -> bool:
    """Return True if each worker has a client. Wait until the workers have counted all clients."""
    if "--workers" not in server.arguments:
        return True
    await until(lambda: sum(each.connections or 0 for each in server.workers()) == clients)
    return all(each.connections for each in server.workers())


async def light_a_lamp(server: WorkersServer) -> None:
    async with (
        open_socket(socket_url(server, "/devices"), transport="longpoll") as device,
        device.channel("sensor:hall") as sensor,
        open_socket(socket_url(server)) as page,
        page.channel("lights") as lights,
    ):
        await sensor.push("motion", {})
        async for event in lights:
            if event.payload == {"lamp": "hall", "state": "lit"}:
                break


async def publish_a_story(server: WorkersServer) -> None:
    token = sign(SECRET, "newsroom", "ann")
    async with (
        open_socket(socket_url(server)) as reader,
        reader.channel("news", {"sections": ["sport"]}) as news,
        open_socket(socket_url(server), auth_token=token) as publisher,
        publisher.channel("newsroom") as newsroom,
    ):
        answer = await newsroom.push("publish", {"section": "sport", "headline": "Ash wins"})
        assert answer == {"number": 1}
        async for event in news:
            if event.event == "story":
                break


async def drive_two_vehicles(server: WorkersServer) -> None:
    async with (
        open_socket(socket_url(server)) as page,
        page.channel("map") as city,
        trio.open_nursery() as nursery,
    ):
        for name in ("ant", "bat"):
            nursery.start_soon(drive, socket_url(server), name)
        seen: set[str] = set()
        async for event in city:
            if event.event == "position":
                seen.add(event.payload["name"])
            if seen == {"ant", "bat"}:
                nursery.cancel_scope.cancel()
                break


Use: TypeAlias = Callable[[WorkersServer], Awaitable[None]]

ONCE: list[tuple[str, Use, str]] = [
    ("sensors", light_a_lamp, "the lamps must exist only once"),
    ("news", publish_a_story, "the desk of the news must exist only once"),
]


@pytest.mark.parametrize(("example", "use"), [(name, use) for name, use, _ in ONCE])
def test_an_example_with_processes_of_its_own_runs_under_serve(
    tmp_path: Path, example: str, use: Use
) -> None:
    target = f"examples.{example}.server:endpoint"
    with serving(tmp_path, target, None, SECRET_KEY_BASE=SECRET) as server:
        trio.run(use, server)
        server.send(signal.SIGTERM)
        assert server.wait() == 0


@pytest.mark.parametrize("workers", WORKERS)
def test_players_on_all_workers_meet_in_one_room(tmp_path: Path, workers: int | None) -> None:
    with serving(tmp_path, "examples.game.server:endpoint", workers) as server:
        trio.run(play_together, server)
        server.send(signal.SIGTERM)
        assert server.wait() == 0


@pytest.mark.parametrize("workers", WORKERS)
def test_the_vehicles_run_under_serve_with_and_without_workers(
    tmp_path: Path, workers: int | None
) -> None:
    with serving(tmp_path, "examples.vehicles.server:endpoint", workers) as server:
        trio.run(drive_two_vehicles, server)
        server.send(signal.SIGTERM)
        assert server.wait() == 0


@pytest.mark.parametrize(
    ("example", "said"), [(name, said) for name, _, said in ONCE] if len(WORKERS) > 1 else []
)
def test_an_example_whose_state_must_exist_once_refuses_several_workers(
    tmp_path: Path, example: str, said: str
) -> None:
    target = f"examples.{example}.server:endpoint"
    server = WorkersServer(tmp_path, 2, target=target)
    server.start()
    assert server.wait() == 1
    (line,) = server.output().splitlines()
    assert f"{said}, but each of the 2 workers would have its own; leave out --workers" in line
