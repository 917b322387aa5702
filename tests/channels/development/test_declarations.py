"""Ashtree checks the payloads of channels against their declarations in tests and development, not in production."""

from __future__ import annotations

from typing import Any, cast

import pytest
from attrs import frozen

from actors import NORMAL, Stop, current_runtime
from actors.instrumentation.logger import CRASH
from channels import (
    Binary,
    Channel,
    Endpoint,
    JoinRefused,
    PushReply,
    Socket,
    handle_in,
    handle_out,
    reply_to,
)
from channels.development.declarations import DeclarationMismatch, declarations_of
from channels.durable import DurableChannel, History, MemoryStorage
from channels.pytest_plugin import OpenChannelTest
from channels.socket import router_of
from channels.testing import TestChannel
from channels.topics import Route
from tests.channels.conftest import Serve


@frozen
class Point:
    x: int
    y: int = 0


@frozen
class Problem:
    reason: str


class Board(Channel):
    """A channel that sends what its client asks for."""

    pushes = {"moved": Point, "closing": None, "photo": Binary, "anything": Any}
    replies = {
        "reply": {"ok": Point, "error": Problem},
        "later": Point,
        "stop": Point,
        "phx_join": {"error": Problem},
        "other": Point,
    }

    async def join(self, topic: str, payload: Any) -> Point | None:
        if "refuse" in payload:
            raise JoinRefused(payload["refuse"])
        # The client chooses the response, so a test can ask for a wrong one.
        return cast("Point | None", payload.get("response"))

    @handle_in("push")
    async def on_push(self, payload: Any) -> None:
        self.push(payload["event"], payload["payload"])

    @handle_in("broadcast")
    async def on_broadcast(self, payload: Any) -> None:
        self.broadcast(payload["event"], payload["payload"])

    @handle_in("broadcast_from")
    async def on_broadcast_from(self, payload: Any) -> None:
        self.broadcast_from(payload["event"], payload["payload"])

    @handle_in("bytes")
    async def on_bytes(self, payload: Any) -> None:
        self.push(payload["event"], Binary(b"GIF89a"))

    @handle_in("record")
    async def on_record(self, payload: Any) -> None:
        self.push("moved", Point(1, 2))

    @handle_in("reply")
    async def on_reply(self, payload: Any) -> PushReply:
        return PushReply(payload["payload"], status=payload.get("status", "ok"))

    @handle_in("typed", "later")
    async def on_typed(self, payload: Point) -> None:
        reply_to(self.socket_ref(), PushReply({"x": "no number"} if payload.x else payload))

    @handle_in("stop")
    async def on_stop(self, payload: Any) -> Stop:
        return Stop(NORMAL, reply=PushReply(payload))

    async def handle_in(self, event: str, payload: Any) -> PushReply:
        return PushReply(payload)

    @handle_out("intercepted")
    async def on_intercepted(self, payload: Any) -> None:
        self.push("moved", payload)


class Loose(Channel):
    """A channel without declarations."""

    @handle_in("push")
    async def on_push(self, payload: Any) -> PushReply:
        self.push("moved", {"x": "no number"})
        return PushReply(payload)


class Kept(DurableChannel):
    """A channel of a durable topic."""

    pushes = {"moved": Point}

    @handle_in("append")
    async def on_append(self, payload: Any) -> PushReply:
        await self.append("moved", payload)
        return PushReply()

    @handle_in("broadcast")
    async def on_broadcast(self, payload: Any) -> None:
        self.broadcast("moved", payload)


HISTORY = History(MemoryStorage())


class BoardSocket(Socket):
    channels = {"board:*": Board, "loose": Loose, "kept": Route("kept", Kept, history=HISTORY)}


def endpoint(**options: Any) -> Endpoint:
    return Endpoint(sockets={"/socket": BoardSocket}, histories=[HISTORY], **options)


@pytest.fixture
async def board(channel_test: OpenChannelTest) -> TestChannel:
    case = await channel_test(endpoint())
    client = await case.connect("/socket")
    return (await client.subscribe_and_join("board:1"))[1]


def crashes() -> list[Any]:
    """Collect the exceptions of crashed channels from now on."""
    found: list[Any] = []
    current_runtime().telemetry.attach(
        CRASH, lambda event, measured, about: found.append(about["exception"])
    )
    return found


