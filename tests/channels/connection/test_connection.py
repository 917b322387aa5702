"""One connection after its upgrade: its own answers, its close, and its isolation from others."""

from __future__ import annotations

import gc
import json
import math
from typing import Any

import pytest
import trio

import actors
from actors import Shutdown, is_alive, kill, send, sys
from actors._checks import CALLBACKS
from channels import Channel, Endpoint, Mount, Socket, handle_in
from channels.connection.channel_server import ChannelServer
from channels.connection.connection import Connection, _Silent
from channels.connection.session_server import Drain
from channels.telemetry import (
    CONNECTION_CLOSED,
    SESSION_STARTED,
    SOCKET_EXPIRED,
    SOCKET_MALFORMED,
    SOCKET_OVERFLOW,
    SOCKET_RATE_LIMITED,
)
from supervision import DynamicSupervisor, Supervisor
from tests.channels.conftest import Serve
from tests.channels.rooms import UserSocket
from tests.channels.support import (
    EOF,
    Client,
    Close,
    Data,
    Footprint,
    Gate,
    Server,
    head,
    phx_error,
    reason_of,
    reply,
    settle,
    text,
)
from tests.channels.transports.frames import (
    BINARY,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    client_close,
    client_frame,
)

ENDPOINT = {"/socket": UserSocket}


async def pair(serve: Serve, **options: Any) -> tuple[Server, Client, Client]:
    """Two clients of one server, both in room:a."""
    server = await serve(Endpoint(sockets=ENDPOINT, **options))
    one, other = await server.connect(), await server.connect()
    await one.join()
    await other.join()
    return server, one, other


async def assert_goes_on(server: Server, client: Client) -> None:
    """The client in room:a has received no frame, and still gets replies."""
    assert client.frames() == []
    assert await client.exchange(("1", "90", "room:a", "echo")) == [reply("1", "90", "room:a")]
    server.endpoint.broadcast("room:a", "shouted", {})
    assert client.frames() == []
    await settle()
    assert client.frames() == [[None, None, "room:a", "shouted", {}]]


# Answers of the connection itself


@pytest.mark.parametrize("join_ref", [None, "1", 7])
async def test_a_heartbeat_with_any_join_ref_is_answered(serve: Serve, join_ref: Any) -> None:
    client = await (await serve(Endpoint(sockets=ENDPOINT))).connect()
    got = await client.exchange((join_ref, "5", "phoenix", "heartbeat"))
    assert got == [reply(None, "5", "phoenix")]


@pytest.mark.parametrize("topic", ["news", "phoenix", "", 3, None, ["room:a"], {"room": "a"}])
async def test_a_topic_without_a_route_is_unmatched_and_the_connection_lives(
    serve: Serve, topic: Any
) -> None:
    client = await (await serve(Endpoint(sockets=ENDPOINT))).connect()
    no = [
        None,
        "1",
        topic,
        "phx_reply",
        {"status": "error", "response": {"reason": "unmatched topic"}},
    ]
    assert await client.exchange(("1", "1", topic, "phx_join")) == [no]
    assert await client.exchange(("1", "1", topic, "echo")) == [no]
    await client.join()


async def test_leaving_a_topic_that_is_not_joined_is_ok(serve: Serve) -> None:
    client = await (await serve(Endpoint(sockets=ENDPOINT))).connect()
    got = await client.exchange(("3", "4", "room:a", "phx_leave"))
    assert got == [reply("3", "4", "room:a")]


@pytest.mark.parametrize("order", ["abc", "cba", "bca"])
async def test_channels_of_one_client_may_end_in_any_order(serve: Serve, order: str) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    client = await server.connect()
    for _ in range(2):
        for room in "abc":
            await client.join(f"room:{room}")
        for place, room in enumerate(order):
            await client.exchange(("1", "2", f"room:{room}", "phx_leave"))
            for other in order[place + 1 :]:
                got = await client.exchange(("1", "3", f"room:{other}", "echo"))
                assert got == [reply("1", "3", f"room:{other}")]
            assert not any(server.channels(f"room:{each}") for each in order[: place + 1])


