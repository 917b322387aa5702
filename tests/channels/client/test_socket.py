"""The client and the real server, over streams in memory and on a virtual clock, over both transports."""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

import pytest
import trio
import trio.testing
import wsproto
from wsproto.handshake import H11Handshake

from actors import NORMAL, stop
from actors.errors import InvalidOption
from channels import Endpoint
from channels.client.backoff import RetryTable
from channels.client.errors import (
    BufferFull,
    ChannelClosed,
    MessagesDropped,
    NotConnected,
    PushTimeout,
    Refused,
)
from channels.client.events import (
    ChannelEnded,
    ChannelLost,
    Connected,
    ConnectFailed,
    Disconnected,
    Dropped,
    FellBack,
    Joined,
    JoinRejected,
    Lost,
    Rejoined,
    Rejoining,
    Retrying,
)
from channels.client.feed import Feed
from channels.client.socket import ClientSocket, open_socket
from channels.errors import EncodeError
from channels.messages import Binary
from tests.channels.client.world import URL, RoomSocket, World, broadcast, kill_channel, until
from tests.channels.support import Server

TRANSPORTS = ("websocket", "longpoll")
both = pytest.mark.parametrize("transport", TRANSPORTS)


def opened(world: World, **options: Any) -> AbstractAsyncContextManager[ClientSocket]:
    return open_socket(URL, connect=world.connect, **options)


async def taken(feed: Feed[Any], count: int) -> list[Any]:
    """The next items of a feed."""
    with trio.fail_after(60):
        return [await anext(feed) for _ in range(count)]


# Joining and pushing


@both
async def test_a_client_joins_pushes_and_leaves(world: World, transport: Any) -> None:
    async with opened(world, transport=transport) as socket:
        assert socket.state == "open"
        async with socket.channel("room:a", {"name": "ann"}) as channel:
            assert channel.response == {"topic": "room:a", "name": "ann"}
            assert await channel.push("echo", {"n": 1}) == {"n": 1}
            assert len(world.server.channels("room:a")) == 1
        assert channel.state == "closed"
        await until(lambda: not world.server.channels("room:a"))
    await until(lambda: transport == "longpoll" or not world.server.connections())


@both
async def test_many_pushes_at_once_are_answered_each_with_its_own(
    world: World, transport: Any
) -> None:
    answers: dict[int, Any] = {}
    async with opened(world, transport=transport) as socket, socket.channel("room:a") as channel:

        async def push(number: int) -> None:
            answers[number] = await channel.push("echo", {"n": number})

        async with trio.open_nursery() as nursery:
            for number in range(250):
                nursery.start_soon(push, number)
    assert answers == {number: {"n": number} for number in range(250)}


@both
async def test_messages_arrive_in_order(world: World, transport: Any) -> None:
    async with opened(world, transport=transport) as socket, socket.channel("room:a") as channel:
        for number in range(20):
            broadcast(world.server, "room:a", "said", {"n": number})
        got = await taken(aiter(channel), 20)
        assert [(message.event, message.payload["n"]) for message in got] == [
            ("said", number) for number in range(20)
        ]


async def test_a_refused_join_raises_and_is_not_tried_again(world: World) -> None:
    async with opened(world) as socket:
        with pytest.raises(Refused) as caught:
            async with socket.channel("room:a", {"refuse": True}):
                pass
        assert (caught.value.status, caught.value.payload) == ("error", {"reason": "no"})
        assert (caught.value.topic, caught.value.event) == ("room:a", "phx_join")
        assert socket.statistics().channels == 0


async def test_a_topic_without_a_route_is_refused(world: World) -> None:
    async with opened(world) as socket:
        with pytest.raises(Refused) as refused:
            async with socket.channel("elsewhere"):
                pass
        assert refused.value.payload == {"reason": "unmatched topic"}


async def test_a_refused_join_that_nobody_waits_for_is_tried_again(world: World) -> None:
    refuse = {"refuse": True}
    async with opened(world) as socket:
        with socket.events() as events:
            async with socket.channel("room:a", lambda: dict(refuse), wait=False) as channel:
                assert await taken(events, 2) == [
                    JoinRejected("room:a", "error", {"reason": "no"}),
                    Rejoining("room:a", 1.0, 1),
                ]
                refuse["refuse"] = False
                assert await channel.wait_joined() == {"topic": "room:a", "refuse": False}


