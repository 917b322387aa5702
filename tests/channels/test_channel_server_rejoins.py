"""A second join of a topic ends the earlier channel in any state, and two channels never answer."""

from __future__ import annotations

from typing import Any

import pytest
import trio

import actors
from actors import Pid, Shutdown, is_alive, send
from channels import Endpoint
from channels.connection.session_server import WAITING_LIMIT
from tests.channels.conftest import Serve
from tests.channels.rooms import Room, UserSocket
from tests.channels.support import Client, Server, phx_close, reason_of, reply, settle

ENDPOINT = {"/socket": UserSocket}


def join(ref: str, **payload: Any) -> tuple[Any, ...]:
    return (ref, ref, "room:a", "phx_join", payload)


async def joined(serve: Serve, **payload: Any) -> tuple[Server, Client, Pid]:
    """A client that has joined room:a with the ref 1, and the process of that channel."""
    server = await serve(Endpoint(sockets=ENDPOINT))
    client = await server.connect()
    await client.join(payload=payload)
    return server, client, server.channel("room:a")


async def test_the_new_answer_precedes_the_close_of_the_old_membership(serve: Serve) -> None:
    server, client, old = await joined(serve, farewell=True)
    reasons = await reason_of(old)
    assert await client.exchange(join("2")) == [reply("2", "2", "room:a"), phx_close("1", "room:a")]
    # It does not trap exits, so its terminate does not run.
    assert reasons == [Shutdown("duplicate_join")]
    assert server.channel("room:a") is not old


async def test_messages_of_the_old_membership_are_dropped_without_an_answer(serve: Serve) -> None:
    _, client, _ = await joined(serve)
    await client.exchange(join("2"))
    assert (
        await client.exchange(("1", "3", "room:a", "echo"), ("1", "4", "room:a", "phx_leave")) == []
    )
    assert await client.exchange(("2", "5", "room:a", "echo")) == [reply("2", "5", "room:a")]


async def test_every_join_of_one_write_is_answered_and_the_earlier_ones_are_closed(
    serve: Serve,
) -> None:
    server, client, _ = await joined(serve)
    assert await client.exchange(join("3"), join("4")) == [
        reply("3", "3", "room:a"),
        phx_close("1", "room:a"),
        reply("4", "4", "room:a"),
        phx_close("3", "room:a"),
    ]
    assert len(server.channels("room:a")) == 1


async def test_all_joins_of_a_burst_are_answered_in_order_and_all_but_the_last_are_closed(
    serve: Serve,
) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    client = await server.connect()
    before = len(server.runtime.processes())
    assert await client.exchange(*(join(ref) for ref in "12345")) == [
        reply("1", "1", "room:a"),
        *(
            frame
            for old, new in zip("1234", "2345", strict=True)
            for frame in (reply(new, new, "room:a"), phx_close(old, "room:a"))
        ),
    ]
    assert len(server.channels("room:a")) == 1
    assert len(server.runtime.processes()) == before + 1


async def test_a_replaced_join_may_be_refused_or_crash(serve: Serve) -> None:
    client = await (await serve(Endpoint(sockets=ENDPOINT))).connect()
    got = await client.exchange(join("1", refuse={"no": 1}), join("2", crash=True), join("3"))
    crashed = reply("2", "2", "room:a", {"reason": "join crashed"}, "error")
    assert sorted(got, key=lambda frame: str(frame[1])) == [
        reply("1", "1", "room:a", {"no": 1}, "error"),
        crashed,
        reply("3", "3", "room:a"),
    ]


async def test_a_rejoin_gives_an_unfinished_join_five_seconds(
    serve: Serve,
) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    client = await server.connect()
    before = server.runtime.processes()
    assert await client.exchange(join("1", sleep=30)) == []
    assert await client.exchange(join("2")) == []
    await trio.sleep(4.9)
    assert client.frames() == []
    await trio.sleep(0.2)
    assert sorted(client.frames(), key=lambda frame: str(frame[1])) == [
        reply("1", "1", "room:a", {"reason": "join crashed"}, "error"),
        reply("2", "2", "room:a"),
    ]
    assert len(server.runtime.processes()) == len(before) + 1
    await trio.sleep(40)
    assert client.frames() == []