async def test_a_stale_join_ref_is_dropped_and_a_missing_one_is_accepted(serve: Serve) -> None:
    client = await (await serve(Endpoint(sockets=ENDPOINT))).connect()
    await client.join()
    stale = [
        ("0", "2", "room:a", "echo"),
        (1, "3", "room:a", "echo"),
        ("0", "4", "room:a", "phx_leave"),
    ]
    assert await client.exchange(*stale) == []
    got = await client.exchange((None, "5", "room:a", "echo"))
    assert got == [reply("1", "5", "room:a")]


async def test_a_join_over_the_limit_is_refused_and_a_leave_makes_room(serve: Serve) -> None:
    class Narrow(UserSocket):
        max_channels = 2

    server = await serve(Endpoint(sockets={"/socket": Narrow}))
    client = await server.connect()
    await client.join("room:a", "1")
    await client.join("room:b", "2")
    before = server.runtime.processes()
    full = reply("3", "3", "room:c", {"reason": "too many channels joined"}, "error")
    assert await client.exchange(("3", "3", "room:c", "phx_join")) == [full]
    assert server.runtime.processes() == before
    await client.exchange(("1", "4", "room:a", "phx_leave"))
    await client.join("room:c", "5")


async def test_every_refused_message_is_counted_and_the_first_one_is_reported(serve: Serve) -> None:
    class Slow(UserSocket):
        max_messages_per_second = 0.1
        max_joins_per_second = 0.1
        max_channels = 1

    server = await serve(Endpoint(sockets={"/socket": Slow}))
    heard = server.listen(SOCKET_RATE_LIMITED)
    client = await server.connect()
    await client.join()
    before = server.runtime.processes()
    for _ in range(4):
        await client.exchange(("1", "2", "room:a", "echo"), ("3", "3", "room:a", "phx_join"))
    assert server.runtime.processes() == before
    assert server.endpoint.statistics()["counts"] == {
        ("socket", "max_messages_per_second"): 3,
        ("socket", "max_joins_per_second"): 4,
    }
    assert [about["limit"] for _, about in heard] == [
        "max_joins_per_second",
        "max_messages_per_second",
    ]
    assert heard[0][1]["pid"] is client.process


@pytest.mark.parametrize(("own", "expected"), [(None, 100), (250, 250)])
async def test_the_default_limit_of_waiting_joins_is_max_channels_but_at_least_100(
    serve: Serve, own: int | None, expected: int
) -> None:
    server = await serve(Endpoint(sockets={"/socket": Mount(UserSocket, max_channels=own)}))
    (mount,) = server.services.mounts.values()
    assert mount.max_joining == expected


async def test_a_ping_is_answered_and_a_pong_is_not(serve: Serve) -> None:
    client = await (await serve(Endpoint(sockets=ENDPOINT))).connect()
    client.write(client_frame(PING, b"hi") + client_frame(PONG, b"ho"))
    await settle()
    assert client.frames() == [Data(PONG, b"hi")]


async def test_frames_may_be_cut_anywhere_and_messages_into_fragments(serve: Serve) -> None:
    client = await (await serve(Endpoint(sockets=ENDPOINT))).connect()
    await client.join()
    message = json.dumps(["1", "2", "room:a", "echo", {"n": "é"}], ensure_ascii=False).encode()
    data = client_frame(TEXT, message[:20], fin=False) + client_frame(PING)
    data += client_frame(CONTINUATION, message[20:])
    for byte in data:
        client.write(bytes((byte,)))
        await settle()
    assert client.frames() == [Data(PONG, b""), reply("1", "2", "room:a", {"n": "é"})]


async def test_frames_in_the_same_read_as_the_request_are_not_lost(serve: Serve) -> None:
    client = await (await serve(Endpoint(sockets=ENDPOINT))).accept()
    client.write(head() + text("1", "1", "room:a", "phx_join", {}))
    await settle()
    answer = client.answer()
    assert answer is not None
    assert answer.status == 101
    assert client.frames() == [reply("1", "1", "room:a")]


async def test_messages_of_other_processes_are_ignored(serve: Serve) -> None:
    _, client, _ = await pair(serve)
    assert client.process is not None
    for message in ("hello", None, actors.Timeout(), {"bytes": b""}):
        send(client.process, message)
    assert await client.exchange(("1", "2", "room:a", "echo")) == [reply("1", "2", "room:a")]