async def test_a_refused_push_raises_with_its_payload(world: World) -> None:
    async with opened(world) as socket, socket.channel("room:a") as channel:
        with pytest.raises(Refused) as caught:
            await channel.push("refuse", {"n": 1})
        assert (caught.value.status, caught.value.payload) == ("error", {"n": 1})


async def test_a_push_without_a_reply_times_out(world: World) -> None:
    async with opened(world) as socket, socket.channel("room:a") as channel:
        start = trio.current_time()
        with pytest.raises(PushTimeout) as caught:
            await channel.push("silence", timeout=3)
        assert trio.current_time() - start == pytest.approx(3)
        assert (caught.value.event, caught.value.timeout) == ("silence", 3)


async def test_the_default_timeout_of_a_push_is_ten_seconds(world: World) -> None:
    async with opened(world) as socket, socket.channel("room:a") as channel:
        with pytest.raises(PushTimeout) as caught:
            await channel.push("silence")
        assert caught.value.timeout == 10


async def test_a_push_without_waiting_has_its_result_later(world: World) -> None:
    async with opened(world) as socket, socket.channel("room:a") as channel:
        first, second = channel.push_nowait("echo", {"n": 1}), channel.push_nowait("refuse")
        assert first.status is None
        assert await first.wait() == {"n": 1}
        assert (str(first.status), first.response) == ("ok", {"n": 1})
        with pytest.raises(Refused):
            await second.wait()
        assert await first.wait() == {"n": 1}


async def test_bytes_travel_in_both_directions(world: World) -> None:
    async with opened(world) as socket, socket.channel("room:a") as channel:
        assert await channel.push("echo", Binary(b"\x00\x01")) == Binary(b"\x00\x01")
        channel.push_nowait("send_bytes")
        (message,) = await taken(aiter(channel), 1)
        assert (message.event, message.payload) == ("bytes", Binary(b"\x00\xff"))


async def test_bytes_travel_to_the_server_over_long_polling(world: World) -> None:
    async with opened(world, transport="longpoll") as socket, socket.channel("room:a") as channel:
        handled = world.server.listen(("phoenix", "channel_handled_in"))
        channel.push_nowait("silence", Binary(b"\x00\xff"))
        assert await channel.push("echo", {"n": 1}) == {"n": 1}
        assert handled[0][1]["params"] == Binary(b"\x00\xff")


async def test_a_push_that_cannot_be_encoded_raises_and_harms_nothing(world: World) -> None:
    async with opened(world) as socket, socket.channel("room:a") as channel:
        with pytest.raises(EncodeError, match="object"):
            await channel.push("echo", {"x": object()})
        with pytest.raises(EncodeError, match="put raw bytes into Binary"):
            await channel.push("echo", b"raw")
        assert await channel.push("echo", {}) == {}


async def test_a_cancelled_push_forgets_its_reply(world: World) -> None:
    async with opened(world) as socket, socket.channel("room:a") as channel:
        with trio.move_on_after(1) as scope:
            await channel.push("silence")
        assert scope.cancelled_caught
        assert channel.record.pending == {}
        assert await channel.push("echo", {"n": 1}) == {"n": 1}


# Feeds


async def test_a_feed_of_one_event_gets_its_payloads_only(world: World) -> None:
    async with opened(world) as socket, socket.channel("room:a") as channel:
        with channel.on("said") as said:
            broadcast(world.server, "room:a", "other", {})
            broadcast(world.server, "room:a", "said", {"n": 1})
            assert await taken(said, 1) == [{"n": 1}]
        broadcast(world.server, "room:a", "said", {"n": 2})
        await channel.push("echo")
        assert len(said) == 0
        assert [m.payload for m in await taken(aiter(channel), 3)] == [{}, {"n": 1}, {"n": 2}]


async def test_a_listener_is_called_until_it_is_detached(world: World) -> None:
    heard: list[Any] = []
    async with opened(world) as socket, socket.channel("room:a") as channel:
        detach = channel.listen("said", lambda payload, join_ref: heard.append((payload, join_ref)))
        await channel.push("say", {"n": 1})
        detach()
        await channel.push("say", {"n": 2})
        assert heard == [({"n": 1}, channel.record.join_ref)]


