"""The process of one joined topic: which frames it writes, in which order, and how it ends."""

from __future__ import annotations

from typing import Any

import pytest
import trio

import actors
from actors import (
    Crash,
    InvalidOperation,
    InvalidReturn,
    Shutdown,
    Stop,
    call,
    cast,
    is_alive,
    kill,
    send,
    spawn,
)
from channels import Channel, EncodeError, Endpoint, Mount, PushReply, Route, Socket, handle_in
from channels.messages import Message
from channels.protocol.link import Link
from channels.protocol.session import Membership
from channels.serializers.serializer import Codec, Requirement
from channels.serializers.v2 import V2
from channels.telemetry import CHANNEL_JOINED
from channels.transports.out_buffer import Flusher, OutBuffer
from supervision.events import CHILD_TERMINATED
from tests.channels.conftest import Serve
from tests.channels.rooms import Room, UserSocket
from tests.channels.support import (
    EOF,
    phx_close,
    phx_error,
    reason_of,
    reply,
    settle,
)


def endpoint(channel: type[Channel] = Room) -> Endpoint:
    class RoomSocket(UserSocket):
        channels = {"room:*": channel}

    return Endpoint(sockets={"/socket": RoomSocket})


def push(join_ref: Any, topic: str, event: str, payload: Any) -> list[Any]:
    return [join_ref, None, topic, event, payload]


def bye(reason: object, join_ref: Any = "1", topic: str = "room:a") -> list[Any]:
    return push(join_ref, topic, "bye", {"reason": repr(reason)})


def unmatched(ref: Any, topic: str = "room:a") -> list[Any]:
    return reply(None, ref, topic, {"reason": "unmatched topic"}, "error")


# Joining


async def test_the_result_of_join_is_the_response(serve: Serve) -> None:
    client = await (await serve(endpoint())).connect()
    join = ("1", "1", "room:a", "phx_join", {"answer": {"hello": "world"}})
    assert await client.exchange(join) == [reply("1", "1", "room:a", {"hello": "world"})]


async def test_a_join_without_join_ref_is_answered_without_and_pushes_carry_its_ref(
    serve: Serve,
) -> None:
    client = await (await serve(endpoint())).connect()
    assert await client.exchange((None, "7", "room:a", "phx_join")) == [reply(None, "7", "room:a")]
    got = await client.exchange((None, "8", "room:a", "push", {"n": 1}))
    assert got == [push("7", "room:a", "pushed", {"n": 1})]
    assert await client.exchange((None, "9", "room:a", "boom")) == [phx_error(None, "room:a")]


async def test_a_refused_join_leaks_nothing_and_runs_terminate(serve: Serve) -> None:
    ended: list[Any] = []

    class Picky(Room):
        async def terminate(self, reason: Any) -> None:
            ended.append(reason)

    server = await serve(endpoint(Picky))
    client = await server.connect()
    before = server.runtime.processes()
    got = await client.exchange(("1", "1", "room:a", "phx_join", {"refuse": {"why": "no"}}))
    assert got == [reply("1", "1", "room:a", {"why": "no"}, "error")]
    assert ended == [actors.SHUTDOWN]
    assert server.runtime.processes() == before
    assert server.channels("room:a") == []
    assert await client.exchange(("1", "2", "room:a", "echo")) == [unmatched("2")]


class Broken(Room):
    """Its constructor fails."""

    def __init__(self) -> None:
        raise RuntimeError("constructor")


class PushesInJoin(Room):
    """Says something before it has been asked in."""

    async def join(self, topic: str, payload: Any) -> Any:
        self.push("early", {})


class BroadcastsInJoin(Room):
    """Says something to all before it has been asked in."""

    async def join(self, topic: str, payload: Any) -> Any:
        self.broadcast("early", {})


class ExitsInJoin(Room):
    """Goes cleanly, but without an answer."""

    async def join(self, topic: str, payload: Any) -> Any:
        actors.exit(actors.NORMAL)


