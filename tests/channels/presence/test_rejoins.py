"""Presence and the order of a client's frames: tracking after a join, a leave behind a join, and a second join.

In each case Phoenix 1.8.12 gives the same frames: the order of mailboxes decides, and not the speed of a process.
"""

from __future__ import annotations

from typing import Any

import pytest
import trio

from actors import Down, Pid, Runtime, current_pid, kill, monitor, receive, send, spawn
from channels import Channel, Endpoint, PushReply, Socket, handle_in
from channels.presence import NotTracked, Presence
from channels.testing import ANYTHING
from tests.channels.conftest import Serve
from tests.channels.presence.nodes import TOPIC, alone
from tests.channels.support import Client, phx_close, reply

PRESENCE_TOPIC = "presence:x"


def endpoint_of(presence: Presence) -> Endpoint:
    class RoomChannel(Channel):
        async def join(self, topic: str, payload: Any) -> None:
            self.user = payload["user"]
            send(current_pid(), "after join")

        async def handle_info(self, message: Any) -> None:
            presence.track(self, self.user, {"typing": False})
            await presence.push_state(self)

        @handle_in("update")
        async def update(self, payload: Any) -> PushReply:
            try:
                presence.update(self, self.user, payload)
            except NotTracked:
                return PushReply({"reason": "nopresence"}, status="error")
            return PushReply()

    class UserSocket(Socket):
        channels = {"presence:*": RoomChannel}

    return Endpoint(sockets={"/socket": UserSocket}, presences=[presence])


@pytest.fixture(params=[0.0, 5.0], ids=lambda grace: f"grace {grace:g}")
def presence(request: pytest.FixtureRequest) -> Presence:
    return Presence(leave_grace=request.param)


def join(ref: str, user: str = "ann") -> tuple[Any, ...]:
    return (ref, ref, PRESENCE_TOPIC, "phx_join", {"user": user})


def of(frames: list[Any], event: str) -> list[Any]:
    return [frame for frame in frames if frame[3] == event]


def refs(entry: dict[str, Any]) -> list[str]:
    return [meta["phx_ref"] for meta in entry["metas"]]


async def exchange(client: Client, *messages: tuple[Any, ...]) -> list[Any]:
    """Send messages in one burst, and return what comes in the next second, with its diffs."""
    client.send(*messages)
    await trio.sleep(1)
    return client.frames()


async def test_an_update_behind_a_join_finds_the_presence(serve: Serve, presence: Presence) -> None:
    client = await (await serve(endpoint_of(presence))).connect()
    update = ("1", "2", PRESENCE_TOPIC, "update", {"typing": True})
    got = await exchange(client, join("1"), update)
    assert got[0] == reply("1", "1", PRESENCE_TOPIC)
    assert reply("1", "2", PRESENCE_TOPIC) in got
    (state,) = of(got, "presence_state")
    assert state[4] == {"ann": {"metas": [{"typing": False, "phx_ref": ANYTHING}]}}
    assert got.index(state) < got.index(reply("1", "2", PRESENCE_TOPIC))


async def test_a_leave_behind_a_join_sends_the_state_and_others_see_the_join_and_the_leave(
    serve: Serve,
) -> None:
    server = await serve(endpoint_of(Presence()))
    watcher, client = await server.connect(), await server.connect()
    await exchange(watcher, join("1", "watcher"))
    got = await exchange(client, join("1"), ("1", "2", PRESENCE_TOPIC, "phx_leave", {}))
    assert [frame[3] for frame in got if frame[3] != "presence_diff"] == [
        "phx_reply",
        "presence_state",
        "phx_reply",
        "phx_close",
    ]
    assert got[-2:] == [reply("1", "2", PRESENCE_TOPIC), phx_close("1", PRESENCE_TOPIC)]
    (state,) = of(got, "presence_state")
    assert sorted(state[4]) == ["ann", "watcher"]
    diffs = [frame[4] for frame in of(watcher.frames(), "presence_diff")]
    assert [refs(diff["joins"]["ann"]) for diff in diffs if "ann" in diff["joins"]] == [
        refs(state[4]["ann"])
    ]
    assert [refs(diff["leaves"]["ann"]) for diff in diffs if "ann" in diff["leaves"]] == [
        refs(state[4]["ann"])
    ]


@pytest.mark.parametrize("together", [True, False], ids=["one write", "two writes"])
async def test_the_state_of_a_second_join_has_no_meta_of_the_replaced_channel(
    serve: Serve, presence: Presence, together: bool
) -> None:
    client = await (await serve(endpoint_of(presence))).connect()
    if together:
        states = of(await exchange(client, join("1"), join("2")), "presence_state")
    else:
        states = of(await exchange(client, join("1")), "presence_state")
        states += of(await exchange(client, join("2")), "presence_state")
    assert len(refs(states[-1][4]["ann"])) == 1
    assert refs(states[-1][4]["ann"]) == refs({"metas": presence.snapshot(PRESENCE_TOPIC)["ann"]})


async def test_many_joins_of_a_topic_each_show_only_their_own_meta(
    serve: Serve, presence: Presence
) -> None:
    client = await (await serve(endpoint_of(presence))).connect()
    for number in range(50):
        got = await client.exchange(join(str(number)))
        for state in of(got, "presence_state"):
            assert len(refs(state[4]["ann"])) == 1, number


@pytest.mark.parametrize("end", ["normally", "by a crash", "by a kill"])
async def test_who_learns_of_the_end_of_a_process_no_longer_finds_its_presences(
    runtime: Runtime, end: str
) -> None:
    presence = Presence()
    await alone(presence)
    found: list[bool] = []

    async def owner() -> None:
        presence.track(TOPIC, "ann", {})
        presence.track(TOPIC, "bob", {})
        await trio.sleep(1)
        if end == "by a crash":
            raise RuntimeError("owner")
        if end == "by a kill":
            kill(current_pid())

    async def watcher(pid: Pid) -> None:
        ref = monitor(pid)
        await receive(lambda message: type(message) is Down and message.ref is ref)
        found.extend(key in presence.snapshot(TOPIC) for key in ("ann", "bob"))

    pid = spawn(owner)
    spawn(watcher, pid)
    await trio.sleep(0.5)
    assert len(presence.snapshot(TOPIC)) == 2
    await trio.sleep(1)
    assert found == [False, False]
    assert presence.statistics()["own_presences"] == 0


async def test_a_process_that_tracks_and_untracks_again_and_again_gets_one_clean_up(
    runtime: Runtime,
) -> None:
    presence = Presence(max_calls_per_second=1e6)
    await alone(presence)
    pid = spawn(trio.sleep_forever)
    for number in range(100):
        presence.track(TOPIC, f"key {number % 3}", {"n": number}, pid=pid)
        presence.untrack(TOPIC, f"key {number % 3}", pid=pid)
    process = pid.process
    assert process is not None
    assert len(process.cleanups_last_first()) == 1  # type: ignore[attr-defined]


async def test_a_process_that_has_ended_is_not_present(runtime: Runtime) -> None:
    presence = Presence()
    await alone(presence)
    pid = spawn(trio.sleep_forever)
    kill(pid)
    await trio.sleep(1)
    presence.track(TOPIC, "ann", {}, pid=pid)
    assert "ann" not in presence.snapshot(TOPIC)
