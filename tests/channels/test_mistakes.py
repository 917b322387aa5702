"""Errors about an author's mistake in a channel: the class, the file and line, and the correction.

One table has the mistakes that Ashtree finds before the start, the other has those that it finds at run time.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing
from attrs import frozen

import actors
from actors import (
    GenServer,
    InvalidArgument,
    InvalidOperation,
    InvalidOption,
    InvalidReturn,
    receive,
    spawn,
)
from actors.asyncio_loop import AsyncioLoop, asyncio_call
from actors.blocking_pool import BlockingPool, blocking_call
from actors.instrumentation.logger import CRASH
from channels import (
    Channel,
    ConnectRefused,
    EncodeError,
    Endpoint,
    InvalidHandler,
    InvalidResult,
    JoinRefused,
    Keep,
    PushReply,
    Socket,
    handle_in,
    handle_out,
    reply_to,
)
from channels.payloads import table_of
from channels.pytest_plugin import OpenChannelTest
from channels.telemetry import (
    CHANNEL_JOIN_SLOW,
    SOCKET_UNMATCHED_PATH,
    SOCKET_UNMATCHED_TOPIC,
    SOCKET_WITHOUT_CHANNELS,
)
from channels.testing import Expected, open_channel_test
from tests.channels.conftest import Serve
from tests.channels.rooms import UserSocket
from tests.channels.support import Server, head, settle

HERE = rf"{re.escape(__file__)}:\d+"


def serving(channel: type[Channel], **options: Any) -> Endpoint:
    class Door(UserSocket):
        channels = {"room:*": channel}

    return Endpoint(sockets={"/socket": Door}, **options)


# Found when the class is defined


def two_handlers_for_one_event() -> None:
    class Room(Channel):
        @handle_in("new_msg")
        async def first(self, payload: Any) -> None: ...

        @handle_in("other", "new_msg")
        async def second(self, payload: Any) -> None: ...


def two_interceptors_for_one_event() -> None:
    class Room(Channel):
        @handle_out("new_msg")
        async def first(self, payload: Any) -> None: ...

        @handle_out("new_msg")
        async def second(self, payload: Any) -> None: ...


def two_handlers_of_one_name() -> None:
    class Room(Channel):
        @handle_in("new_msg")
        async def on_msg(self, payload: Any) -> None: ...

        @handle_in("edit_msg")  # type: ignore[no-redef]
        async def on_msg(self, payload: Any) -> None: ...  # noqa: F811


def a_handler_called_push() -> None:
    class Room(Channel):
        @handle_in("push")
        async def push(self, payload: Any) -> None: ...  # type: ignore[override]


def a_handler_called_assigns() -> None:
    class Room(Channel):
        @handle_in("assigns")
        async def assigns(self, payload: Any) -> None: ...  # type: ignore[override]


def a_handler_called_join() -> None:
    class Room(Channel):
        @handle_in("join")
        async def join(self, payload: Any) -> None: ...  # type: ignore[override]


def a_mixin_with_a_handler_called_broadcast() -> None:
    class Mixin:
        @handle_in("broadcast")
        async def broadcast(self, payload: Any) -> None: ...

    class Room(Mixin, Channel):  # type: ignore[misc]
        pass


DEFINED: list[tuple[Callable[[], None], str]] = [
    (
        two_handlers_for_one_event,
        rf'Room has two methods for handle_in\("new_msg"\): first \({HERE}\) and second \({HERE}\); keep one',
    ),
    (
        two_interceptors_for_one_event,
        rf'Room has two methods for handle_out\("new_msg"\): first \({HERE}\) and second \({HERE}\); keep one',
    ),
    (
        two_handlers_of_one_name,
        (
            rf"Room defines on_msg for 'new_msg' \({HERE}\) and again for 'edit_msg' \({HERE}\), "
            "which replaces the first; give each method its own name"
        ),
    ),
    (
        a_handler_called_push,
        rf'Room\.push \({HERE}\) is declared for handle_in\("push"\) and hides Channel\.push; .* such as on_push',
    ),
    (
        a_handler_called_assigns,
        rf'Room\.assigns \({HERE}\) is declared for handle_in\("assigns"\) and hides Channel\.assigns; .* on_assigns',
    ),
    (
        a_handler_called_join,
        rf'Room\.join \({HERE}\) is declared for handle_in\("join"\) and hides Channel\.join; .* such as on_join',
    ),
    (
        a_mixin_with_a_handler_called_broadcast,
        rf"Room\.broadcast \({HERE}\) is declared for .* and hides Channel\.broadcast; .* such as on_broadcast",
    ),
]


@pytest.mark.parametrize(
    ("define", "said"), DEFINED, ids=[define.__name__ for define, _ in DEFINED]
)
def test_a_mistake_in_a_class_raises_at_its_definition(
    define: Callable[[], None], said: str
) -> None:
    with pytest.raises(InvalidHandler, match=said):
        define()


def test_a_subclass_may_override_an_event_and_a_method_may_handle_both_directions() -> None:
    class Room(Channel):
        @handle_in("new_msg")
        async def new_msg(self, payload: Any) -> None: ...

    class Quiet(Room):
        @handle_out("other")
        @handle_in("new_msg", "other")
        async def instead(self, payload: Any) -> None: ...

    assert table_of(Quiet).incoming["new_msg"] is Quiet.instead


# Found when the endpoint is checked


def init_with_arguments() -> type[Channel]:
    class Room(Channel):
        def __init__(self, n: int) -> None: ...

    return Room


def async_init() -> type[Channel]:
    class Room(Channel):
        async def __init__(self) -> None: ...  # type: ignore[misc]

    return Room


def awaits_broadcast() -> type[Channel]:
    class Room(Channel):
        @handle_in("shout")
        async def shout(self, payload: Any) -> None:
            await self.broadcast("shout", payload)  # type: ignore[misc,func-returns-value]

    return Room


def awaits_push_in_a_helper() -> type[Channel]:
    class Room(Channel):
        async def tell(self) -> None:
            if self.topic:
                await self.push("told", {})  # type: ignore[misc,func-returns-value]

    return Room


def awaits_the_broadcast_of_the_endpoint() -> type[Channel]:
    class Room(Channel):
        async def terminate(self, reason: Any) -> None:
            await self.endpoint.broadcast(self.topic, "gone", {})  # type: ignore[misc,func-returns-value]

    return Room


def awaits_reply_to() -> type[Channel]:
    class Room(Channel):
        async def handle_info(self, message: Any) -> None:
            await reply_to(message, PushReply())  # type: ignore[misc,func-returns-value]

    return Room


def receives_anything() -> type[Channel]:
    class Room(Channel):
        @handle_in("wait")
        async def wait(self, payload: Any) -> None:
            await receive(timeout=5)

    return Room


def receives_anything_by_module() -> type[Channel]:
    class Room(Channel):
        @handle_in("wait")
        async def wait(self, payload: Any) -> None:
            await actors.receive()

    return Room


CHECKED: list[tuple[Callable[[], type[Channel]], str]] = [
    (
        init_with_arguments,
        (
            rf"Room\.__init__ \({HERE}\) must take no arguments and must not be async; "
            r"write `def __init__\(self\)`, and set the values that depend on the client in join"
        ),
    ),
    (async_init, r"Room\.__init__ .*; write `def __init__\(self\)`"),
    (
        awaits_broadcast,
        (
            rf"Room\.shout \({HERE}\) awaits self\.broadcast\(\.\.\.\), which is not async; "
            r"write self\.broadcast\(\.\.\.\) without `await`"
        ),
    ),
    (awaits_push_in_a_helper, rf"Room\.tell \({HERE}\) awaits self\.push\(\.\.\.\)"),
    (
        awaits_the_broadcast_of_the_endpoint,
        rf"Room\.terminate \({HERE}\) awaits self\.endpoint\.broadcast\(\.\.\.\), which is not async",
    ),
    (
        awaits_reply_to,
        rf"Room\.handle_info \({HERE}\) awaits reply_to\(\.\.\.\), which is not async",
    ),
    (
        receives_anything,
        (
            rf"Room\.wait \({HERE}\) calls receive\(\) without a match, .*; "
            r"write `async def handle_info\(self, message\)` to handle messages, or receive\(match\)"
        ),
    ),
    (receives_anything_by_module, rf"Room\.wait \({HERE}\) calls receive\(\) without a match"),
]


@pytest.mark.parametrize(
    ("define", "said"), CHECKED, ids=[define.__name__ for define, _ in CHECKED]
)
def test_check_finds_a_mistake_in_the_source_of_a_method(
    define: Callable[[], type[Channel]], said: str
) -> None:
    with pytest.raises(InvalidHandler, match=said) as caught:
        serving(define()).check()
    assert caught.value.channel is not None


def test_the_error_names_the_line_of_the_mistake() -> None:
    room = awaits_broadcast()
    with pytest.raises(InvalidHandler) as caught:
        serving(room).check()
    code = table_of(room).incoming["shout"].__code__
    # The decorator, the definition, the statement.
    assert f"{__file__}:{code.co_firstlineno + 2})" in str(caught.value)


def test_check_finds_a_socket_whose_init_has_arguments() -> None:
    class Door(UserSocket):
        def __init__(self, n: int) -> None: ...

    with pytest.raises(
        InvalidHandler,
        match=rf"Door\.__init__ \({HERE}\) .* set the values that depend on the client in connect",
    ):
        Endpoint(sockets={"/socket": Door}).check()


def test_valid_code_that_resembles_a_mistake_passes() -> None:
    class Room(Channel):
        async def join(self, topic: str, payload: Any) -> None:
            async def listen() -> None:
                await receive()

            spawn(listen)

        async def broadcast(self, event: str, payload: Any) -> None:  # type: ignore[override]
            super().broadcast(event, payload)

        @handle_in("say")
        async def say(self, payload: Any) -> None:
            await self.broadcast("said", payload)
            await receive(lambda message: message == "go")

        @handle_in("own")
        async def own(self, payload: Any, receive: Any = trio.lowlevel.checkpoint) -> None:
            await receive()

        def problem(self) -> Exception:
            return JoinRefused({"reason": "no"})

    serving(Room).check()


async def test_a_socket_without_channels_is_logged_at_the_start(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    class Bare(Socket):
        pass

    Endpoint(sockets={"/socket": Bare}).check()
    with caplog.at_level(logging.WARNING, "channels"):
        await serve(Endpoint(sockets={"/socket": Bare}))
    (record,) = caplog.records
    assert re.fullmatch(
        rf'Bare \({HERE}\) has no channels, so every join gets "unmatched topic"; '
        r'write channels = {"room:\*": RoomChannel} in the class',
        record.getMessage(),
    )
    assert SOCKET_WITHOUT_CHANNELS == ("phoenix", "socket_without_channels")


# Found when it is reached


class Opaque:
    """JSON has no form for it."""


@frozen
class User:
    name: str
    photo: Any


class Craft(Channel):
    """Makes the mistake that its client asks for."""

    async def load(self) -> dict[str, Any]:
        return {}

    async def ticker(self) -> None: ...

    async def join(self, topic: str, payload: Any) -> Any:
        if "opaque" in payload:
            return {"user": User("ann", Opaque())}
        if "refuse" in payload:
            raise JoinRefused({"why": Opaque()})
        return None

    @handle_in("reply")
    async def answer(self, payload: Any) -> PushReply:
        return PushReply({"users": [User("ann", None), User("bob", Opaque())]})

    @handle_in("typed")
    async def typed(self, payload: User) -> PushReply:
        return PushReply({"user": Opaque()})

    @handle_in("push")
    async def push_it(self, payload: Any) -> None:
        self.push("news", {"user": {"photo": Opaque()}})

    @handle_in("broadcast")
    async def shout(self, payload: Any) -> None:
        self.broadcast("news", {"users": (1, Opaque())})

    @handle_in("key")
    async def key(self, payload: Any) -> PushReply:
        return PushReply({"seats": {(1, 2): "ann"}})

    @handle_in("coroutine")
    async def coroutine(self, payload: Any) -> PushReply:
        return PushReply({"rooms": {"all": self.load()}, "more": [self.load()]})

    @handle_in("push_coroutine")
    async def push_coroutine(self, payload: Any) -> None:
        self.push("news", self.load())  # type: ignore[arg-type,unused-ignore]

    @handle_in("broadcast_coroutine")
    async def broadcast_coroutine(self, payload: Any) -> None:
        self.broadcast("news", {"rooms": self.load()})

    @handle_in("actors_reply")
    async def actors_reply(self, payload: Any) -> Any:
        return actors.Reply({"n": 1})

    @handle_in("actors_reply_in_stop")
    async def actors_reply_in_stop(self, payload: Any) -> Any:
        return actors.Stop(reply=actors.Reply({"n": 1}))

    @handle_in("dict")
    async def a_dict(self, payload: Any) -> Any:
        return {"n": 1}

    @handle_in("reply_to")
    async def later(self, payload: Any) -> None:
        reply_to(self.socket_ref(), actors.Reply({"n": 1}))  # type: ignore[arg-type]

    @handle_in("receive")
    async def wait(self, payload: Any) -> None:
        take = receive
        await take()

    @handle_in("spawn")
    async def start(self, payload: Any) -> None:
        begin = spawn
        begin(self.ticker)

    @handle_out("intercepted")
    async def intercepted(self, payload: Any) -> Any:
        return PushReply(payload)

    async def handle_info(self, message: Any) -> Any:
        return message

    async def handle_call(self, request: Any, sender: Any) -> Any:
        return PushReply(request)


REACHED: dict[str, tuple[type[Exception], str]] = {
    "reply": (
        EncodeError,
        (
            rf"cannot encode the reply 'ok' on topic 'room:a' \(Craft\.answer, {HERE}\): "
            r'payload\["users"\]\[1\]\.photo is of type Opaque, which JSON cannot express; write a str, '
        ),
    ),
    "typed": (EncodeError, rf'\(Craft\.typed, {HERE}\): payload\["user"\] is of type Opaque'),
    "push": (
        EncodeError,
        rf'push \'news\' .* \(Craft\.push_it, {HERE}\): payload\["user"\]\["photo"\] is of type Opaque',
    ),
    "broadcast": (
        EncodeError,
        rf'broadcast \'news\' .* \(Craft\.shout, {HERE}\): payload\["users"\]\[1\] is of type Opaque',
    ),
    "key": (EncodeError, r'the key \(1, 2\) of payload\["seats"\] is of type tuple'),
    "coroutine": (
        EncodeError,
        (
            rf'\(Craft\.coroutine, {HERE}\): payload\["rooms"\]\["all"\] is a coroutine, Craft\.load\(\); '
            "did you forget `await`"
        ),
    ),
    "push_coroutine": (
        EncodeError,
        rf"\(Craft\.push_coroutine, {HERE}\): payload is a coroutine, Craft\.load\(\); did you forget `await`",
    ),
    "broadcast_coroutine": (
        EncodeError,
        rf'\(Craft\.broadcast_coroutine, {HERE}\): payload\["rooms"\] is a coroutine, .* did you forget `await`',
    ),
    "actors_reply": (
        InvalidResult,
        (
            rf"Craft\.handle_in\('actors_reply'\) returned Reply\(value=.*\) \(Craft\.actors_reply, {HERE}\); "
            r"actors\.Reply answers a call; write channels\.PushReply\(payload\)"
        ),
    ),
    "actors_reply_in_stop": (
        InvalidResult,
        (
            rf"\(Craft\.actors_reply_in_stop, {HERE}\); write Stop\(reason, reply=PushReply\(payload\)\) "
            r"with channels\.PushReply"
        ),
    ),
    "dict": (
        InvalidResult,
        (
            rf"Craft\.handle_in\('dict'\) returned {{'n': 1}} \(Craft\.a_dict, {HERE}\); "
            r"write PushReply\(\.\.\.\) around it"
        ),
    ),
    "reply_to": (
        InvalidOption,
        r"reply_to got reply=Reply\(value=.*; write channels\.PushReply\(payload\)",
    ),
    "receive": (
        InvalidOperation,
        r"receive\(\) in a callback of Craft 'room:a' <pid \d+> would also take messages .*handle_info",
    ),
    "spawn": (
        InvalidArgument,
        (
            rf"spawn\(self\.ticker\) would keep Craft\.ticker \({HERE}\) running after its Craft has ended; "
            r"write spawn_link\(self\.ticker\), which ends with it, or send_every"
        ),
    ),
}


async def joined(serve: Serve, payload: Any = None) -> tuple[Server, list[Any], Any]:
    server = await serve(serving(Craft))
    crashes = server.crashes()
    client = await server.connect()
    await client.exchange(("1", "1", "room:a", "phx_join", payload or {}))
    return server, crashes, client


@pytest.mark.parametrize("event", REACHED)
async def test_the_crash_of_a_handler_names_the_mistake(serve: Serve, event: str) -> None:
    kind, said = REACHED[event]
    _, crashes, client = await joined(serve)
    payload = {"name": "ann", "photo": None}
    got = await client.exchange(("1", "2", "room:a", event, payload))
    assert [each[3] for each in got] == ["phx_error"]
    (error,) = crashes
    assert type(error) is kind
    assert re.search(said, str(error)), str(error)


@pytest.mark.parametrize(
    ("payload", "status", "path"),
    [
        ({"opaque": 1}, "ok", r'payload\["user"\]\.photo'),
        ({"refuse": 1}, "error", r'payload\["why"\]'),
    ],
)
async def test_the_crash_of_a_join_names_a_value_that_json_cannot_express(
    serve: Serve, payload: Any, status: str, path: str
) -> None:
    _, (error,), _ = await joined(serve, payload)
    said = rf"cannot encode the reply '{status}' on topic 'room:a' \(Craft\.join, {HERE}\): {path} is of type Opaque"
    assert re.search(said, str(error)), str(error)


async def test_a_push_reply_does_not_answer_a_call_or_a_message(serve: Serve) -> None:
    server, crashes, client = await joined(serve)
    with pytest.raises(actors.ServerExit):
        await actors.call(server.channel("room:a"), "hello")
    await client.exchange(("2", "2", "room:a", "phx_join", {}))
    actors.send(server.channel("room:a"), PushReply({}))
    await settle()
    await client.exchange(("3", "3", "room:a", "phx_join", {}))
    server.endpoint.broadcast("room:a", "intercepted", {})
    await settle()
    called, informed, intercepted = map(str, crashes)
    assert re.search(
        rf"Craft\.handle_call returned .* \({HERE}\); channels\.PushReply answers a client's push; write actors\.Reply",
        called,
    )
    assert re.search(
        rf"Craft\.handle_info returned .* \({HERE}\); there is no push to answer here", informed
    )
    assert re.search(
        rf"Craft\.handle_out\('intercepted'\) returned .* \(Craft\.intercepted, {HERE}\); there is no push",
        intercepted,
    )


async def test_a_push_reply_in_a_gen_server_raises_with_advice(serve: Serve) -> None:
    class Counter(GenServer[None]):
        async def handle_call(self, request: Any, sender: Any) -> Any:
            return PushReply({"n": 1})

    pid = await Counter.start()
    with pytest.raises(actors.ServerExit) as caught:
        await actors.call(pid, "hello")
    reason = caught.value.reason
    assert isinstance(reason, actors.Crash)
    assert isinstance(reason.exception, InvalidReturn)
    assert re.fullmatch(
        rf"Counter\.handle_call \({HERE}\) returned a PushReply of channels\.messages, which is another class; "
        "write `from actors import Reply` to answer a call",
        str(reason.exception),
    )


# Refusals in the wrong place


class Refusing(Channel):
    async def join(self, topic: str, payload: Any) -> None:
        if "connect" in payload:
            raise ConnectRefused("no token")

    @handle_in("say")
    async def say(self, payload: Any) -> None:
        raise JoinRefused({"reason": "too long"})


async def test_a_refused_join_in_a_handler_names_the_reply_with_an_error(serve: Serve) -> None:
    server = await serve(serving(Refusing))
    crashes = server.crashes()
    client = await server.connect()
    await client.exchange(("1", "1", "room:a", "phx_join", {}))
    await client.exchange(("1", "2", "room:a", "say", {}))
    (error,) = crashes
    (note,) = error.__notes__
    assert note == (
        "JoinRefused refuses a join, so only join can raise it. To answer a push with an error, write "
        "`return PushReply({'reason': 'too long'}, status=\"error\")`"
    )


async def test_a_refused_connection_in_a_join_names_the_refusal_of_joins(serve: Serve) -> None:
    server = await serve(serving(Refusing))
    crashes = server.crashes()
    client = await server.connect()
    await client.exchange(("1", "1", "room:a", "phx_join", {"connect": 1}))
    (error,) = crashes
    assert "To refuse a join, write `raise JoinRefused({...})` in join" in error.__notes__[0]


async def test_a_refused_join_has_no_note(serve: Serve) -> None:
    refusal = JoinRefused({"reason": "no"})

    class Closed(Channel):
        async def join(self, topic: str, payload: Any) -> None:
            raise refusal

    client = await (await serve(serving(Closed))).connect()
    await client.exchange(("1", "1", "room:a", "phx_join", {}))
    assert not hasattr(refusal, "__notes__")


# Topics without a route


async def test_a_topic_without_a_route_is_logged_once_with_the_routes(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve(serving(Craft))
    heard = server.listen(SOCKET_UNMATCHED_TOPIC)
    with caplog.at_level(logging.WARNING, "channels"):
        for _ in range(2):
            client = await server.connect()
            for number, topic in enumerate(("rooms:1", "rooms:2", "chat")):
                await client.exchange(("1", str(number), topic, "phx_join", {}))
    assert [record.getMessage() for record in caplog.records] == [
        f'A client asked for the topic {topic}, but no route of Door matches it, so the client got "unmatched '
        "topic\". The routes are 'room:*'; correct the topic in the client, or add a route to Door.channels"
        for topic in ("'rooms:1'", "'chat'")
    ]
    assert [about["topic"] for _, about in heard] == ["rooms:1", "rooms:2", "chat"] * 2
    assert server.endpoint.statistics()["counts"][SOCKET_UNMATCHED_TOPIC] == 6


async def test_the_log_shows_at_most_ten_topics_without_a_route(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve(serving(Craft))
    client = await server.connect()
    with caplog.at_level(logging.WARNING, "channels"):
        for number in range(30):
            await client.exchange(("1", "1", f"{number}\n" + "x" * 10_000, "phx_join", {}))
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 10
    assert [line.endswith("does not show further topics without a route") for line in lines] == [
        *[False] * 9,
        True,
    ]
    assert max(map(len, lines)) < 500
    assert not any("\n" in line for line in lines)


async def test_a_websocket_at_a_path_without_a_socket_is_logged_once_with_the_paths(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve(serving(Craft))
    heard = server.listen(SOCKET_UNMATCHED_PATH)
    with caplog.at_level(logging.WARNING, "channels"):
        for path in ("/sokcet/websocket", "/sokcet/websocket", "/socket"):
            client = await server.accept()
            client.write(head(path))
            await settle()
            answer = client.answer()
            assert answer is not None
            assert answer.status == 404
        for number in range(20):
            (await server.accept()).write(head(f"/{number}"))
        await settle()
    lines = [record.getMessage() for record in caplog.records]
    assert lines[:2] == [
        f"A client asked for a WebSocket at {path}, where the endpoint has no socket, and was refused. The sockets "
        "are at '/socket', and their WebSockets at this path with /websocket at its end, which phoenix.js adds"
        for path in ("'/sokcet/websocket'", "'/socket'")
    ]
    assert len(lines) == 10
    assert lines[-1].endswith("does not show further paths without a socket")
    assert [about["path"] for _, about in heard[:3]] == ["/sokcet/websocket"] * 2 + ["/socket"]


async def test_an_event_without_a_handler_names_the_events_that_have_one(serve: Serve) -> None:
    server = await serve(serving(Refusing))
    crashes = server.crashes()
    client = await server.connect()
    await client.exchange(("1", "1", "room:a", "phx_join", {}))
    await client.exchange(("1", "2", "room:a", "sey", {}))
    assert str(crashes[0]).startswith(
        "Refusing has no handler for the event 'sey', only for 'say'; add"
    )


# Joins that take too long


class Patient(Channel):
    async def join(self, topic: str, payload: Any) -> None:
        await self.look_up(payload["seconds"])

    async def look_up(self, seconds: float) -> None:
        await trio.sleep(seconds)


async def test_a_slow_join_is_reported_once_with_its_stack(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve(serving(Patient))
    heard = server.listen(CHANNEL_JOIN_SLOW)
    client = await server.connect()
    with caplog.at_level(logging.WARNING, "channels"):
        await client.exchange(("1", "1", "room:a", "phx_join", {"seconds": 1e9}))
        await trio.sleep(9.9)
        assert heard == []
        await trio.sleep(100)
    ((measured, about),) = heard
    assert measured == {"duration": 10.0}
    assert isinstance(about["channel"], Patient)
    text = caplog.records[0].getMessage()
    assert len(caplog.records) == 1
    assert "Patient.join for room:a has not returned after 10 s. phoenix.js gives up" in text
    assert "such as trio.fail_after" in text
    lines = re.findall(r'File "(.*)", line \d+, in (\w+)', text)
    assert lines[:2] == [(__file__, "join"), (__file__, "look_up")]
    assert server.endpoint.statistics()["counts"][CHANNEL_JOIN_SLOW] == 1


@pytest.mark.parametrize(("limit", "reports"), [(None, 0), (2.5, 1), (20, 0)])
async def test_a_channel_sets_the_time_of_a_slow_join(
    serve: Serve, limit: float | None, reports: int
) -> None:
    class Own(Patient):
        slow_join = limit

    server = await serve(serving(Own))
    heard = server.listen(CHANNEL_JOIN_SLOW)
    client = await server.connect()
    await client.exchange(("1", "1", "room:a", "phx_join", {"seconds": 15}))
    await trio.sleep(60)
    assert [measured for measured, _ in heard] == [{"duration": limit}] * reports
    assert len(server.channels("room:a")) == 1


@pytest.mark.parametrize("limit", [0, -1, True, "10", float("nan"), float("inf")])
def test_an_invalid_slow_join_is_refused(limit: Any) -> None:
    class Own(Channel):
        slow_join = limit

    with pytest.raises(
        InvalidHandler, match=r"Own\.slow_join is .*; write seconds above 0, or None"
    ):
        serving(Own).check()


# Crash reports


class Fragile(Channel):
    async def join(self, topic: str, payload: Any) -> None:
        self.count = 3
        self.card_pin = "1234"
        self.user = User("ann", Opaque())
        self.store = Opaque()
        self.keys = {"api_token": "s3same", "page": 7}
        if "crash" in payload:
            raise RuntimeError("join")

    @handle_in("boom")
    async def boom(self, payload: Any) -> None:
        self.count += 1
        raise RuntimeError("boom")


async def reported(serve: Serve, join: Any, **options: Any) -> dict[str, Any]:
    class Door(Socket):
        channels = {"room:*": Fragile}

        async def connect(self, params: Any, connect_info: Any) -> None:
            self.assigns |= {"user_id": 7, "password": "s3same"}

    server = await serve(Endpoint(sockets={"/socket": Door}, **options))
    reports = server.listen(CRASH)
    client = await server.connect()
    await client.exchange(("1", "1", "room:a", "phx_join", join))
    await client.exchange(("1", "2", "room:a", "boom", {"why": "?"}))
    ((_, about),) = reports
    return about


async def test_a_crash_report_shows_the_channel_and_its_join_payload(
    serve: Serve,
) -> None:
    about = await reported(
        serve, {"name": "ann", "token": "s3same"}, filter_parameters=["pin", "password", "token"]
    )
    assert about["state"] == {
        "topic": "room:a",
        "assigns": {"user_id": 7, "password": "[FILTERED]"},
        "attributes": {
            "count": 4,
            "card_pin": "[FILTERED]",
            "user": {"name": "ann", "photo": "<Opaque>"},
            "store": "<Opaque>",
            "keys": {"api_token": "[FILTERED]", "page": 7},
        },
        "join payload": {"name": "ann", "token": "[FILTERED]"},
    }
    assert about["last_message"].event == "boom"


async def test_a_crash_report_masks_everything_except_the_names_of_keep(serve: Serve) -> None:
    about = await reported(serve, {"name": "ann"}, filter_parameters=Keep(["count"]))
    state = about["state"]
    assert state["attributes"]["count"] == 4
    assert "ann" not in repr(state)
    assert "s3same" not in repr(state)


async def test_a_crash_report_of_a_join_shows_the_join_message(
    serve: Serve,
) -> None:
    about = await reported(serve, {"crash": True, "password": "s3same"})
    message = about["last_message"]
    assert (message.event, message.topic) == ("phx_join", "room:a")
    assert message.payload == {"crash": True, "password": "[FILTERED]"}
    assert about["state"]["join payload"] == {"crash": True, "password": "[FILTERED]"}


async def test_the_log_of_a_crash_shows_the_channel(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async with actors.open_runtime():
        endpoint = serving(Fragile)
        server = Server(endpoint, actors.current_runtime(), await endpoint.start_link(port=0))
        client = await server.connect()
        await client.exchange(("1", "1", "room:a", "phx_join", {"name": "ann"}))
        await client.exchange(("1", "2", "room:a", "boom", {}))
    assert "'count': 4" in caplog.text
    assert "'join payload': {'name': 'ann'}" in caplog.text


@pytest.mark.parametrize("payload", [{"text": "x" * 5_000}, {"list": [0] * 500}])
async def test_a_large_payload_of_a_join_is_not_kept(serve: Serve, payload: Any) -> None:
    about = await reported(serve, payload)
    assert about["state"]["join payload"] == "<too large to keep>"


# Threads under a virtual clock


class Hashing(Channel):
    @handle_in("hash")
    async def hash(self, payload: Any) -> PushReply:
        # Work that takes some real time, such as hashing a password.
        digest = await actors.run_in_thread(
            hashlib.pbkdf2_hmac, "sha256", b"password", b"salt", 50_000
        )
        return PushReply({"digest": digest.hex()})


async def test_a_virtual_clock_stops_while_a_handler_waits_for_a_thread(
    channel_test: OpenChannelTest,
) -> None:
    case = await channel_test(serving(Hashing))
    client = await case.connect()
    _, room = await client.subscribe_and_join("room:a")
    began = trio.current_time()
    await room.assert_reply(room.push("hash"), "ok", lambda response: len(response["digest"]) == 64)
    assert trio.current_time() == began
    # And jumps again afterwards.
    await trio.sleep(3600)


async def cleans_up() -> None:
    """End slowly."""
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.to_thread(in_a_pool)


async def in_asyncio() -> str:
    background.append(asyncio.create_task(cleans_up()))
    await asyncio.to_thread(in_a_pool)
    return "from asyncio"


background: list[asyncio.Task[None]] = []


def in_a_pool() -> str:
    hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 100_000)
    return "from a pool"


async def test_a_virtual_clock_stops_for_the_calls_and_the_stop_of_loops_and_pools(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Asking(Channel):
        @handle_in("ask")
        async def ask(self, payload: Any) -> PushReply:
            answers = [await asyncio_call(in_asyncio), await blocking_call(in_a_pool)]
            return PushReply({"answers": answers})

    began = trio.current_time()
    endpoint = serving(Asking, children=[AsyncioLoop(), BlockingPool()])
    async with open_channel_test(endpoint) as case:
        client = await case.connect()
        _, room = await client.subscribe_and_join("room:a")
        answers = {"answers": ["from asyncio", "from a pool"]}
        await room.assert_reply(room.push("ask"), "ok", answers)
    assert trio.current_time() == began
    assert "was killed before its thread had ended" not in caplog.text
    # And jumps again afterwards.
    await trio.sleep(3600)


async def test_a_failed_assertion_names_the_working_threads(
    channel_test: OpenChannelTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()

    class Stuck(Channel):
        @handle_in("hash")
        async def hash(self, payload: Any) -> PushReply:
            await actors.run_in_thread(go.wait)
            return PushReply()

    monkeypatch.setattr("channels.testing.threads.THREAD_PATIENCE", 0.01)
    case = await channel_test(serving(Stuck))
    client = await case.connect()
    _, room = await client.subscribe_and_join("room:a")
    ref = room.push("hash")
    with pytest.raises(Expected, match=r"nothing\nand 1 thread\(s\) still work"):
        await room.assert_reply(ref)
    go.set()
    await room.assert_reply(ref)