@pytest.mark.parametrize(
    ("channel", "payload", "kind"),
    [
        (Room, {"crash": True}, RuntimeError),
        (Broken, {}, RuntimeError),
        (PushesInJoin, {}, InvalidOperation),
        (BroadcastsInJoin, {}, InvalidOperation),
        (ExitsInJoin, {}, None),
    ],
)
async def test_a_join_that_crashes_is_answered_and_does_not_run_terminate(
    serve: Serve, channel: type[Room], payload: Any, kind: type[Exception] | None
) -> None:
    class Careful(channel):  # type: ignore[misc, valid-type]
        async def terminate(self, reason: Any) -> None:
            ended.append(reason)

    ended: list[Any] = []
    server = await serve(endpoint(Careful))
    crashes = server.crashes()
    client = await server.connect()
    got = await client.exchange(("1", "1", "room:a", "phx_join", payload))
    assert got == [reply("1", "1", "room:a", {"reason": "join crashed"}, "error")]
    assert [type(each) for each in crashes] == ([] if kind is None else [kind])
    assert ended == []
    assert server.channels("room:a") == []


async def test_a_response_that_cannot_be_encoded_crashes_the_join(serve: Serve) -> None:
    class Odd(Room):
        async def join(self, topic: str, payload: Any) -> Any:
            return {"odd": object()}

    server = await serve(endpoint(Odd))
    client = await server.connect()
    got = await client.exchange(("1", "1", "room:a", "phx_join"))
    assert got == [reply("1", "1", "room:a", {"reason": "join crashed"}, "error")]
    assert server.channels("room:a") == []


async def test_messages_for_a_topic_wait_for_its_slow_join_and_are_handled_in_order(
    serve: Serve,
) -> None:
    client = await (await serve(endpoint())).connect()
    got = await client.exchange(
        ("1", "1", "room:a", "phx_join", {"sleep": 30}),
        ("1", "2", "room:a", "echo", {"n": 2}),
        ("1", "3", "room:a", "count"),
        ("1", "4", "room:a", "phx_leave"),
    )
    assert got == []
    await trio.sleep(31)
    assert client.frames() == [
        reply("1", "1", "room:a"),
        reply("1", "2", "room:a", {"n": 2}),
        reply("1", "3", "room:a", {"count": 1}),
        reply("1", "4", "room:a"),
        phx_close("1", "room:a"),
    ]


async def test_a_broadcast_during_a_join_does_not_reach_the_joining_client(serve: Serve) -> None:
    server = await serve(endpoint())
    client = await server.connect()
    await client.exchange(("1", "1", "room:a", "phx_join", {"sleep": 5}))
    server.endpoint.broadcast("room:a", "shouted", {})
    await trio.sleep(6)
    assert client.frames() == [reply("1", "1", "room:a")]


async def test_a_channel_whose_client_leaves_during_join_ends_after_join(serve: Serve) -> None:
    server = await serve(endpoint())
    before = server.runtime.processes()
    client = await server.connect()
    await client.exchange(("1", "1", "room:a", "phx_join", {"sleep": 5}))
    client.end()
    await trio.sleep(6)
    assert server.runtime.processes() == before
    assert server.channels("room:a") == []


async def test_a_channel_whose_client_left_before_its_first_step_does_not_crash(
    serve: Serve,
) -> None:
    server = await serve(endpoint())
    crashes, ended = server.crashes(), server.listen(CHANNEL_JOINED)
    mount = server.services.mounts["/socket/websocket"]
    out = OutBuffer(Flusher(spawn=spawn), tell=lambda _: None)
    gone = spawn(trio.lowlevel.checkpoint)
    await settle()
    assert not is_alive(gone)
    link = Link(
        connection=gone,
        out=out,
        codec=Codec(V2(), bytes),
        pubsub=server.endpoint.pubsub,
        endpoint=server.endpoint,
        assigns={},
        count=server.services.count,
        budget=server.services.budget,
    )
    route = mount.router.match("room:a")
    assert route is not None
    membership = Membership(Message("1", "1", "room:a", "phx_join", {}), route)
    terminated = server.listen(CHILD_TERMINATED)
    mount.start_channel(link, membership, {})
    await settle()
    assert [about["reason"] for _, about in terminated] == [Shutdown("closed")]
    assert crashes == []
    assert len(ended) == 1


# Frames of a channel


async def test_pushes_broadcasts_and_the_reply_of_a_handler_keep_their_order(serve: Serve) -> None:
    client = await (await serve(endpoint())).connect()
    await client.join()
    assert await client.exchange(("1", "2", "room:a", "in_order")) == [
        push("1", "room:a", "pushed", {"n": 1}),
        [None, None, "room:a", "shouted", {"n": 2}],
        push("1", "room:a", "pushed", {"n": 3}),
        reply("1", "2", "room:a", {"n": 4}),
    ]