# Slow joins


async def test_a_slow_join_does_not_delay_heartbeats_or_other_topics(serve: Serve) -> None:
    client = await (await serve(Endpoint(sockets=ENDPOINT))).connect()
    await client.join("room:b", "9")
    got = await client.exchange(
        ("1", "1", "room:a", "phx_join", {"sleep": 20}),
        (None, "2", "phoenix", "heartbeat"),
        ("9", "3", "room:b", "echo"),
    )
    assert sorted(got, key=str) == sorted(
        [reply(None, "2", "phoenix"), reply("9", "3", "room:b")], key=str
    )
    await client.join("room:c", "4")
    await trio.sleep(21)
    assert client.frames() == [reply("1", "1", "room:a")]


# The client closes


async def test_a_close_is_answered_with_1000_and_everything_of_the_client_ends(
    serve: Serve,
) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    closed = server.listen(CONNECTION_CLOSED)
    before = Footprint.of(server.runtime)
    client = await server.connect()
    await client.join("room:a", "1")
    await client.join("room:b", "2")
    assert client.process is not None
    reasons = await reason_of(client.process)
    client.close(4001)
    await settle()
    assert client.frames() == [Close(1000), EOF]
    assert client.is_closed
    assert reasons == [Shutdown("closed")]
    assert Footprint.of(server.runtime) == before
    assert server.endpoint.statistics()["subscriptions"] == 0
    ((_, about),) = closed
    assert about["code"] == 4001
    assert about["topics"] == ["room:a", "room:b"]