async def test_listeners_may_change_while_a_message_is_passed_on(world: World) -> None:
    heard: list[str] = []
    async with opened(world) as socket, socket.channel("room:a") as channel:

        def first(payload: Any, join_ref: Any) -> None:
            heard.append("first")
            detach_second()
            channel.listen("said", lambda payload, join_ref: heard.append("third"))

        channel.listen("said", first)
        detach_second = channel.listen("said", lambda payload, join_ref: heard.append("second"))
        await channel.push("say", {})
        assert heard == ["first", "second"]
        await channel.push("say", {})
        assert heard == ["first", "second", "first", "third"]


async def test_an_error_of_a_listener_leaves_the_block_as_it_is(world: World) -> None:
    def listener(payload: Any, join_ref: Any) -> None:
        raise LookupError("a bug")

    with pytest.raises(LookupError, match="a bug"):
        async with opened(world) as socket, socket.channel("room:a") as channel:
            channel.listen("said", listener)
            await channel.push("say", {})
            await trio.sleep_forever()


async def test_a_program_that_reads_too_slowly_gets_the_number_of_missed_messages(
    world: World,
) -> None:
    async with opened(world) as socket, socket.channel("room:a", max_messages=3) as channel:
        messages = aiter(channel)
        broadcast(world.server, "room:a", "said", {"n": 0})
        await taken(messages, 1)
        for number in range(1, 6):
            broadcast(world.server, "room:a", "said", {"n": number})
        await channel.push("echo")
        with pytest.raises(MessagesDropped) as caught:
            await anext(messages)
        assert (caught.value.topic, caught.value.count) == ("room:a", 2)
        assert [m.payload["n"] for m in await taken(messages, 3)] == [3, 4, 5]
        assert channel.dropped == 2


async def test_a_channel_that_nobody_reads_keeps_nothing_after_its_limit(world: World) -> None:
    async with opened(world) as socket, socket.channel("room:a", max_messages=3) as channel:
        with socket.events() as events:
            for number in range(10):
                broadcast(world.server, "room:a", "said", {"n": number})
            await channel.push("echo")
            assert await taken(events, 1) == [Dropped("room:a", 3)]
            assert len(aiter(channel)) == 0
            assert socket.statistics().dropped == 10
            with pytest.raises(MessagesDropped):
                await anext(aiter(channel))
            broadcast(world.server, "room:a", "said", {"n": 10})
            assert (await anext(aiter(channel))).payload == {"n": 10}
            assert len(events) == 0


@pytest.mark.parametrize("how", ["leave", "server", "socket"])
async def test_an_iteration_ends_when_the_channel_does(world: World, how: str) -> None:
    got: list[Any] = []
    async with opened(world) as socket, trio.open_nursery() as nursery:
        async with socket.channel("room:a") as channel:
            payloads = channel.on("said")

            async def read(feed: Any) -> None:
                got.extend([each async for each in feed])

            nursery.start_soon(read, channel)
            nursery.start_soon(read, payloads)
            await channel.push("say", {})
            match how:
                case "leave":
                    await channel.leave()
                case "server":
                    await stop(world.server.channel("room:a"), NORMAL)
                case _:
                    socket.close()
        await until(lambda: not nursery.child_tasks)
    assert len(got) == 2
    with pytest.raises(ChannelClosed):
        channel.push_nowait("echo")


# Coming back


@both
async def test_a_lost_connection_comes_back_with_its_channels(world: World, transport: Any) -> None:
    async with (
        opened(world, transport=transport) as socket,
        socket.channel("room:a") as channel,
        socket.channel("room:b") as other,
    ):
        with socket.events() as events:
            world.cut()
            await until(lambda: channel.state == other.state == "joined" and len(events) > 5)
            kinds = [type(event) for event in await taken(events, len(events))]
            assert kinds == [
                *(Lost, ChannelLost, ChannelLost, Retrying, Connected, Rejoined, Rejoined)
            ]
        assert await channel.push("echo", {"n": 1}) == {"n": 1}
        assert socket.statistics().connections == 2


async def test_a_server_that_is_down_is_asked_after_the_waits_of_the_table(world: World) -> None:
    async with opened(world) as socket, socket.channel("room:a") as channel:
        world.is_down = True
        del world.attempts[:]
        world.cut()
        await until(lambda: len(world.attempts) == 12)
        waits = [b - a for a, b in zip(world.attempts, world.attempts[1:], strict=False)]
        assert waits == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1, 2, 5, 5, 5])
        world.is_down = False
        await channel.wait_joined()