async def test_broadcast_from_leaves_out_only_its_own_client(serve: Serve) -> None:
    server = await serve(endpoint())
    one, other = await server.connect(), await server.connect()
    await one.join()
    await other.join()
    assert await one.exchange(("1", "2", "room:a", "shout_from", {"n": 1})) == []
    assert other.frames() == [[None, None, "room:a", "shouted", {"n": 1}]]


async def test_a_reply_that_cannot_be_encoded_crashes_only_the_channel(serve: Serve) -> None:
    server = await serve(endpoint())
    client = await server.connect()
    await client.join("room:a", "1")
    await client.join("room:b", "2")
    got = await client.exchange(("1", "3", "room:a", "give", {"what": "object"}))
    assert got == [phx_error("1", "room:a")]
    assert await client.exchange(("2", "4", "room:b", "echo")) == [reply("2", "4", "room:b")]


# Ending


async def test_leave_is_answered_then_closed_and_then_terminate_may_push(serve: Serve) -> None:
    server = await serve(endpoint())
    client = await server.connect()
    before = server.runtime.processes()
    await client.join(payload={"farewell": True})
    assert await client.exchange(("1", "2", "room:a", "phx_leave")) == [
        reply("1", "2", "room:a"),
        phx_close("1", "room:a"),
        bye(Shutdown("left")),
    ]
    assert server.runtime.processes() == before
    assert await client.exchange(("1", "3", "room:a", "echo")) == [unmatched("3")]


async def test_a_close_that_cannot_be_encoded_is_a_crash_for_the_client(
    serve: Serve,
) -> None:
    class CannotClose(V2):
        def encode_close(self, join_ref: Any, topic: str) -> bytes:
            raise EncodeError("no", kind="push", topic=topic, event="phx_close")

    mount = Mount(UserSocket, serializers=[(CannotClose(), Requirement("~> 2.0.0"))])
    client = await (await serve(Endpoint(sockets={"/socket": mount}))).connect()
    await client.join()
    assert await client.exchange(("1", "2", "room:a", "phx_leave")) == [
        reply("1", "2", "room:a"),
        phx_error("1", "room:a"),
    ]
    await client.join(ref="3")


async def test_a_phx_error_that_cannot_be_encoded_closes_the_connection(serve: Serve) -> None:
    class CannotFail(V2):
        def encode_error(self, join_ref: Any, topic: str) -> bytes:
            raise EncodeError("no", kind="push", topic=topic, event="phx_error")

    mount = Mount(UserSocket, serializers=[(CannotFail(), Requirement("~> 2.0.0"))])
    client = await (await serve(Endpoint(sockets={"/socket": mount}))).connect()
    await client.join()
    close, _ = await client.exchange(("1", "2", "room:a", "boom"))
    assert close.code == 1011


async def test_a_serializer_that_raises_for_phx_error_crashes_the_connection_and_not_the_channel(
    serve: Serve,
) -> None:
    class Broken(V2):
        def encode_error(self, join_ref: Any, topic: str) -> bytes:
            raise ZeroDivisionError

    mount = Mount(UserSocket, serializers=[(Broken(), Requirement("~> 2.0.0"))])
    server = await serve(Endpoint(sockets={"/socket": mount}))
    crashes = server.crashes()
    client = await server.connect()
    await client.join()
    assert await client.exchange(("1", "2", "room:a", "boom")) == [EOF]
    assert [type(crash) for crash in crashes] == [RuntimeError, ZeroDivisionError]
    assert server.connections() == []


CLEAN = {"normal": actors.NORMAL, "shutdown": actors.SHUTDOWN, "left": Shutdown("left")}


@pytest.mark.parametrize("reason", CLEAN)
@pytest.mark.parametrize("answer", [None, {"bye": True}])
async def test_a_clean_stop_sends_the_reply_then_phx_close_then_pushes_of_terminate(
    serve: Serve, reason: str, answer: Any
) -> None:
    server = await serve(endpoint())
    crashes = server.crashes()
    client = await server.connect()
    await client.join(payload={"farewell": True})
    payload = {"reason": reason} | ({} if answer is None else {"reply": answer})
    assert await client.exchange(("1", "2", "room:a", "stop", payload)) == [
        *([] if answer is None else [reply("1", "2", "room:a", answer)]),
        phx_close("1", "room:a"),
        bye(CLEAN[reason]),
    ]
    assert crashes == []