async def test_a_client_that_disconnects_without_a_close_leaks_nothing(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    before = Footprint.of(server.runtime)
    client = await server.connect()
    await client.join()
    client.end()
    await settle()
    assert client.is_closed
    assert Footprint.of(server.runtime) == before


async def test_a_client_that_closes_but_does_not_go_is_cut_off_after_five_seconds(
    serve: Serve,
) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    before = Footprint.of(server.runtime)
    client = await server.connect()
    client.write(client_close(1000))
    await trio.sleep(4.9)
    assert client.frames() == [Close(1000), EOF]
    assert not client.is_closed
    await trio.sleep(0.2)
    assert client.is_closed
    assert Footprint.of(server.runtime) == before


# The client breaks the rules


def in_text(message: bytes) -> bytes:
    return client_frame(TEXT, message)


BROKEN = {
    "invalid JSON": (in_text(b"hello"), 1011),
    "an empty message": (in_text(b""), 1011),
    "no array": (in_text(b'{"topic":"room:a"}'), 1011),
    "four elements": (in_text(b'["1","1","room:a","phx_join"]'), 1011),
    "arrays within arrays": (in_text(b"[" * 1000), 1011),
    "an unknown kind of binary message": (client_frame(BINARY, b"\x07"), 1011),
    "a binary message cut short": (client_frame(BINARY, b"\x00\x01\x01\x05\x05"), 1011),
    "text that is not UTF-8": (in_text(b'["1","1","room:\xff","x",{}]'), 1007),
    "a message that is too big": (in_text(b" " * 1001), 1009),
    "the header alone of one that is too big": (client_frame(TEXT, b" " * 70_000)[:10], 1009),
    "too big by its fragments": (
        client_frame(TEXT, b" " * 600, fin=False) + client_frame(CONTINUATION, b" " * 600),
        1009,
    ),
    "a frame that is not masked": (client_frame(TEXT, b"[]", masked=False), 1002),
    "a reserved bit": (client_frame(TEXT, b"[]", rsv=4), 1002),
    "an unknown opcode": (client_frame(0x3, b"[]"), 1002),
    "a continuation of nothing": (client_frame(CONTINUATION, b"[]"), 1002),
    "a close code that may not be sent": (client_close(1005), 1002),
}


@pytest.mark.parametrize("what", BROKEN)
async def test_a_malformed_message_closes_only_its_own_connection(serve: Serve, what: str) -> None:
    data, code = BROKEN[what]
    server = await serve(Endpoint(sockets={"/socket": Mount(UserSocket, max_frame_size=1000)}))
    malformed, crashes = server.listen(SOCKET_MALFORMED), server.crashes()
    other = await server.connect()
    await other.join()
    before = Footprint.of(server.runtime)
    client = await server.connect()
    await client.join()
    reasons = await reason_of(server.channels("room:a")[1])
    # The server ignores the rest.
    client.write(data)
    client.send(("1", "9", "room:a", "shout", {"too": "late"}))
    await settle()
    (close, end) = client.frames()
    assert (close.code, end) == (code, EOF)
    assert reasons == [Shutdown("closed")]
    client.end()
    await settle()
    assert client.is_closed
    assert Footprint.of(server.runtime) == before
    assert [about["code"] for _, about in malformed] == [code]
    assert server.endpoint.statistics()["counts"] == {SOCKET_MALFORMED: 1}
    assert crashes == []
    await assert_goes_on(server, other)


async def test_a_client_that_continues_after_a_violation_gets_one_close(
    serve: Serve,
) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    malformed = server.listen(SOCKET_MALFORMED)
    client = await server.connect()
    for _ in range(3):
        client.write(in_text(b"no") + in_text(b"no"))
        await settle()
    assert client.frames() == [Close(1011), EOF]
    assert len(malformed) == 1
    assert server.endpoint.statistics()["counts"] == {SOCKET_MALFORMED: 1}


# The server closes


async def test_disconnect_closes_every_connection_of_that_user_with_1001(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    ann, too, bob = [await server.connect(query=f"&user={user}") for user in ("ann", "ann", "bob")]
    await ann.join()
    await bob.join()
    reasons = await reason_of(server.channels("room:a")[0])
    server.endpoint.broadcast("user:ann", "disconnect", {})
    await settle()
    assert ann.frames() == too.frames() == [Close(1001), EOF]
    assert reasons == [Shutdown("disconnected")]
    await assert_goes_on(server, bob)


async def test_other_broadcasts_on_the_id_of_a_user_do_nothing(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    client = await server.connect(query="&user=ann")
    server.endpoint.broadcast("user:ann", "hello", {})
    await settle()
    assert client.frames() == []


async def test_a_deadline_closes_with_3000_and_is_reported_and_counted(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    expired, closed = server.listen(SOCKET_EXPIRED), server.listen(CONNECTION_CLOSED)
    brief, client = await server.connect(query="&expire=10"), await server.connect()
    await client.join()
    await brief.join("room:b")
    reasons = await reason_of(server.channel("room:b"))
    await trio.sleep(9.9)
    assert brief.frames() == []
    await trio.sleep(0.2)
    assert brief.frames() == [Close(3000), EOF]
    assert reasons == [Shutdown("expired")]
    await trio.sleep(5)
    assert [about["cause"] for _, about in expired] == ["the time of the connection is over"]
    assert [about["cause"] for _, about in closed] == ["the time of the connection is over"]
    assert server.endpoint.statistics()["counts"] == {SOCKET_EXPIRED: 1}
    await assert_goes_on(server, client)


@pytest.mark.parametrize(
    ("calls", "end"),
    [
        ([40.0], 40),
        ([2.0], 2),
        ([40.0, 2.0], 2),
        ([math.inf], 60),
        ([math.inf, 20.0], 20),
        ([0], 0),
    ],
)
async def test_the_latest_call_sets_the_deadline(
    serve: Serve, calls: list[float], end: float
) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    client = await server.connect(query="&expire=10")
    await client.join()
    for seconds in calls:
        send(
            server.channel("room:a"),
            lambda room, after=seconds: room.expire_connection_after(after),
        )
    await settle()
    if end:
        await trio.sleep(end - 0.1)
        assert client.frames() == []
        await trio.sleep(0.2)
    assert client.frames() == [Close(3000 if end < 60 else 1002), EOF]


async def test_a_deadline_costs_one_timer_and_no_deadline_costs_none(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))

    async def timers(query: str, renewals: int = 0) -> int:
        before = server.runtime.statistics()["timers"]
        client = await server.connect(query=query)
        await client.join()
        for _ in range(renewals):
            await client.exchange(("1", "2", "room:a", "expire", {"seconds": 30}))
        return server.runtime.statistics()["timers"] - before

    # The clients share the timer that looks for silent clients.
    assert await timers("") == 1
    idle = await timers("")
    assert idle == 0
    assert await timers("&expire=10") == await timers("&expire=10", renewals=5) == idle + 1


async def test_a_socket_may_move_the_deadline_after_connect(serve: Serve) -> None:
    sockets = []

    class Remembered(UserSocket):
        async def connect(self, params: Any, connect_info: Any) -> None:
            await super().connect(params, connect_info)
            sockets.append(self)

    server = await serve(Endpoint(sockets={"/socket": Remembered}))
    client = await server.connect()
    sockets[0].expire_connection_after(3.0)
    await trio.sleep(3.1)
    assert client.frames() == [Close(3000), EOF]


@pytest.mark.parametrize("event", ["phx_join", "wait"])
async def test_a_deadline_closes_a_connection_whose_channel_hangs(serve: Serve, event: str) -> None:
    class Stuck(Channel):
        async def join(self, topic: str, payload: Any) -> None:
            if event == "phx_join":
                await trio.sleep_forever()

        @handle_in("wait")
        async def wait(self, payload: Any) -> None:
            await trio.sleep_forever()

    class User(Socket):
        channels = {"stuck": Stuck}

        async def connect(self, params: Any, connect_info: Any) -> None:
            self.expire_connection_after(3.0)

    server = await serve(Endpoint(sockets={"/socket": User}))
    client = await server.connect()
    client.send(("1", "1", "stuck", "phx_join", {}))
    client.send(("1", "2", "stuck", event, {}))
    await trio.sleep(3.1)
    assert client.frames()[-2:] == [Close(3000), EOF]
    await trio.sleep(10)
    assert server.connections() == []


@pytest.mark.parametrize("close", ["disconnect", "drain"])
async def test_a_deadline_during_a_close_has_no_effect(serve: Serve, close: str) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    client = await server.connect(query="&user=ann&expire=10")
    await trio.sleep(9)
    if close == "disconnect":
        server.endpoint.broadcast("user:ann", "disconnect", {})
    else:
        send(server.connections()[0], Drain())
    await trio.sleep(10)
    assert client.frames() == [Close(1001 if close == "disconnect" else 1012), EOF]
    assert server.endpoint.statistics()["counts"] == {}
    assert server.connections() == []


async def test_a_renewal_in_time_counts_even_if_the_connection_handles_it_late(
    serve: Serve,
) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    client = await server.connect(query="&expire=10")
    await client.join()
    (connection,) = server.connections()
    await sys.suspend(connection)
    await trio.sleep(9)
    send(server.channel("room:a"), lambda room: room.expire_connection_after(30.0))
    await trio.sleep(2)
    await sys.resume(connection)
    await trio.sleep(27.9)
    assert client.frames() == []
    await trio.sleep(0.2)
    assert client.frames() == [Close(3000), EOF]


async def test_silence_for_the_timeout_closes_with_1002(serve: Serve) -> None:
    server = await serve(Endpoint(sockets={"/socket": Mount(UserSocket, timeout=30.0)}))
    closed = server.listen(CONNECTION_CLOSED)
    quiet, client = await server.connect(), await server.connect()
    await client.join()
    reasons = await reason_of(server.channel("room:a"))
    await trio.sleep(29)
    assert quiet.frames() == []
    client.write(client_frame(TEXT, b"[")[:3])
    await trio.sleep(2)
    assert quiet.frames() == [Close(1002), EOF]
    await trio.sleep(27.9)
    assert client.frames() == []
    await trio.sleep(0.2)
    assert client.frames() == [Close(1002), EOF]
    assert reasons == [Shutdown("inactive")]
    await trio.sleep(5)
    assert [about["cause"] for _, about in closed] == ["the client was silent for 30 s"] * 2


async def test_a_message_in_time_counts_even_if_the_connection_handles_it_late(
    serve: Serve,
) -> None:
    server = await serve(Endpoint(sockets={"/socket": Mount(UserSocket, timeout=30.0)}))
    client = await server.connect()
    (connection,) = server.connections()
    await sys.suspend(connection)
    await trio.sleep(29)
    client.send((None, "5", "phoenix", "heartbeat"))
    await trio.sleep(2)
    await sys.resume(connection)
    await trio.sleep(29.9)
    assert client.frames() == [reply(None, "5", "phoenix")]
    await trio.sleep(0.2)
    assert client.frames() == [Close(1002), EOF]


async def test_checks_of_clients_that_are_alive_share_a_moment_and_wake_no_process(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await serve(Endpoint(sockets={"/socket": Mount(UserSocket, timeout=30.0)}))
    clients = []
    for _ in range(10):
        clients.append(await server.connect())
        await trio.sleep(0.01)
    checks: list[float] = []
    woken: list[object] = []
    check = Connection.check_silence

    def note(self: Connection) -> None:
        checks.append(trio.current_time())
        check(self)

    monkeypatch.setattr(Connection, "check_silence", note)

    class Checks(actors.Instrument):
        def message_received(self, receiver: actors.Pid, message: Any) -> None:
            if isinstance(message, _Silent):
                woken.append(message)

    server.runtime.add_instrument(Checks())
    for _ in range(8):
        await trio.sleep(10)
        for client in clients:
            client.send((None, "5", "phoenix", "heartbeat"))
            await trio.sleep(0.01)
    assert not any(Close(1002) in client.frames() for client in clients)
    assert len(checks) >= 2 * len(clients)
    assert len(set(checks)) <= 4
    assert woken == []


async def test_the_last_client_of_a_shared_check_cancels_its_timer(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    before = server.runtime.statistics()["timers"]
    clients = [await server.connect() for _ in range(2)]
    for expected, client in zip((1, 0), clients, strict=True):
        client.end()
        await settle()
        assert server.runtime.statistics()["timers"] == before + expected


async def test_an_idle_connection_and_its_channel_keep_all_they_need_in_slots(serve: Serve) -> None:
    """A dict of its own would take 300 bytes. It depends on the first instances if Python shares its keys."""
    server = await serve(Endpoint(sockets=ENDPOINT))
    sessions = server.listen(SESSION_STARTED)
    client = await server.connect()
    await client.join()
    connection = sessions[0][1]["server"]
    channels = [
        each
        for each in gc.get_objects()
        if type(each) is ChannelServer and each.link is connection.link
    ]
    assert len(channels) == 1
    for each in (connection, *channels):
        # A debugging runtime wraps the callbacks of the instance.
        assert vars(each).keys() <= set(CALLBACKS)


async def test_frames_of_the_server_do_not_keep_a_connection_alive(serve: Serve) -> None:
    server = await serve(Endpoint(sockets={"/socket": Mount(UserSocket, timeout=30.0)}))
    client = await server.connect()
    await client.join()
    for _ in range(4):
        await trio.sleep(8)
        server.endpoint.broadcast("room:a", "shouted", {})
    assert Close(1002) in client.frames()


async def test_a_client_that_reads_too_slowly_is_closed_with_1013_and_counted(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT, max_buffered_messages=10))
    overflows = server.listen(SOCKET_OVERFLOW)
    gate = Gate()
    slow, other = await server.connect(gate=gate), await server.connect()
    await slow.join()
    await other.join()
    reasons = await reason_of(server.channels("room:a")[0])
    gate.shut()
    for n in range(13):
        server.endpoint.broadcast("room:a", "shouted", {"n": n})
        await settle()
    # One is being written, ten wait, the rest is dropped.
    assert other.frames() == [[None, None, "room:a", "shouted", {"n": n}] for n in range(13)]
    assert [(each["dropped"], about["code"]) for each, about in overflows] == [(1, 1013)]
    assert server.endpoint.statistics()["counts"] == {SOCKET_OVERFLOW: 1}
    assert reasons == [Shutdown("closed")]
    gate.opened.set()
    await settle()
    assert slow.frames() == [
        *([None, None, "room:a", "shouted", {"n": n}] for n in range(11)),
        Close(1013),
        EOF,
    ]


async def test_a_client_that_reads_nothing_at_all_is_cut_off_five_seconds_later(
    serve: Serve,
) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT, max_buffered_bytes=1000))
    before = Footprint.of(server.runtime)
    gate = Gate()
    slow = await server.connect(gate=gate)
    await slow.join()
    gate.shut()
    for _ in range(4):
        server.endpoint.broadcast("room:a", "shouted", {"text": "x" * 500})
        await settle()
    await trio.sleep(4.9)
    assert not slow.is_closed
    await trio.sleep(0.2)
    assert slow.is_closed
    assert Footprint.of(server.runtime) == before


async def test_the_first_reason_to_close_wins(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    client = await server.connect(query="&user=ann")
    client.write(in_text(b"no"))
    server.endpoint.broadcast("user:ann", "disconnect", {})
    await settle()
    (close, end) = client.frames()
    assert (close.code, end) in [(1001, EOF), (1011, EOF)]


async def test_no_frame_follows_the_close_frame(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    client = await server.connect(query="&user=ann")
    await client.join(payload={"farewell": True})
    server.endpoint.broadcast("user:ann", "disconnect", {})
    server.endpoint.broadcast("room:a", "shouted", {})
    client.write(client_frame(PING))
    await settle()
    assert client.frames() == [[None, None, "room:a", "shouted", {}], Close(1001), EOF]


# Failures around it


async def test_a_killed_connection_is_closed_and_does_not_affect_others(serve: Serve) -> None:
    server, one, other = await pair(serve)
    assert one.process is not None
    kill(one.process)
    await settle()
    assert one.is_closed
    await assert_goes_on(server, other)


async def test_a_killed_pool_of_channels_is_phx_error_and_a_rejoin_works(serve: Serve) -> None:
    server = await serve(Endpoint(sockets=ENDPOINT))
    client = await server.connect()
    topics = ["room:a", "room:b", "room:c", "room:d"]
    for number, topic in enumerate(topics):
        await client.join(topic, str(number))
    pools = [actors.whereis((server.endpoint, "channels", "UserSocket", n)) for n in range(2)]
    for pool in pools:
        assert pool is not None
        kill(pool)
    await settle()
    assert sorted(client.frames()) == [phx_error(str(n), topic) for n, topic in enumerate(topics)]
    for number, topic in enumerate(topics, 10):
        await client.join(topic, str(number))
    assert client.process is not None
    assert is_alive(client.process)


async def test_a_join_while_its_pool_is_gone_is_a_join_that_crashed(serve: Serve) -> None:
    server = await serve(Endpoint(sockets={"/socket": Mount(UserSocket, partitions=1)}))
    client = await server.connect()
    before = server.runtime.processes()
    (pool,) = [
        child.pid
        for child in await Supervisor.which_children(server.pid)
        if child.id == "UserSocket channels"
    ]
    await Supervisor.terminate_child(pool, 0)
    got = await client.exchange(("1", "1", "room:a", "phx_join"))
    assert got == [reply("1", "1", "room:a", {"reason": "join crashed"}, "error")]
    await Supervisor.restart_child(pool, 0)
    assert len(server.runtime.processes()) == len(before)
    await client.join("room:a", "2")


async def test_a_busy_connection_stops_reading_and_catches_up(serve: Serve) -> None:
    server = await serve(Endpoint(sockets={"/socket": Mount(UserSocket, partitions=1)}))
    other = await server.connect()
    await other.join(payload={"trap": True})
    client = await server.connect()
    await client.join("room:b", "1")
    stuck = server.channel("room:a")
    pool = (server.endpoint, "channels", "UserSocket", 0)
    # A channel takes three seconds to stop; until then its pool starts no other.
    other.send(("1", "2", "room:a", "sleep", {"seconds": 3}))
    await settle()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(DynamicSupervisor.terminate_child, pool, stuck)
        await settle()
        client.send(("2", "2", "room:c", "phx_join"))
        await settle()
        big = "x" * 60_000
        for n in range(40):
            client.send(("1", str(n), "room:b", "echo", {"n": n, "big": big}))
            await settle()
        assert client.process is not None
        waiting = server.runtime.process_info(client.process)
        assert waiting is not None
        assert 8 <= waiting["queue_length"] <= 10
    await settle()
    frames = client.frames()
    assert reply("2", "2", "room:c") in frames
    assert [f[1] for f in frames if f[2] == "room:b"] == [str(n) for n in range(40)]