async def test_an_event_contains_the_time_of_an_outage(world: World) -> None:
    async with opened(world) as socket, socket.channel("room:a") as channel:
        with socket.events() as events:
            world.is_down = True
            world.cut()
            await trio.sleep(4)
            world.is_down = False
            await channel.wait_joined()
            told = await taken(events, len(events))
        (connected,) = [event for event in told if isinstance(event, Connected)]
        (rejoined,) = [event for event in told if isinstance(event, Rejoined)]
        assert connected.count == 2
        assert 4 <= connected.seconds <= rejoined.seconds < 10


async def test_pushes_during_an_outage_are_sent_after_it_in_order(world: World) -> None:
    async with opened(world) as socket, socket.channel("room:a") as channel:
        world.is_down = True
        world.cut()
        await trio.sleep(1)
        pushes = [channel.push_nowait("echo", {"n": number}, timeout=30) for number in range(5)]
        assert socket.statistics().buffered == 5
        await trio.sleep(5)
        world.is_down = False
        assert [await push.wait() for push in pushes] == [{"n": number} for number in range(5)]


async def test_the_pushes_that_may_wait_are_bounded(world: World) -> None:
    async with opened(world, max_buffered=2) as socket, socket.channel("room:a") as channel:
        world.is_down = True
        world.cut()
        await until(lambda: channel.state == "errored")
        channel.push_nowait("echo")
        channel.push_nowait("echo")
        with pytest.raises(BufferFull):
            channel.push_nowait("echo")


async def test_the_frames_that_may_wait_to_be_written_are_bounded(world: World) -> None:
    async with opened(world, max_buffered=5) as socket, socket.channel("room:a") as channel:
        for _ in range(5):
            channel.push_nowait("echo")
        with pytest.raises(BufferFull):
            channel.push_nowait("echo")
        await trio.testing.wait_all_tasks_blocked()
        channel.push_nowait("echo")


async def test_a_crashed_channel_joins_again_and_the_connection_stays(world: World) -> None:
    async with opened(world) as socket, socket.channel("room:a") as channel:
        with socket.events() as events:
            channel.push_nowait("crash")
            lost, rejoining, rejoined = await taken(events, 3)
            assert lost == ChannelLost("room:a", "channel_crash", is_crash=True)
            assert rejoining == Rejoining("room:a", 1.0, 1)
            assert rejoined.topic == "room:a"
            assert rejoined.seconds == pytest.approx(1.0)
        assert socket.statistics().connections == 1


async def test_a_killed_channel_joins_again(world: World) -> None:
    async with opened(world) as socket, socket.channel("room:a") as channel:
        kill_channel(world.server)
        await until(lambda: channel.state == "errored")
        await channel.wait_joined()
        assert await channel.push("echo", {}) == {}


async def test_a_server_that_goes_silent_is_noticed_by_the_heartbeat(world: World) -> None:
    async with opened(world, heartbeat_interval=5) as socket, socket.channel("room:a") as channel:
        start = trio.current_time()
        with socket.events() as events:
            # The server's end is there, but nobody reads or writes it any more.
            world.wires[-1].ours.send_stream.send_all_hook = trio.sleep_forever
            assert (await taken(events, 1)) == [Lost("heartbeat timeout", 1006)]
            assert trio.current_time() - start == pytest.approx(10, abs=0.5)
        await channel.wait_joined()


async def test_heartbeats_keep_an_idle_connection(world: World) -> None:
    async with opened(world) as socket, socket.channel("room:a") as channel:
        await trio.sleep(1000)
        assert socket.statistics().connections == 1
        assert await channel.push("echo", {}) == {}


async def test_long_polling_keeps_an_idle_session(world: World) -> None:
    async with opened(world, transport="longpoll") as socket, socket.channel("room:a") as channel:
        await trio.sleep(1000)
        assert socket.statistics().connections == 1
        assert await channel.push("echo", {}) == {}


async def test_params_and_tokens_that_are_functions_are_called_at_every_connect(
    world: World,
) -> None:
    numbers = iter(range(100))
    async with (
        opened(
            world,
            params=lambda: {"n": next(numbers)},
            auth_token=lambda: f"token-{next(numbers)}",
        ) as socket,
        socket.channel("room:a", lambda: {"j": next(numbers)}) as channel,
    ):
        assert channel.response == {"topic": "room:a", "j": 2}
        world.cut()
        await until(lambda: channel.state == "errored")
        assert await channel.wait_joined() == {"topic": "room:a", "j": 5}


