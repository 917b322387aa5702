"""The verbs of a channel, the time when each is legal, and the errors at other times."""

from __future__ import annotations

from typing import Any

import pytest
import trio

import actors
from actors import InvalidOperation, Pid, call, cast, send, spawn
from channels import (
    Binary,
    Channel,
    ChannelsError,
    EncodeError,
    Endpoint,
    PushReply,
    SocketRef,
    UnhandledEvent,
    handle_in,
    handle_out,
    reply_to,
)
from channels.errors import MISTAKES
from tests.channels.conftest import Serve
from tests.channels.rooms import UserSocket
from tests.channels.support import Client, Data, Server, phx_error, reply, settle
from tests.channels.transports.frames import BINARY


async def serving(serve: Serve, channel: type[Channel]) -> tuple[Server, Client]:
    """A server of this channel, and a client that has joined it."""

    class RoomSocket(UserSocket):
        channels = {"room:*": channel}

    server = await serve(Endpoint(sockets={"/socket": RoomSocket}))
    client = await server.connect()
    await client.join()
    return server, client


async def assert_crash(server: Server, client: Client, event: str, payload: Any) -> Exception:
    """Push an event that crashes the channel, and return why."""
    crashes = server.crashes()
    got = await client.exchange(("1", "2", "room:a", event, payload))
    assert got == [phx_error("1", "room:a")]
    (error,) = crashes
    assert isinstance(error, Exception)
    return error


# Events without a handler


async def test_an_event_without_a_handler_crashes_the_channel_and_says_what_to_add(
    serve: Serve,
) -> None:
    class Plain(Channel):
        pass

    error = await assert_crash(*await serving(serve, Plain), "unknown", {})
    assert isinstance(error, UnhandledEvent)
    assert (error.channel, error.event) == (Plain, "unknown")
    assert str(error) == (
        "Plain has no handler for the event 'unknown'; add one with @handle_in(\"...\"), or override "
        "handle_in(event, payload) to handle all other events"
    )


@pytest.mark.parametrize("event", ["phx_reply", "phx_error", "phx_close"])
async def test_a_client_may_push_an_event_that_only_servers_send(serve: Serve, event: str) -> None:
    class Plain(Channel):
        pass

    error = await assert_crash(*await serving(serve, Plain), event, {})
    assert isinstance(error, UnhandledEvent)


async def test_handle_in_gets_events_without_a_handler(serve: Serve) -> None:
    class Open(Channel):
        @handle_in("mine")
        async def mine(self, payload: Any) -> PushReply:
            return PushReply({"by": "mine"})

        async def handle_in(self, event: str, payload: Any) -> PushReply:
            return PushReply({"by": event, "got": payload})

    _, client = await serving(serve, Open)
    assert await client.exchange(
        ("1", "2", "room:a", "mine"), ("1", "3", "room:a", "other", [1, None])
    ) == [
        reply("1", "2", "room:a", {"by": "mine"}),
        reply("1", "3", "room:a", {"by": "other", "got": [1, None]}),
    ]


# Calls and casts


async def test_calls_and_casts_without_a_callback_crash_and_say_what_to_add(serve: Serve) -> None:
    class Plain(Channel):
        pass

    server, client = await serving(serve, Plain)
    crashes = server.crashes()
    cast(server.channel("room:a"), "hello")
    await settle()
    await client.join(ref="2")
    with pytest.raises(actors.ServerExit):
        await call(server.channel("room:a"), "hello")
    assert [str(error) for error in crashes] == [
        "Plain received the cast 'hello' but has no handle_cast; add one",
        "Plain received the call 'hello' but has no handle_call; add one, or use send()",
    ]


async def test_a_continue_without_a_callback_crashes_and_says_what_to_add(serve: Serve) -> None:
    class Plain(Channel):
        @handle_in("go")
        async def go(self, payload: Any) -> Any:
            return actors.Continue(1)

    error = await assert_crash(*await serving(serve, Plain), "go", {})
    assert str(error) == "Plain returned Continue(1) but has no handle_continue; add one"


