"""The process of a polling client: its lifetime, its end, its bounds, and its clean-up."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from actors import Shutdown, call, is_alive, kill, send, sys
from actors.servers.gen_server import system_call
from channels import (
    Binary,
    Channel,
    ConnectInfo,
    ConnectRefused,
    Draining,
    Endpoint,
    LongPoll,
    Mount,
    PushReply,
    Socket,
    handle_in,
)
from channels.connection.session_server import WAITING_LIMIT
from channels.longpoll.session import LongPollSession
from channels.protocol.link import READ_ON_AT, ReadOn
from channels.protocol.longpoll import Line
from channels.telemetry import (
    CONNECTION_CLOSED,
    CONNECTION_REFUSED,
    LONGPOLL_UNSENDABLE,
    SOCKET_EXPIRED,
    SOCKET_MALFORMED,
    SOCKET_OVERFLOW,
)
from supervision import ChildSpec, DynamicSupervisor, render
from tests.channels.conftest import Serve
from tests.channels.polling import NDJSON, Poller, line, sessions
from tests.channels.rooms import UserSocket
from tests.channels.support import (
    Answer,
    Footprint,
    Server,
    phx_error,
    reason_of,
    reply,
    settle,
)

POLLED = Mount(UserSocket, longpoll=True)


@pytest.fixture
async def server(serve: Serve) -> Server:
    return await serve(Endpoint(sockets={"/socket": POLLED}))


@pytest.fixture
async def poller(server: Server) -> Poller:
    return await Poller(server).open()


# How long


async def test_sessions_are_processes_under_the_endpoint(server: Server) -> None:
    poller = await Poller(server).open()
    await poller.join()
    await trio.sleep(6)  # the connections of its requests were closed for their idleness
    assert render(server.pid, pids=False).splitlines()[1:] == [
        "├── UserSocket channels (one_for_one)",
        "│   ├── 0 (dynamic)",
        "│   └── 1 (dynamic)",
        "│       └── Room 'room:a'",
        "├── flusher",
        "├── poller",
        "├── quiet_poller",
        "├── application",
        "├── sessions (dynamic)",
        "│   └── LongPollSession",
        "├── connections (dynamic)",
        "├── listener",
        "└── drainer",
    ]


async def test_a_session_lives_as_long_as_it_is_polled(poller: Poller) -> None:
    await poller.join()
    for _ in range(10):
        held = await poller.begin("GET")
        await trio.sleep(12)
        said = held.said()
        assert said is not None
        assert said["status"] == 204
    assert await poller.exchange(("1", "2", "room:a", "count")) == [
        reply("1", "2", "room:a", {"count": 1})
    ]


async def test_a_session_that_nobody_polls_ends_and_its_channels_with_it(poller: Poller) -> None:
    await trio.sleep(1)
    await poller.join()  # polls at 1 s; looked at at 15 s and at 30 s
    ((session,), channel) = sessions(poller.server), poller.server.channel("room:a")
    ends = [await reason_of(pid) for pid in (session, channel)]
    await trio.sleep(28.9)
    assert ends == [[], []]
    await trio.sleep(0.2)
    assert ends == [[Shutdown("inactive")], [Shutdown("inactive")]]
    assert await poller.send(("1", "2", "room:a", "echo")) == 410
    assert (await poller.get())["status"] == 410


async def test_posts_alone_do_not_keep_a_session(poller: Poller) -> None:
    for _ in range(6):
        assert await poller.send((None, "1", "phoenix", "heartbeat")) == 200
        await trio.sleep(2.5)
    assert await poller.send((None, "1", "phoenix", "heartbeat")) == 410


async def test_a_session_that_was_never_polled_ends_too(poller: Poller) -> None:
    await trio.sleep(14.9)
    assert len(sessions(poller.server)) == 1
    await trio.sleep(0.2)
    assert sessions(poller.server) == []


async def test_the_window_says_how_long(serve: Serve) -> None:
    mount = Mount(UserSocket, longpoll=LongPoll(window=2.0))
    server = await serve(Endpoint(sockets={"/socket": mount}))
    held = await (await Poller(server).open()).begin("GET")
    await trio.sleep(2.1)
    said = held.said()
    assert said is not None
    assert said["status"] == 204
    await trio.sleep(4)
    assert sessions(server) == []


async def test_a_client_that_goes_during_connect_leaves_a_session_that_ends(serve: Serve) -> None:
    class Slow(Socket):
        async def connect(self, params: dict[str, Any], connect_info: ConnectInfo) -> None:
            await trio.sleep(20)

    server = await serve(Endpoint(sockets={"/socket": Mount(Slow, longpoll=True)}))
    asked = await Poller(server).begin("GET")
    other = await Poller(server).begin("GET")
    asked.go()
    await trio.sleep(20.1)
    assert other.said() is not None, "one does not wait for the other"
    await trio.sleep(20)
    assert sessions(server) == []


async def test_a_client_that_goes_before_it_is_refused_leaves_a_session_that_ends(
    serve: Serve,
) -> None:
    class Slow(Socket):
        async def connect(self, params: dict[str, Any], connect_info: ConnectInfo) -> None:
            await trio.sleep(3)
            raise ConnectRefused

    server = await serve(Endpoint(sockets={"/socket": Mount(Slow, longpoll=True)}))
    pid = await DynamicSupervisor.start_child(
        (server.endpoint, "sessions"),
        ChildSpec("session", LongPollSession.spawn_link, restart="temporary"),
        server.services,
        server.services.longpolls["/socket/longpoll"],
        {"vsn": "2.0.0"},
        ConnectInfo(),
    )
    await trio.sleep(17)
    assert is_alive(pid)
    await trio.sleep(2)
    assert not is_alive(pid)


async def test_nothing_is_left_of_a_session(server: Server) -> None:
    before = Footprint.of(server.runtime)
    for token in ("", "&token=deny", "&token=crash"):
        asked = await Poller(server, query=f"vsn=2.0.0{token}").begin("GET")
        assert asked.answer() is not None
    poller = await Poller(server).open()
    await poller.join()
    assert await poller.post(b"{", None) == 408
    (await (await Poller(server).open()).begin("GET")).go()
    await trio.sleep(40)
    assert Footprint.of(server.runtime) == before
    assert server.services.admission.polling == {}


async def test_a_slow_join_does_not_hold_up_its_post(poller: Poller) -> None:
    join = ("1", "1", "room:a", "phx_join", {"sleep": 3})
    assert await poller.send(join, (None, "2", "phoenix", "heartbeat")) == 200
    assert await poller.messages() == [reply(None, "2", "phoenix")]
    held = await poller.begin("GET")
    await trio.sleep(3)
    await settle()
    said = held.said()
    assert said is not None
    assert [json.loads(message) for message in said["messages"]] == [reply("1", "1", "room:a")]


# What ends it


async def test_disconnect_ends_it_and_a_poll_that_is_held_is_answered_at_once(
    server: Server,
) -> None:
    poller = await Poller(server, query="vsn=2.0.0&user=ann").open()
    await poller.join()
    closed = server.listen(CONNECTION_CLOSED)
    ends = await reason_of(server.channel("room:a"))
    held = await poller.begin("GET")
    server.endpoint.broadcast("user:ann", "disconnect", {})
    await settle()
    said = held.said()
    assert said is not None
    assert (said["status"], said["messages"]) == (204, [])
    assert ends == [Shutdown("disconnected")]
    assert [about["cause"] for _, about in closed] == ["disconnect was broadcast"]
    assert (await poller.get())["status"] == 410


async def test_its_deadline_ends_it_and_the_next_request_gets_410(server: Server) -> None:
    poller = await Poller(server, query="vsn=2.0.0&expire=3").open()
    await poller.join()
    ends = await reason_of(server.channel("room:a"))
    held = await poller.begin("GET")
    await trio.sleep(3.1)
    said = held.said()
    assert said is not None
    assert (said["status"], said["messages"]) == (204, [])
    assert ends == [Shutdown("expired")]
    assert server.endpoint.statistics()["counts"] == {SOCKET_EXPIRED: 1}
    assert (await poller.get())["status"] == 410


async def test_what_waits_when_it_ends_is_handed_out_to_a_poll_that_is_held(
    server: Server,
) -> None:
    poller = await Poller(server, query="vsn=2.0.0&user=ann").open()
    await poller.join()
    held = await poller.begin("GET")
    (session,) = sessions(server)
    await sys.suspend(session)
    server.endpoint.broadcast("user:ann", "disconnect", {})
    server.endpoint.broadcast("room:a", "bye", {})
    await sys.resume(session)
    await settle()
    said = held.said()
    assert said is not None
    assert [json.loads(message)[3] for message in said["messages"]] == ["bye"]


async def test_messages_to_an_ended_session_are_dropped(
    poller: Poller,
) -> None:
    await poller.join(payload={"farewell": True, "linger": 1})
    (session,) = sessions(poller.server)
    before = poller.server.runtime.statistics()["dead_letters"]
    kill(session)
    await trio.sleep(2)
    assert poller.server.channels("room:a") == []
    assert poller.server.runtime.statistics()["dead_letters"] == before


async def test_a_session_that_is_killed_is_gone_for_its_client(poller: Poller) -> None:
    await poller.join()
    held = await poller.begin("GET")
    (session,) = sessions(poller.server)
    kill(session)
    await settle()
    said = held.said()
    assert said is not None
    assert said["status"] == 204
    assert poller.server.channels("room:a") == []
    assert await poller.send(("1", "2", "room:a", "echo")) == 410


async def test_a_crash_of_a_channel_is_phx_error_and_the_session_lives(poller: Poller) -> None:
    await poller.join()
    assert await poller.exchange(("1", "2", "room:a", "boom")) == [phx_error("1", "room:a")]
    await poller.join(ref="3")


async def test_an_invalid_message_is_reported_and_counted_once(poller: Poller) -> None:
    heard = poller.server.listen(SOCKET_MALFORMED)
    assert await poller.send(("1", "2", "room:a", "echo"), ("1",), ("1",)) == 408
    assert len(heard) == 1
    counts = poller.server.endpoint.statistics()["counts"]
    assert counts[SOCKET_MALFORMED] == 1


async def test_a_stop_of_the_endpoint_ends_sessions_first_and_answers_polls(
    server: Server,
) -> None:
    poller = await Poller(server).open()
    await poller.join()
    ends = await reason_of(server.channel("room:a"))
    held = await poller.begin("GET")
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.stop)
    assert trio.current_time() == began
    said = held.said()
    assert said is not None
    assert (said["status"], said["messages"]) == (204, [])
    assert ends == [Shutdown("draining")]
    assert not is_alive(server.pid)


async def test_sessions_are_drained_in_batches(serve: Serve) -> None:
    draining = Draining(batch_size=1, batch_interval=2.0)
    server = await serve(Endpoint(sockets={"/socket": POLLED}, draining=draining))
    pollers = [await Poller(server).open() for _ in range(2)]
    await trio.sleep(6)  # the connections of those requests were closed for their idleness
    polls = [await poller.begin("GET") for poller in pollers]
    # After two batches, one for each client, the endpoint has stopped and has no services.
    polling = server.services.admission.polling
    assert len(polling) == 2
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.stop)
        await settle()
        assert sorted(poll.answer() is None for poll in polls) == [False, True]
        assert len(polling) == 1
        await trio.sleep(2.1)
        assert len(polling) == 0


async def test_a_get_that_begins_while_the_endpoint_drains_is_503(server: Server) -> None:
    poller = await Poller(server).open()
    client = await server.accept()
    client.write(poller.request("GET", token="none"))
    await settle()
    assert client.answer() is not None
    server.services.admission.draining = True
    client.write(poller.request("GET", token="none"))
    await settle()
    answer = client.answer()
    assert answer is not None
    assert (answer.status, answer.body) == (503, b""), "phoenix.js would not understand JSON here"
    server.services.admission.draining = False


# Bounds


async def test_sessions_are_bounded_and_there_is_room_again_when_one_ends(serve: Serve) -> None:
    server = await serve(Endpoint(sockets={"/socket": POLLED}, max_sessions=2))
    refused = server.listen(CONNECTION_REFUSED)
    one, other = await Poller(server).open(), await Poller(server).open()
    for _ in range(3):
        answer = await Poller(server).ask("GET")
        assert (answer.status, answer.body) == (503, b"")
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.headers["retry-after"] == "5"
    assert [about["limit"] for _, about in refused] == ["max_sessions"] * 3
    assert server.endpoint.statistics()["counts"][("session", "not_started")] == 3
    await one.join()
    assert await other.post(b"{", None) == 408
    await Poller(server).open()


async def test_a_client_that_takes_too_little_loses_its_session(serve: Serve) -> None:
    server = await serve(Endpoint(sockets={"/socket": POLLED}, max_buffered_messages=10))
    slow, friend = await Poller(server).open(), await Poller(server).open()
    heard = server.listen(SOCKET_OVERFLOW)
    await slow.join()
    await friend.join()
    for number in range(11):
        server.endpoint.broadcast("room:a", "new", {"n": number})
        await settle()
        assert len(await friend.messages()) == 1
    assert [measured for measured, _ in heard] == [{"dropped": 1}]
    assert (await slow.get())["status"] == 410
    assert len(server.channels("room:a")) == 1


class Sluggish(Channel):
    """A channel that waits for the test before each answer, or answers as many as the test allows."""

    gate = trio.Event()
    steps = 0

    @handle_in("slow")
    async def slow(self, payload: Any) -> PushReply:
        if Sluggish.steps:
            Sluggish.steps -= 1
        else:
            await Sluggish.gate.wait()
        return PushReply()


class SluggishSocket(Socket):
    channels = {"slow:*": Sluggish}


async def flooded(serve: Serve) -> Poller:
    """A client with a stuck channel and the maximum of pending work."""
    Sluggish.gate, Sluggish.steps = trio.Event(), 0
    server = await serve(Endpoint(sockets={"/socket": Mount(SluggishSocket, longpoll=True)}))
    poller = await Poller(server).open()
    await poller.join("slow:a")
    sent = 0
    while sent <= WAITING_LIMIT:  # one is being handled
        batch = min(100, WAITING_LIMIT + 1 - sent)
        assert await poller.send(*[("1", "2", "slow:a", "slow")] * batch) == 200
        sent += batch
    return poller


PUSH = line(("1", "3", "slow:a", "slow"))


async def test_posts_wait_while_a_channel_is_far_behind_and_are_not_lost(serve: Serve) -> None:
    poller = await flooded(serve)
    post = await poller.begin("POST", PUSH, ("content-type", NDJSON))
    assert post.answer() is None
    info = poller.server.runtime.process_info(poller.server.channel("slow:a"))
    assert info is not None
    assert info["queue_length"] <= WAITING_LIMIT
    Sluggish.gate.set()
    await settle()
    assert post.said() == {"status": 200}
    messages = await poller.messages()
    assert len(messages) == WAITING_LIMIT + 2
    assert messages[-1] == reply("1", "3", "slow:a")


async def test_posts_that_waited_for_the_window_are_408_and_forgotten(serve: Serve) -> None:
    poller = await flooded(serve)
    (session,) = sessions(poller.server)
    for _ in range(3):
        post = await poller.begin("POST", PUSH, ("content-type", NDJSON))
        held = await poller.begin("GET")
        await trio.sleep(10.1)
        assert post.said() == {"status": 408}
        assert held.answer() is not None
    assert await system_call(session, lambda loop: len(vars(loop.server)["held"])) == 1
    Sluggish.gate.set()
    await settle()
    messages = await poller.messages()
    assert len(messages) == WAITING_LIMIT + 1
    assert reply("1", "3", "slow:a") not in messages


async def test_posts_that_waited_are_held_up_again_when_the_channel_falls_behind_again(
    serve: Serve,
) -> None:
    poller = await flooded(serve)
    (session,) = sessions(poller.server)
    push = Line(PUSH, binary=False)
    answered: list[Any] = []

    async def post() -> None:
        answered.append(await call(session, push))

    async with trio.open_nursery() as nursery:
        for _ in range(700):
            nursery.start_soon(post)
        await settle()
        Sluggish.steps = 600
        Sluggish.gate.set()
        Sluggish.gate = trio.Event()
        await settle()
        info = poller.server.runtime.process_info(poller.server.channel("slow:a"))
        assert info is not None
        assert READ_ON_AT < info["queue_length"] <= WAITING_LIMIT
        assert 500 < len(answered) < 700
        Sluggish.gate.set()


async def test_a_post_that_comes_when_posts_may_just_go_on_stays_behind_one_that_waited(
    serve: Serve,
) -> None:
    poller = await flooded(serve)
    (session,) = sessions(poller.server)
    first, second = (
        Line(line(("1", ref, "slow:a", "slow")), binary=False) for ref in ("first", "second")
    )

    def catch_up(server: Any) -> None:
        for membership in server.members:
            membership.waiting = 0

    async def post_right_behind() -> None:
        # Both are in the mailbox before the session looks at either.
        send(session, ReadOn())
        await call(session, second)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, session, first)
        await settle()
        await system_call(session, lambda loop: catch_up(loop.server))
        nursery.start_soon(post_right_behind)
        await settle()
        Sluggish.gate.set()
        await settle()
    messages = await poller.messages()
    assert [message[1] for message in messages[-2:]] == ["first", "second"]


async def test_other_requests_go_on_while_posts_wait(serve: Serve) -> None:
    poller = await flooded(serve)
    await poller.begin("POST", PUSH, ("content-type", NDJSON))
    poller.server.endpoint.broadcast("slow:a", "new", {})
    assert await poller.messages() == [[None, None, "slow:a", "new", {}]]


# Binary messages to the client


async def test_a_binary_message_to_the_client_is_500_and_costs_what_waits_with_it(
    poller: Poller,
) -> None:
    await poller.join()
    heard = poller.server.listen(LONGPOLL_UNSENDABLE)
    poller.server.endpoint.broadcast("room:a", "lost", {})
    poller.server.endpoint.broadcast("room:a", "blob", Binary(b"\xff"))
    answer: Answer = await poller.ask("GET")
    assert (answer.status, answer.body) == (500, b"")
    assert [measured for measured, _ in heard] == [{"messages": 2}]
    assert poller.server.endpoint.statistics()["counts"] == {LONGPOLL_UNSENDABLE: 1}
    poller.server.endpoint.broadcast("room:a", "new", {})
    assert await poller.messages() == [[None, None, "room:a", "new", {}]]


async def test_a_binary_message_that_is_text_by_chance_is_one(poller: Poller) -> None:
    await poller.join()
    poller.server.endpoint.broadcast("room:a", "blob", Binary(b"abc"))
    assert (await poller.get())["messages"] == ["\x02\x06\x04room:ablobabc"]


async def test_versions_and_transports_share_a_topic(server: Server) -> None:
    new, old = await Poller(server).open(), await Poller(server, query="").open()
    native = await server.connect()
    await new.join()
    await native.join()
    assert (
        await old.post(
            b'{"topic":"room:a","event":"phx_join","payload":{},"ref":"1"}', "application/json"
        )
        == 200
    )
    await old.get()
    assert await native.exchange(("1", "2", "room:a", "shout", {"n": 1})) == [
        [None, None, "room:a", "shouted", {"n": 1}]
    ]
    assert await new.messages() == [[None, None, "room:a", "shouted", {"n": 1}]]
    assert [json.loads(message) for message in (await old.get())["messages"]] == [
        {"topic": "room:a", "event": "shouted", "payload": {"n": 1}, "ref": None}
    ]


async def test_a_posted_message_with_too_many_values_ends_the_session(server: Server) -> None:
    heard = server.listen(SOCKET_MALFORMED)
    poller = await Poller(server).open()
    text = b'[null,"1","phoenix","heartbeat",[' + b"1," * 60_000 + b"1]]"
    await poller.post(text)
    ((_, about),) = heard
    assert about["code"] == 1009
    assert "max_json_values" in about["cause"]
    assert sessions(server) == []