@both
async def test_the_params_and_the_token_reach_the_server(world: World, transport: Any) -> None:
    heard = world.server.listen(("phoenix", "socket_connected"))
    async with opened(
        world, transport=transport, params={"user": {"id": 7}}, auth_token="a.secret"
    ):
        (_, about), *_ = heard
        assert about["socket"].assigns["params"]["user"] == {"id": "7"}
        assert about["socket"].assigns["token"] == "a.secret"


async def test_params_that_fail_in_the_background_leave_the_block_as_they_are(
    world: World,
) -> None:
    calls = iter([{"n": 1}])

    def params() -> Any:
        try:
            return next(calls)
        except StopIteration:
            raise LookupError("no token") from None

    with pytest.raises(LookupError, match="no token"):
        async with opened(world, params=params):
            world.cut()
            await trio.sleep_forever()


# Errors before the first connection


async def test_a_refused_connection_raises_at_once(world: World) -> None:
    start = trio.current_time()
    with pytest.raises(NotConnected) as caught:
        async with opened(world, params={"refuse": "yes"}):
            raise AssertionError("entered")
    assert caught.value.status == 403
    assert trio.current_time() - start < 1


@pytest.mark.parametrize("path", ["/", "/sockt"])
async def test_a_refusal_at_a_wrong_path_names_the_path_and_no_params(
    serve: Callable[[Endpoint], Awaitable[Server]], path: str
) -> None:
    world = World(await serve(Endpoint(sockets={"/socket": RoomSocket})))
    url, params = f"ws://server{path}", {"password": "hunter2"}
    with pytest.raises(NotConnected) as caught:
        async with open_socket(url, connect=world.connect, params=params):
            raise AssertionError("entered")
    assert caught.value.status == 404
    assert f"check that the server has a socket at the URL's path '{path}'" in str(caught.value)
    assert "hunter2" not in str(caught.value)


async def test_a_refused_session_raises_at_once(world: World) -> None:
    with pytest.raises(NotConnected) as caught:
        async with opened(world, params={"refuse": "yes"}, transport="longpoll"):
            raise AssertionError("entered")
    assert caught.value.status == 403


@both
async def test_a_server_that_is_down_raises_after_the_timeout(world: World, transport: Any) -> None:
    world.is_down = True
    start = trio.current_time()
    with pytest.raises(NotConnected, match="nobody listens"):
        async with opened(world, connect_timeout=3, transport=transport):
            raise AssertionError("entered")
    assert trio.current_time() - start == pytest.approx(3)
    assert len(world.attempts) > 5


async def test_a_server_that_comes_up_in_time_is_connected_to(world: World) -> None:
    world.is_down = True

    async def come_up() -> None:
        await trio.sleep(2)
        world.is_down = False

    async with trio.open_nursery() as nursery:
        nursery.start_soon(come_up)
        async with opened(world) as socket, socket.channel("room:a") as channel:
            assert await channel.push("echo", {}) == {}


async def test_a_block_can_begin_before_the_connection(world: World) -> None:
    world.is_down = True
    async with opened(world, wait=False) as socket:
        with socket.events() as events:
            async with socket.channel("room:a", wait=False) as channel:
                push = channel.push_nowait("echo", {"n": 1}, timeout=60)
                (failed, lost, retrying) = await taken(events, 3)
                assert isinstance(failed, ConnectFailed)
                assert "nobody listens" in failed.cause
                assert lost == ChannelLost("room:a", "connection_error")
                assert retrying == Retrying(0.01, 1)
                await trio.sleep(20)
                world.is_down = False
                assert await push.wait() == {"n": 1}


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 101 Switching",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
    ],
)
@pytest.mark.parametrize("ends", [True, False])
@both
async def test_a_server_that_answers_anything_fails_the_attempt_in_time(
    answer: bytes, ends: bool, transport: Any
) -> None:
    async def connect(host: str, port: int) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()

        async def serve() -> None:
            await theirs.receive_some()
            if answer:
                await theirs.send_all(answer)
            if ends:
                await theirs.aclose()

        nursery.start_soon(serve)
        return ours

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        with pytest.raises(NotConnected):
            async with open_socket(URL, connect=connect, connect_timeout=5, transport=transport):
                raise AssertionError("entered")
    assert trio.current_time() - start <= 5.5


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
async def test_a_server_that_is_busy_is_asked_again(world: World, status: int) -> None:
    attempts = 0

    async def connect(host: str, port: int) -> trio.abc.Stream:
        nonlocal attempts
        attempts += 1
        if attempts > 3:
            return await world.connect(host, port)
        ours, theirs = trio.testing.memory_stream_pair()
        await theirs.send_all(b"HTTP/1.1 %d Later\r\ncontent-length: 0\r\n\r\n" % status)
        return ours

    async with open_socket(URL, connect=connect) as socket:
        assert (attempts, socket.state) == (4, "open")