@pytest.mark.parametrize("verb", ["push", "broadcast"])
@pytest.mark.parametrize(
    ("event", "payload"),
    [
        ("moved", {"x": 1}),
        ("moved", {"x": 1, "y": 2, "more": 3}),
        ("closing", {}),
        ("anything", {"a": [1]}),
        ("presence_state", {}),
    ],
)
async def test_a_declared_payload_is_sent(
    board: TestChannel, verb: str, event: str, payload: Any
) -> None:
    board.push(verb, {"event": event, "payload": payload})
    await board.assert_push(event, payload)


async def test_declared_bytes_and_records_are_sent(board: TestChannel) -> None:
    board.push("bytes", {"event": "photo"})
    await board.assert_push("photo", Binary(b"GIF89a"))
    board.push("record")
    await board.assert_push("moved", {"x": 1, "y": 2})


@pytest.mark.parametrize("verb", ["push", "broadcast", "broadcast_from"])
@pytest.mark.parametrize(
    ("event", "payload", "problem"),
    [
        (
            "moved",
            {"x": "1"},
            'fit pushes["moved"], which is Point: x: expected int, got str; send a payload of this type',
        ),
        ("moved", {}, 'does not fit pushes["moved"], which is Point: x: is missing'),
        ("closing", {"why": 1}, 'pushes["closing"], which is an empty object: it has fields'),
        ("photo", {}, 'pushes["photo"], which is Binary: expected Binary, got dict'),
        (
            "mvoed",
            {"x": 1},
            'its pushes do not declare this event; add the event, or send "moved" or "closing" or',
        ),
    ],
)
async def test_another_payload_or_event_crashes_the_channel_with_the_place(
    board: TestChannel, verb: str, event: str, payload: Any, problem: str
) -> None:
    found = crashes()
    board.push(verb, {"event": event, "payload": payload})
    await board.assert_push("phx_error")
    (error,) = found
    assert isinstance(error, DeclarationMismatch)
    assert (error.channel.__name__, error.event, error.status) == ("Board", event, None)
    assert problem in error.problem
    assert f"Board.on_{verb}, {__file__}:" in error.place


@pytest.mark.parametrize("event", ["moved", "closing"])
async def test_bytes_do_not_fit_a_declared_object(board: TestChannel, event: str) -> None:
    found = crashes()
    board.push("bytes", {"event": event})
    await board.assert_push("phx_error")
    assert "expected JSON, got Binary" in str(found[0])


async def test_a_push_of_an_interceptor_is_checked(board: TestChannel) -> None:
    found = crashes()
    board.client.case.endpoint.broadcast("board:1", "intercepted", {"x": None})
    await board.assert_push("phx_error")
    assert "x: expected int, got null" in str(found[0])


@pytest.mark.parametrize(
    ("event", "payload", "status"),
    [
        ("reply", {"payload": {"x": 1}}, "ok"),
        ("reply", {"payload": {"reason": "no"}, "status": "error"}, "error"),
        ("later", {"x": 0}, "ok"),
        ("typed", {"x": 1}, "ok"),
        ("typed", {"x": "1"}, "error"),
        ("other", {"x": 1}, "ok"),
        ("undeclared", {"x": "1"}, "ok"),
        ("stop", {"x": 1}, "ok"),
    ],
)
async def test_a_declared_reply_is_sent(
    board: TestChannel, event: str, payload: Any, status: str
) -> None:
    await board.assert_reply(board.push(event, payload), status)


@pytest.mark.parametrize(
    ("event", "payload", "problem"),
    [
        ("reply", {"payload": {}}, 'replies["reply"]["ok"], which is Point: x: is missing'),
        ("reply", {"payload": {}, "status": "error"}, "which is Problem: reason: is missing"),
        (
            "reply",
            {"payload": {"x": 1}, "status": "fine"},
            'do not declare this status; add the status, or use "ok" or "error"',
        ),
        ("later", {"x": 1}, "x: expected int, got str"),
        ("stop", {"x": None}, "x: expected int, got null"),
        ("other", {"x": "1"}, "x: expected int, got str"),
    ],
)
async def test_another_reply_crashes_the_channel(
    board: TestChannel, event: str, payload: Any, problem: str
) -> None:
    found = crashes()
    board.push(event, payload)
    await board.assert_push("phx_error")
    assert problem in str(found[0])
    assert f'Board answered "{event}" with status' in str(found[0])
    assert __file__ in found[0].place