async def test_messages_without_a_callback_are_ignored(serve: Serve) -> None:
    class Plain(Channel):
        pass

    server, client = await serving(serve, Plain)
    send(server.channel("room:a"), "hello")
    await settle()
    assert client.frames() == []
    assert len(server.channels("room:a")) == 1


async def test_a_call_is_answered_by_the_channel(serve: Serve) -> None:
    class Counter(Channel):
        count = 0

        async def handle_cast(self, message: Any) -> None:
            self.count += message

        async def handle_call(self, request: Any, sender: actors.Sender) -> actors.Reply:
            return actors.Reply((request, self.count))

    server, _ = await serving(serve, Counter)
    cast(server.channel("room:a"), 3)
    assert await call(server.channel("room:a"), "count") == ("count", 3)


# Pushing


async def test_a_push_that_is_not_an_object_raises_with_the_event(
    serve: Serve,
) -> None:
    class Odd(Channel):
        @handle_in("go")
        async def go(self, payload: Any) -> None:
            self.push("pushed", payload)

    error = await assert_crash(*await serving(serve, Odd), "go", ["no", "object"])
    assert isinstance(error, EncodeError)
    assert (error.kind, error.topic, error.event) == ("push", "room:a", "pushed")


async def test_binaries_are_sent_and_received_without_base64(serve: Serve) -> None:
    class Raw(Channel):
        @handle_in("echo")
        async def echo(self, payload: Any) -> PushReply:
            self.push("pushed", Binary(b"p" + payload.data))
            self.broadcast("shouted", Binary(b"b" + payload.data))
            return PushReply(Binary(b"r" + payload.data))

    _, client = await serving(serve, Raw)
    client.send_binary(b"\x00\x01\x01\x06\x0412room:aechohi")
    await settle()
    assert client.frames() == [
        Data(BINARY, b"\x00\x01\x06\x061room:apushedphi"),
        Data(BINARY, b"\x02\x06\x07room:ashoutedbhi"),
        Data(BINARY, b"\x01\x01\x01\x06\x0212room:aokrhi"),
    ]


@pytest.mark.parametrize("verb", ["push", "broadcast"])
async def test_a_channel_that_pushes_before_its_join_is_accepted_gets_advice(
    serve: Serve, verb: str
) -> None:
    caught: list[InvalidOperation] = []

    class Early(Channel):
        async def join(self, topic: str, payload: Any) -> None:
            with pytest.raises(InvalidOperation) as raised:
                getattr(self, verb)("early", {})
            caught.append(raised.value)

    await serving(serve, Early)
    (error,) = caught
    assert error.verb == verb
    assert str(error) == (
        f"the channel for 'room:a' called {verb} before its join was accepted; return the first data from join, or "
        "send() a message to current_pid() and push from handle_info"
    )


async def test_a_channel_can_send_itself_a_message_to_push_after_its_join(serve: Serve) -> None:
    class Eager(Channel):
        async def join(self, topic: str, payload: Any) -> None:
            send(actors.current_pid(), "joined")

        async def handle_info(self, message: Any) -> None:
            self.push("news", {"n": 1})

    class RoomSocket(UserSocket):
        channels = {"room:*": Eager}

    server = await serve(Endpoint(sockets={"/socket": RoomSocket}))
    client = await server.connect()
    assert await client.exchange(("1", "1", "room:a", "phx_join")) == [
        reply("1", "1", "room:a"),
        ["1", None, "room:a", "news", {"n": 1}],
    ]


# Answering later


class Later(Channel):
    """Keeps pushes, and has them answered by others."""

    kept: SocketRef

    @handle_in("keep")
    async def keep(self, payload: Any) -> None:
        self.kept = self.socket_ref()

    @handle_in("delegate")
    async def delegate(self, payload: Any) -> None:
        spawn(answer_in, payload["seconds"], self.socket_ref())

    @handle_out("out")
    async def out(self, payload: Any) -> None:
        self.socket_ref()

    async def handle_info(self, message: Any) -> None:
        if message == "ref":
            self.socket_ref()
        reply_to(self.kept, PushReply({"told": message}))


async def answer_in(seconds: float, ref: SocketRef) -> None:
    await trio.sleep(seconds)
    reply_to(ref, PushReply({"after": seconds}, status="done"))