# The end


async def test_an_error_in_the_block_leaves_it_as_it_is(world: World) -> None:
    with pytest.raises(LookupError, match="mine"):
        async with opened(world) as socket, socket.channel("room:a"):
            raise LookupError("mine")
    await until(lambda: not world.server.channels("room:a"))


async def test_a_cancelled_block_ends_at_once(world: World) -> None:
    with trio.move_on_after(1) as scope:
        async with opened(world) as socket, socket.channel("room:a"):
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() < 2
    await until(lambda: not world.server.channels("room:a"))


async def test_the_end_of_the_block_is_a_close_in_good_order(world: World) -> None:
    heard = world.server.listen(("phoenix", "connection_closed"))
    async with opened(world) as socket, socket.channel("room:a", wait=True) as channel:
        push = channel.push_nowait("say", {})
        with socket.events() as events:
            socket.close()
            assert await taken(events, 2) == [
                ChannelEnded("room:a", "the program closed the socket"),
                Disconnected("the program closed the socket", 1000),
            ]
        with pytest.raises(ChannelClosed):
            await push.wait()
    await until(lambda: heard)
    assert heard[0][1]["code"] == 1000


async def test_a_final_close_code_ends_the_iterations_with_an_error(world: World) -> None:
    endpoint = world.server.endpoint
    async with opened(world, final_close_codes=[1001, 1012]) as socket:
        async with socket.channel("room:a") as channel:
            with socket.events() as events:
                await world.server.stop()
                with pytest.raises(ChannelClosed):
                    async for _ in channel:
                        pass
                *_, last = await taken(events, len(events))
                assert isinstance(last, Disconnected)
        with pytest.raises(NotConnected, match="ended"):
            await socket.wait_open()
    assert endpoint is not None


# Fallback


async def test_a_proxy_that_refuses_websockets_makes_the_client_poll(world: World) -> None:
    async def connect(host: str, port: int) -> trio.abc.Stream:
        stream = await world.connect(host, port)
        return _NoUpgrades(stream)

    async with open_socket(URL, connect=connect, longpoll_fallback_after=2.5, wait=False) as socket:
        with socket.events() as events:
            async with socket.channel("room:a") as channel:
                assert await channel.push("echo", {"n": 1}) == {"n": 1}
            kinds = [type(event) for event in await taken(events, len(events))]
            assert kinds[:4] == [ConnectFailed, FellBack, Connected, Joined]
        assert socket.statistics().transport == "longpoll"