@pytest.mark.parametrize("answer", [None, {"bye": True}])
async def test_any_other_stop_sends_the_reply_then_pushes_of_terminate_then_phx_error(
    serve: Serve, answer: Any
) -> None:
    client = await (await serve(endpoint())).connect()
    await client.join(payload={"farewell": True})
    payload = {"reason": "oops"} | ({} if answer is None else {"reply": answer})
    assert await client.exchange(("1", "2", "room:a", "stop", payload)) == [
        *([] if answer is None else [reply("1", "2", "room:a", answer)]),
        bye("oops"),
        phx_error("1", "room:a"),
    ]


@pytest.mark.parametrize(
    ("event", "payload", "reason"),
    [
        ("boom", {}, Crash(RuntimeError("boom"))),
        ("exit", {"reason": "oops"}, "oops"),
        ("exit", {"reason": "normal"}, actors.NORMAL),
        ("exit", {"reason": "shutdown"}, actors.SHUTDOWN),
    ],
)
async def test_a_handler_that_raises_sends_pushes_of_terminate_then_phx_error(
    serve: Serve, event: str, payload: Any, reason: Any
) -> None:
    client = await (await serve(endpoint())).connect()
    await client.join(payload={"farewell": True})
    got = await client.exchange(("1", "2", "room:a", event, payload))
    assert got == [bye(reason), phx_error("1", "room:a")]


async def test_a_killed_channel_sends_only_phx_error(serve: Serve) -> None:
    server = await serve(endpoint())
    client = await server.connect()
    await client.join(payload={"farewell": True})
    kill(server.channel("room:a"))
    await settle()
    assert client.frames() == [phx_error("1", "room:a")]


@pytest.mark.parametrize(
    ("reason", "frames"),
    [
        (actors.NORMAL, [phx_close("1", "room:a"), bye(actors.NORMAL)]),
        ("oops", [bye("oops"), phx_error("1", "room:a")]),
    ],
)
@pytest.mark.parametrize("way", ["info", "cast", "call", "out"])
async def test_every_callback_may_stop_the_channel(
    serve: Serve, way: str, reason: Any, frames: list[Any]
) -> None:
    server = await serve(endpoint())
    client = await server.connect()
    await client.join(payload={"farewell": True})
    pid = server.channel("room:a")

    def stop(_: Room) -> Stop:
        return Stop(reason, reply="gone") if way == "call" else Stop(reason)

    if way == "info":
        send(pid, stop)
    elif way == "cast":
        cast(pid, stop)
    elif way == "call":
        assert await call(pid, stop) == "gone"
    else:
        name = "oops" if reason == "oops" else "normal"
        server.endpoint.broadcast("room:a", "secret", {"stop": name})
    await settle()
    assert client.frames() == frames


async def test_a_channel_that_stops_itself_frees_its_topic_at_once(serve: Serve) -> None:
    client = await (await serve(endpoint())).connect()
    await client.join()
    stop = ("1", "2", "room:a", "stop", {"reason": "normal"})
    await client.exchange(stop)
    assert await client.exchange(("2", "2", "room:a", "phx_join")) == [reply("2", "2", "room:a")]


async def test_a_channel_ends_with_its_connection_without_a_frame(serve: Serve) -> None:
    server = await serve(endpoint())
    client = await server.connect()
    await client.join(payload={"farewell": True})
    reasons = await reason_of(server.channel("room:a"))
    client.close()
    await settle()
    assert reasons == [Shutdown("closed")]
    assert [frame for frame in client.frames() if isinstance(frame, list)] == []


async def test_the_channels_of_a_killed_connection_end(serve: Serve) -> None:
    server = await serve(endpoint())
    before = server.runtime.processes()
    client = await server.connect()
    await client.join()
    reasons = await reason_of(server.channel("room:a"))
    assert client.process is not None
    kill(client.process)
    await settle()
    assert reasons == [actors.KILLED]
    assert client.is_closed
    assert server.runtime.processes() == before


# Results of handlers


@pytest.mark.parametrize(
    ("what", "named"), [("text", "Craft.handle_in"), ("reply", "Stop(reason, reply=")]
)
async def test_an_invalid_result_of_a_handler_crashes_with_its_name(
    serve: Serve, what: str, named: str
) -> None:
    class Craft(Room):
        pass

    server = await serve(endpoint(Craft))
    crashes = server.crashes()
    client = await server.connect()
    await client.join()
    got = await client.exchange(("1", "2", "room:a", "give", {"what": what}))
    assert got == [phx_error("1", "room:a")]
    (error,) = crashes
    assert isinstance(error, InvalidReturn)
    assert named in str(error)