async def test_many_joins_of_a_topic_wait_in_one_line_and_all_get_an_answer(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    client = await server.connect()
    before = len(server.runtime.processes())
    got = await client.exchange(join("first", sleep=3))
    got += await client.exchange(*(join(str(number)) for number in range(200)))
    # At most `max_joining` joins wait, the first among them.
    busy = {"reason": "too many joins in progress"}
    assert got == [reply(str(n), str(n), "room:a", busy, "error") for n in range(99, 200)]
    assert len(server.runtime.processes()) == before + 1
    await trio.sleep(3.1)
    refs = ["first", *map(str, range(99))]
    closes = [[], *([phx_close(ref, "room:a")] for ref in refs)]
    assert client.frames() == [
        frame
        for ref, close in zip(refs, closes, strict=False)
        for frame in (reply(ref, ref, "room:a"), *close)
    ]
    assert len(server.runtime.processes()) == before + 1


async def test_a_flood_for_a_replaced_channel_stops_the_reading_from_its_client(
    serve: Serve,
) -> None:
    _, client, _ = await joined(serve, trap=True)
    await client.exchange(join("2"))
    echoes = [("2", f"e{number}", "room:a", "echo") for number in range(2 * WAITING_LIMIT)]
    for start in range(0, len(echoes), 64):
        client.send(*echoes[start : start + 64])
    await settle()
    assert await client.exchange((None, "h", "phoenix", "heartbeat")) == []
    await trio.sleep(5.1)
    got = client.frames()
    got.remove(reply(None, "h", "phoenix"))
    assert got[:2] == [reply("2", "2", "room:a"), phx_close("1", "room:a")]
    assert [frame[1] for frame in got[2:]] == [echo[1] for echo in echoes]


async def test_a_refused_rejoin_still_closes_the_old_membership(serve: Serve) -> None:
    server, client, _ = await joined(serve)
    assert await client.exchange(join("2", refuse={"no": 1})) == [
        reply("2", "2", "room:a", {"no": 1}, "error"),
        phx_close("1", "room:a"),
    ]
    assert server.channels("room:a") == []


async def test_a_rejoin_that_crashes_still_closes_the_old_membership(serve: Serve) -> None:
    server, client, _ = await joined(serve)
    assert await client.exchange(join("2", crash=True)) == [
        reply("2", "2", "room:a", {"reason": "join crashed"}, "error"),
        phx_close("1", "room:a"),
    ]
    assert server.channels("room:a") == []


@pytest.mark.parametrize("payload", [{"refuse": {}}, {"crash": True}])
async def test_after_a_failed_rejoin_the_topic_can_be_joined(serve: Serve, payload: Any) -> None:
    _, client, _ = await joined(serve)
    await client.exchange(join("2", **payload))
    assert await client.exchange(join("3")) == [reply("3", "3", "room:a")]


async def test_a_rejoin_waits_for_a_slow_terminate_of_the_old_channel(serve: Serve) -> None:
    _, client, old = await joined(serve, trap=True)

    def leave_in_3_seconds(room: Room) -> Any:
        actors.send_after(actors.current_pid(), lambda _: actors.Stop(actors.NORMAL), 3.0)

    send(old, leave_in_3_seconds)
    await settle()
    assert await client.exchange(join("2"), ("2", "3", "room:a", "echo")) == []
    await trio.sleep(2.9)
    assert (client.frames(), is_alive(old)) == ([], True)
    await trio.sleep(0.2)
    assert not is_alive(old)
    assert client.frames() == [
        reply("2", "2", "room:a"),
        phx_close("1", "room:a"),
        reply("2", "3", "room:a"),
    ]


async def test_a_replaced_channel_is_killed_after_five_seconds(serve: Serve) -> None:
    server, client, old = await joined(serve, trap=True)
    reasons = await reason_of(old)
    assert await client.exchange(join("2")) == []
    await trio.sleep(4.9)
    assert (client.frames(), reasons) == ([], [])
    await trio.sleep(0.2)
    assert reasons == [actors.KILLED]
    assert client.frames() == [reply("2", "2", "room:a"), phx_close("1", "room:a")]
    assert len(server.channels("room:a")) == 1


async def test_a_third_join_waits_for_the_first_channel_as_the_second_did(serve: Serve) -> None:
    server, client, old = await joined(serve, trap=True)
    reasons = await reason_of(old)
    await client.exchange(join("2"))
    await trio.sleep(2)
    assert await client.exchange(join("3")) == []
    await trio.sleep(5.1)
    assert reasons == [actors.KILLED]
    assert client.frames() == [
        reply("2", "2", "room:a"),
        phx_close("1", "room:a"),
        reply("3", "3", "room:a"),
        phx_close("2", "room:a"),
    ]
    assert len(server.channels("room:a")) == 1


@pytest.mark.parametrize("outcome", [{}, {"refuse": {"no": 1}}, {"crash": True}])
async def test_a_replaced_join_that_returns_is_answered_and_ends(
    serve: Serve, outcome: dict[str, Any]
) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    client = await server.connect()
    assert await client.exchange(join("1", trap=True, sleep=3, **outcome)) == []
    assert await client.exchange(join("2")) == []
    await trio.sleep(2.9)
    assert (client.frames(), server.channels("room:a")) == ([], [])
    await trio.sleep(0.2)
    got = client.frames()
    if outcome:
        response = outcome.get("refuse", {"reason": "join crashed"})
        assert sorted(got, key=lambda frame: str(frame[1])) == [
            reply("1", "1", "room:a", response, "error"),
            reply("2", "2", "room:a"),
        ]
    else:
        assert got == [reply("1", "1", "room:a")]
        # It traps exits, and so takes no notice of having to go.
        await trio.sleep(3)
        assert client.frames() == [reply("2", "2", "room:a"), phx_close("1", "room:a")]
    assert len(server.channels("room:a")) == 1


async def test_a_join_right_after_a_refused_one_sends_no_close(
    serve: Serve,
) -> None:
    client = await (await serve(Endpoint(sockets=ENDPOINT))).connect()
    # While the connection has another channel started, the first refuses, which the connection does not know yet.
    got = await client.exchange(join("1", refuse={}), ("9", "9", "room:b", "phx_join"), join("2"))
    assert sorted(got, key=lambda frame: str(frame[1])) == [
        reply("1", "1", "room:a", {}, "error"),
        reply("2", "2", "room:a"),
        reply("9", "9", "room:b"),
    ]


async def test_a_join_right_after_a_stop_sends_one_close(serve: Serve) -> None:
    _, client, _ = await joined(serve)
    stop = ("1", "2", "room:a", "stop", {"reason": "normal"})
    got = await client.exchange(stop, ("9", "9", "room:b", "phx_join"), join("3"))
    assert sorted(got, key=lambda frame: str(frame[1])) == [
        phx_close("1", "room:a"),
        reply("3", "3", "room:a"),
        reply("9", "9", "room:b"),
    ]


@pytest.mark.parametrize("way", ["leave", "stop", "refuse"])
async def test_a_topic_is_free_after_its_last_frame_even_during_terminate(
    serve: Serve, way: str
) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    client = await server.connect()
    before = len(server.runtime.processes())
    if way == "refuse":
        await client.exchange(join("1", linger=3, refuse={}))
    else:
        await client.join(payload={"linger": 3})
        end = ("1", "2", "room:a", "phx_leave" if way == "leave" else "stop", {"reason": "normal"})
        await client.exchange(end)
    assert len(server.runtime.processes()) == before + 1
    free = reply(None, "3", "room:a", {"reason": "unmatched topic"}, "error")
    assert await client.exchange(("1", "3", "room:a", "echo")) == [free]
    assert await client.exchange(join("4")) == [reply("4", "4", "room:a")]
    await trio.sleep(4)
    assert len(server.runtime.processes()) == before + 1
    assert await client.exchange(("4", "5", "room:a", "echo")) == [reply("4", "5", "room:a")]


async def test_a_rejoin_waits_for_a_killed_channel(serve: Serve) -> None:
    _, client, old = await joined(serve, trap=True)
    await client.exchange(("1", "2", "room:a", "cling", {"seconds": 7}))
    await client.exchange(join("3"))
    await trio.sleep(6.9)
    assert (client.frames(), is_alive(old)) == ([], True)
    await trio.sleep(0.2)
    assert client.frames() == [reply("3", "3", "room:a"), phx_close("1", "room:a")]
    assert not is_alive(old)


async def test_a_leave_while_the_new_join_waits_ends_the_old_channel_too(serve: Serve) -> None:
    server, client, old = await joined(serve, trap=True)
    await client.exchange(join("2"), ("2", "3", "room:a", "phx_leave"))
    await trio.sleep(6)
    assert client.frames() == [
        reply("2", "2", "room:a"),
        phx_close("1", "room:a"),
        reply("2", "3", "room:a"),
        phx_close("2", "room:a"),
    ]
    assert not is_alive(old)
    assert server.channels("room:a") == []


async def test_other_topics_and_heartbeats_do_not_wait_for_a_join(serve: Serve) -> None:
    _, client, _ = await joined(serve, trap=True)
    await client.join("room:b", "9")
    await client.exchange(join("2"))
    got = await client.exchange(
        ("9", "10", "room:b", "echo", {"n": 1}), (None, "11", "phoenix", "heartbeat")
    )
    assert sorted(got, key=lambda frame: str(frame[1])) == [
        reply("9", "10", "room:b", {"n": 1}),
        reply(None, "11", "phoenix"),
    ]


async def test_a_client_that_leaves_while_its_join_waits_leaks_nothing(serve: Serve) -> None:
    server, client, old = await joined(serve, trap=True)
    await client.exchange(join("2"))
    client.end()
    await trio.sleep(6)
    assert not is_alive(old)
    assert client.process is not None
    assert not is_alive(client.process)
    assert server.endpoint.statistics()["subscriptions"] == 0
    processes = server.runtime.processes()
    assert server.pid in processes
    assert len(processes) == 11


async def test_a_zombie_channel_is_replaced_after_it_is_declared_dead(
    serve: Serve,
) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    zombies = server.listen(("actors", "process", "zombie"))
    client = await server.connect()
    assert await client.exchange(join("1", cling=13.0)) == []
    assert await client.exchange(join("2")) == []
    # Five seconds for its join, and five until a process that was killed counts as dead.
    await trio.sleep(10.1)
    assert len(zombies) == 1
    assert sorted(client.frames(), key=lambda frame: str(frame[1])) == [
        reply("1", "1", "room:a", {"reason": "join crashed"}, "error"),
        reply("2", "2", "room:a"),
    ]
    assert len(server.channels("room:a")) == 1
    # The zombie has no effect when it ends.
    await trio.sleep(10)
    assert client.frames() == []
    assert len(server.channels("room:a")) == 1


async def test_a_second_join_at_the_limit_replaces_the_first(serve: Serve) -> None:
    class Narrow(UserSocket):
        max_channels = 1

    client = await (await serve(Endpoint(sockets={"/socket": Narrow}))).connect()
    await client.join()
    assert await client.exchange(("9", "9", "room:b", "phx_join")) == [
        reply("9", "9", "room:b", {"reason": "too many channels joined"}, "error")
    ]
    assert await client.exchange(join("2")) == [reply("2", "2", "room:a"), phx_close("1", "room:a")]


async def test_a_leave_and_a_join_in_one_burst_end_with_one_channel_joined(serve: Serve) -> None:
    server, client, _ = await joined(serve)
    got = await client.exchange(("1", "2", "room:a", "phx_leave"), join("3"))
    assert reply("3", "3", "room:a") in got
    assert phx_close("1", "room:a") in got
    assert len(server.channels("room:a")) == 1
    assert await client.exchange(("3", "4", "room:a", "echo")) == [reply("3", "4", "room:a")]


async def test_a_crash_and_a_join_in_one_burst_end_with_one_channel_joined(serve: Serve) -> None:
    server, client, _ = await joined(serve)
    got = await client.exchange(("1", "2", "room:a", "boom"), join("3"))
    assert reply("3", "3", "room:a") in got
    assert len(server.channels("room:a")) == 1
    assert await client.exchange(("3", "4", "room:a", "echo")) == [reply("3", "4", "room:a")]