class _NoUpgrades(trio.abc.Stream):
    """A stream through a proxy that does not know WebSockets."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def send_all(self, data: Any) -> None:
        await self._stream.send_all(bytes(data).replace(b"Upgrade: websocket\r\n", b""))

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> Any:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


# The rest


async def test_a_ping_takes_no_time_here(world: World) -> None:
    async with opened(world) as socket:
        assert await socket.ping() == pytest.approx(0)
        world.is_down = True
        world.cut()
        await until(lambda: socket.state != "open")
        with pytest.raises(NotConnected):
            await socket.ping()


async def test_lifecycle_events_are_telemetry_too(world: World) -> None:
    heard = world.server.listen(("channels", "client", "rejoined"))
    async with opened(world) as socket, socket.channel("room:a") as channel:
        world.cut()
        await until(lambda: channel.state == "errored")
        await channel.wait_joined()
        ((numbers, about),) = heard
        assert numbers == {"seconds": pytest.approx(0.01, abs=0.005)}
        assert about["url"] == "ws://server/socket/websocket"
        assert about["topic"] == "room:a"
        assert isinstance(about["event"], Rejoined)


async def test_the_statistics_count(world: World) -> None:
    async with opened(world) as socket, socket.channel("room:a"):
        numbers = socket.statistics()
        assert (numbers.state, numbers.transport, numbers.connections) == ("open", "websocket", 1)
        assert (numbers.channels, numbers.joined, numbers.buffered) == (1, 1, 0)
        assert (numbers.waiting, numbers.malformed, numbers.dropped) == (0, 0, 0)


async def test_jitter_comes_from_the_runtime(world: World) -> None:
    async with opened(world, reconnect=RetryTable(jitter=1.0)) as socket:
        with socket.events() as events:
            world.cut()
            _, retrying = await taken(events, 2)
            assert 0 <= retrying.delay < 0.01


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"heartbeat_interval": -1},
        {"connect_timeout": "1"},
        {"poll_timeout": 0},
        {"longpoll_fallback_after": 0},
        {"max_buffered": 0},
        {"max_message_bytes": 1.5},
        {"transport": "udp"},
        {"headers": [("x", "a\r\nb: c")]},
        {"headers": [("a b", "c")]},
        {"headers": "abc"},
        {"auth_token": "a\nb"},
        {"auth_token": 7},
        {"params": ["a"]},
        {"reconnect": 5},
        {"rejoin": None},
        {"final_close_codes": 1000},
        {"final_close_codes": "1000"},
        {"ssl_context": True},
        {"telemetry": print},
    ],
)
async def test_an_invalid_option_is_refused(options: dict[str, Any], world: World) -> None:
    with pytest.raises(InvalidOption) as refused:
        async with opened(world, **options):
            raise AssertionError("entered")
    assert refused.value.option == next(iter(options))


@pytest.mark.parametrize(
    ("topic", "options"), [(7, {}), ("room:a", {"timeout": 0}), ("room:a", {"max_messages": 0})]
)
async def test_an_invalid_option_of_a_channel_is_refused(
    topic: Any, options: dict[str, Any], world: World
) -> None:
    async with opened(world) as socket:
        with pytest.raises(InvalidOption):
            socket.channel(topic, **options)


async def test_a_function_that_connects_must_be_one() -> None:
    with pytest.raises(InvalidOption) as refused:
        open_socket(URL, connect=cast("Any", "server"))
    assert refused.value.option == "connect"


@pytest.mark.parametrize(
    ("event", "options", "expected"),
    [
        (None, {}, "event"),
        ("echo", {"timeout": 0}, "timeout"),
        ("echo", {"timeout": "1"}, "timeout"),
    ],
)
async def test_an_invalid_option_of_a_push_is_refused(
    event: Any, options: dict[str, Any], expected: str, world: World
) -> None:
    async with opened(world) as socket, socket.channel("room:a") as channel:
        with pytest.raises(InvalidOption) as refused:
            await channel.push(event, **options)
        assert refused.value.option == expected


@pytest.mark.parametrize("headers", [{"x-name": "ann"}, [("x-name", "ann")]])
@both
async def test_headers_reach_the_server(world: World, headers: Any, transport: Any) -> None:
    heard = world.server.listen(("phoenix", "socket_connected"))
    async with opened(world, headers=headers, transport=transport):
        (_, about), *_ = heard
        assert about["socket"].assigns["headers"]["x-name"] == "ann"


async def test_an_open_connection_keeps_no_parser_of_its_handshake(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[Any]] = []

    def make(*args: Any) -> H11Handshake:
        handshake = H11Handshake(*args)
        made.append(weakref.ref(handshake))
        return handshake

    monkeypatch.setattr(wsproto, "H11Handshake", make)
    async with opened(world) as socket, socket.channel("room:a") as channel:
        assert await channel.push("echo", {"n": 1}) == {"n": 1}
        assert [each() for each in made] == [None]


async def test_the_client_works_without_a_runtime() -> None:
    async def connect(host: str, port: int) -> trio.abc.Stream:
        raise ConnectionRefusedError

    async with open_socket(
        URL, connect=connect, wait=False, reconnect=RetryTable(jitter=0.5)
    ) as socket:
        with socket.events() as events:
            failed, retrying = await taken(events, 2)
            assert isinstance(failed, ConnectFailed)
            assert 0.005 <= retrying.delay <= 0.01