async def test_a_push_may_be_answered_later_and_more_than_once(serve: Serve) -> None:
    server, client = await serving(serve, Later)
    assert await client.exchange(("1", "2", "room:a", "keep")) == []
    for message in ("a", "b"):
        send(server.channel("room:a"), message)
    await settle()
    assert client.frames() == [
        reply("1", "2", "room:a", {"told": "a"}),
        reply("1", "2", "room:a", {"told": "b"}),
    ]


async def test_any_process_may_answer_even_after_the_channel_has_ended(serve: Serve) -> None:
    _, client = await serving(serve, Later)
    await client.exchange(("1", "2", "room:a", "delegate", {"seconds": 3}))
    await client.exchange(("1", "3", "room:a", "phx_leave"))
    await trio.sleep(4)
    assert client.frames() == [reply("1", "2", "room:a", {"after": 3}, "done")]


async def test_an_answer_to_a_client_that_has_gone_does_not_raise(serve: Serve) -> None:
    server, client = await serving(serve, Later)
    crashes = server.crashes()
    await client.exchange(("1", "2", "room:a", "delegate", {"seconds": 3}))
    client.close()
    await trio.sleep(4)
    assert crashes == []


async def test_a_push_without_a_ref_cannot_be_answered(serve: Serve) -> None:
    server, client = await serving(serve, Later)
    crashes = server.crashes()
    assert await client.exchange(("1", None, "room:a", "keep")) == [phx_error("1", "room:a")]
    (error,) = crashes
    assert isinstance(error, InvalidOperation)
    assert "the channel for 'room:a' called socket_ref()" in str(error)
    assert "call socket_ref() in the handler of the push" in str(error)


@pytest.mark.parametrize("way", ["info", "out"])
async def test_socket_ref_raises_outside_the_handler_of_a_push(serve: Serve, way: str) -> None:
    server, client = await serving(serve, Later)
    await client.exchange(("1", "2", "room:a", "keep"))
    crashes = server.crashes()
    if way == "info":
        send(server.channel("room:a"), "ref")
    else:
        server.endpoint.broadcast("room:a", "out", {})
    await settle()
    assert [type(error) for error in crashes] == [InvalidOperation]


async def test_a_reply_is_ok_and_empty_unless_it_says_otherwise() -> None:
    assert (PushReply().payload, PushReply().status) == ({}, "ok")
    assert PushReply([1], status="weird") == PushReply([1], "weird")


def test_mistakes_are_errors_of_channels() -> None:
    assert issubclass(UnhandledEvent, ChannelsError)
    assert InvalidOperation in MISTAKES


# State


async def test_terminate_sees_the_changes_of_the_failed_handler(serve: Serve) -> None:
    class Halfway(Channel):
        @handle_in("boom")
        async def boom(self, payload: Any) -> None:
            self.assigns["step"] = "half"
            raise RuntimeError("boom")

        async def terminate(self, reason: Any) -> None:
            self.push("bye", {"step": self.assigns["step"]})

    _, client = await serving(serve, Halfway)
    assert await client.exchange(("1", "2", "room:a", "boom")) == [
        ["1", None, "room:a", "bye", {"step": "half"}],
        phx_error("1", "room:a"),
    ]


async def test_the_state_of_an_instance_ends_with_its_process(serve: Serve) -> None:
    class Counter(Channel):
        def __init__(self) -> None:
            self.count = 0

        @handle_in("count")
        async def up(self, payload: Any) -> PushReply:
            self.count += 1
            return PushReply({"count": self.count})

        @handle_in("boom")
        async def boom(self, payload: Any) -> None:
            raise RuntimeError("boom")

    server, client = await serving(serve, Counter)
    pids: list[Pid] = server.channels("room:a")
    got = await client.exchange(*(("1", str(n), "room:a", "count") for n in (2, 3)))
    assert [frame[4]["response"]["count"] for frame in got] == [1, 2]
    await client.exchange(("1", "4", "room:a", "boom"))
    await client.join(ref="5")
    got = await client.exchange(("5", "6", "room:a", "count"))
    assert got == [reply("5", "6", "room:a", {"count": 1})]
    assert server.channels("room:a") != pids