@pytest.mark.parametrize(
    ("payload", "status"),
    [
        ({}, "ok"),
        ({"response": {"x": 1}}, "ok"),
        ({"refuse": {"reason": "no"}}, "error"),
    ],
)
async def test_a_declared_answer_to_the_join_is_sent(
    board: TestChannel, payload: Any, status: str
) -> None:
    answer, _ = await board.client.join("board:2", payload)
    assert answer.status == status


@pytest.mark.parametrize("payload", [{"response": {"x": "1"}}, {"refuse": {"why": "no"}}])
async def test_another_answer_to_the_join_crashes_it(board: TestChannel, payload: Any) -> None:
    found = crashes()
    answer, _ = await board.client.join("board:2", payload)
    assert answer.response == {"reason": "join crashed"}
    assert isinstance(found[0], DeclarationMismatch)


async def test_a_channel_without_declarations_sends_anything(board: TestChannel) -> None:
    _, loose = await board.client.subscribe_and_join("loose")
    await loose.assert_reply(loose.push("push", {"x": "1"}), "ok")


@pytest.mark.parametrize(
    ("options", "environment", "is_checked"),
    [
        ({}, None, False),
        ({}, "production", False),
        ({}, "development", True),
        ({"development": True}, None, True),
        ({"development": False}, "development", False),
    ],
)
async def test_a_server_checks_only_during_development(
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    environment: str | None,
    is_checked: bool,
) -> None:
    monkeypatch.delenv("ASHTREE_ENV", raising=False)
    if environment is not None:
        monkeypatch.setenv("ASHTREE_ENV", environment)
    client = await (await serve(endpoint(**options))).connect()
    await client.join("board:1")
    got = await client.exchange(
        ("1", "2", "board:1", "push", {"event": "moved", "payload": {"x": "1"}})
    )
    assert [frame[3] for frame in got] == (["phx_error"] if is_checked else ["moved"])


def test_only_the_routes_of_declared_classes_have_checks() -> None:
    plain = router_of(BoardSocket)
    checked = router_of(BoardSocket, declarations_of=declarations_of)
    for router in (plain, checked):
        assert [route.channel for route in router.routes[:2]] == [Board, Loose]
    assert [route.table.declarations for route in plain.routes[:2]] == [None, None]
    assert checked.routes[0].table.declarations is not None
    assert checked.routes[1].table.declarations is None
    assert plain.routes[0].table.join is Board.join
    assert checked.routes[1].table.join is Loose.join


async def test_a_message_of_a_durable_topic_is_checked(board: TestChannel) -> None:
    found = crashes()
    _, kept = await board.client.subscribe_and_join("kept")
    await kept.assert_reply(kept.push("append", {"x": 1}), "ok")
    for verb in ("append", "broadcast"):
        kept.push(verb, {"x": "1"})
        await kept.assert_push("phx_error")
        assert f"Kept.on_{verb}, {__file__}:" in found[-1].place
        _, kept = await board.client.subscribe_and_join("kept")


async def test_an_overridden_push_is_checked_for_what_it_sends(
    channel_test: OpenChannelTest,
) -> None:
    class Scaled(Channel):
        pushes = {"moved": Point}

        def push(self, event: str, payload: Any, *, scale: int = 1) -> None:
            super().push(event, {"x": payload * scale})

        @handle_in("push")
        async def on_push(self, payload: Any) -> None:
            self.push("moved", payload["x"], scale=2)

    class ScaledSocket(Socket):
        channels = {"scaled": Scaled}

    case = await channel_test(Endpoint(sockets={"/socket": ScaledSocket}))
    _, scaled = await (await case.connect("/socket")).subscribe_and_join("scaled")
    scaled.push("push", {"x": 3})
    await scaled.assert_push("moved", {"x": 6})
    found = crashes()
    scaled.push("push", {"x": "3"})
    await scaled.assert_push("phx_error")
    assert "x: expected int, got str" in str(found[0])


def test_a_class_that_registers_its_subclasses_sees_only_those_of_the_application() -> None:
    kinds = []

    class Registered(Channel):
        def __init_subclass__(cls, *, kind: str) -> None:
            super().__init_subclass__()
            kinds.append(kind)

    class Declared(Registered, kind="declared"):
        pushes = {"moved": Point}

        @handle_in("push")
        async def on_push(self, payload: Any) -> None: ...

    class DeclaredSocket(Socket):
        channels = {"declared": Declared}

    router = router_of(DeclaredSocket, declarations_of=declarations_of)
    assert router.routes[0].channel is Declared
    assert router.routes[0].table.declarations is not None
    assert kinds == ["declared"]