@pytest.mark.parametrize("way", ["info", "cast", "call", "out"])
async def test_an_invalid_result_of_any_callback_crashes_with_its_name(
    serve: Serve, way: str
) -> None:
    class Craft(Room):
        async def handle_info(self, message: Any) -> Any:
            return "text"

        async def handle_cast(self, message: Any) -> Any:
            return "text"

        async def handle_call(self, request: Any, sender: Any) -> Any:
            return "text"

        async def secret(self, payload: Any) -> Any:
            return "text"

    server = await serve(endpoint(Craft))
    crashes = server.crashes()
    client = await server.connect()
    await client.join()
    pid = server.channel("room:a")
    if way == "info":
        send(pid, "hello")
    elif way == "cast":
        cast(pid, "hello")
    elif way == "call":
        with pytest.raises(actors.ServerExit):
            await call(pid, "hello")
    else:
        server.endpoint.broadcast("room:a", "secret", {})
    await settle()
    assert client.frames() == [phx_error("1", "room:a")]
    (error,) = crashes
    assert isinstance(error, InvalidReturn)
    assert error.callback == f"Craft.handle_{way}"


async def test_a_continue_runs_the_channels_own_handle_continue_next(serve: Serve) -> None:
    class Craft(Channel):
        @handle_in("go")
        async def go(self, payload: Any) -> Any:
            return actors.Continue(payload)

        async def handle_info(self, message: Any) -> Any:
            return actors.NoReply(then=actors.Continue(message))

        async def handle_continue(self, argument: Any) -> Any:
            self.push("continued", argument)
            return None if "again" not in argument else actors.Continue({})

    server = await serve(endpoint(Craft))
    client = await server.connect()
    await client.join()
    got = await client.exchange(("1", "2", "room:a", "go", {"again": 1}))
    assert got == [
        push("1", "room:a", "continued", {"again": 1}),
        push("1", "room:a", "continued", {}),
    ]
    send(server.channel("room:a"), {"n": 1})
    await settle()
    assert client.frames() == [push("1", "room:a", "continued", {"n": 1})]


async def test_within_delivers_a_timeout_if_no_message_arrives(serve: Serve) -> None:
    class Craft(Channel):
        @handle_in("watch")
        async def watch(self, payload: Any) -> Any:
            return actors.Within(5)

        async def handle_info(self, message: Any) -> None:
            assert message == actors.Timeout()
            self.push("lull", {})

    client = await (await serve(endpoint(Craft))).connect()
    await client.join()
    await client.exchange(("1", "2", "room:a", "watch"))
    await trio.sleep(4)
    assert client.frames() == []
    await trio.sleep(2)
    assert client.frames() == [push("1", "room:a", "lull", {})]


async def test_an_event_of_any_json_value_reaches_handle_in(serve: Serve) -> None:
    class Open(Channel):
        async def handle_in(self, event: Any, payload: Any) -> PushReply:
            return PushReply({"event": event})

    client = await (await serve(endpoint(Open))).connect()
    await client.join()
    for event in (["a"], {"a": 1}, None, 1, "other"):
        got = await client.exchange(("1", "2", "room:a", event, {}))
        assert got == [reply("1", "2", "room:a", {"event": event})]


# Assigns


async def test_channels_get_copies_of_the_sockets_assigns_under_those_of_the_route(
    serve: Serve,
) -> None:
    class Craft(Channel):
        async def join(self, topic: str, payload: Any) -> Any:
            self.assigns["mine"] = topic
            return self.assigns

    class RoomSocket(Socket):
        channels = {"room:*": Route("room:*", Craft, {"level": 2})}

        async def connect(self, params: Any, connect_info: Any) -> None:
            self.assigns.update(user="ann", level=1)

    client = await (await serve(Endpoint(sockets={"/socket": RoomSocket}))).connect()
    for topic, ref in (("room:a", "1"), ("room:b", "2")):
        got = await client.exchange((ref, ref, topic, "phx_join"))
        assert got == [reply(ref, ref, topic, {"user": "ann", "level": 2, "mine": topic})]
