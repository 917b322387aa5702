"""Only the documented results let a client in; every other one refuses it and is reported in the log."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Callable
from typing import Any, ClassVar

import msgspec
import pytest
from attrs import frozen

import actors
from actors import InvalidOption
from channels import (
    Binary,
    Channel,
    ConnectInfo,
    ConnectRefused,
    Endpoint,
    InvalidResult,
    JoinRefused,
    Mount,
    PushReply,
    Refusal,
    Socket,
)
from channels.telemetry import SOCKET_CONNECT_FAILED
from tests.channels.conftest import Serve
from tests.channels.rooms import UserSocket
from tests.channels.support import UPGRADE, Answer, Server, head, settle

HERE = re.escape(__file__)


async def ask(server: Server, headers: str = "", query: str = "") -> Answer:
    client = await server.accept()
    client.write(head(f"/socket/websocket?vsn=2.0.0{query}", UPGRADE + headers))
    await settle()
    answer = client.answer()
    assert answer is not None
    return answer


async def a_coroutine() -> None: ...


# Results of `connect`: the value, the description in the error, and the correction.
CONNECT: dict[str, tuple[Callable[[], Any], str, str]] = {
    "False": (lambda: False, "False", r"write `raise ConnectRefused\(reason\)` to refuse it"),
    "True": (lambda: True, "True", "return None to accept the client"),
    "zero": (lambda: 0, "0", "return None to accept the client"),
    "a tuple": (lambda: ("error", "no"), r"\('error', 'no'\)", "write `raise ConnectRefused"),
    "a dict": (lambda: {"user": 1}, "{'user': 1}", "return None to accept the client"),
    "a refusal": (
        lambda: ConnectRefused("no"),
        ".*",
        r"write `raise ConnectRefused\(...\)` in place of",
    ),
    "a refusal's class": (lambda: ConnectRefused, ".*", "write `raise ConnectRefused` in place of"),
    "an exception": (
        lambda: ValueError("no"),
        ".*",
        r"write `raise ValueError\(...\)` in place of",
    ),
    "an HTTP answer": (lambda: Refusal(401), ".*", "write `raise ConnectRefused"),
    "a coroutine": (
        a_coroutine,
        "a coroutine that was not awaited",
        "write `await` before the call",
    ),
}


@pytest.mark.parametrize("what", CONNECT)
async def test_any_result_of_connect_except_none_refuses_the_client_and_is_reported(
    serve: Serve, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    value, said, advice = CONNECT[what]

    class Door(Socket):
        channels = UserSocket.channels

        async def connect(self, params: Any, connect_info: Any) -> Any:
            return value()

    with caplog.at_level(logging.ERROR, "channels"):
        server = await serve(Endpoint(sockets={"/socket": Door}))
        heard = server.listen(SOCKET_CONNECT_FAILED)
        answer = await ask(server)
    assert (answer.status, answer.body) == (403, b"")
    ((_, about),) = heard
    error = about["exception"]
    assert isinstance(error, InvalidResult)
    assert (error.callback, about["status"]) == ("Door.connect", 403)
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    text = record.getMessage()
    assert re.search(rf"^Door\.connect returned {said} \({HERE}:\d+\); ", text)
    assert re.search(advice, text)
    assert text.endswith("; the client got HTTP 403")
    assert server.endpoint.statistics()["counts"][SOCKET_CONNECT_FAILED] == 1


@frozen
class Answered:
    total: int


@dataclasses.dataclass
class Counted:
    total: int


class Packed(msgspec.Struct):
    total: int


class Listed(msgspec.Struct, array_like=True):
    total: int


# Results of `join`: the value, and the correction in the error.
JOIN: dict[str, tuple[Callable[[], Any], str]] = {
    "False": (lambda: False, r"write `raise JoinRefused\({...}\)` to refuse it"),
    "True": (lambda: True, "return None or a dict to let the client in"),
    "a tuple": (lambda: ("ok", {}), "return None or a dict to let the client in"),
    "a list": (lambda: [1], "return None or a dict to let the client in"),
    "text": (lambda: "ok", "return None or a dict to let the client in"),
    "a number": (lambda: 0, "return None or a dict to let the client in"),
    "a record that is no object": (lambda: Listed(1), "return None or a dict"),
    "a class": (lambda: Answered, "return None or a dict to let the client in"),
    "a refusal": (
        lambda: JoinRefused({"reason": "no"}),
        r"write `raise JoinRefused\(...\)` in place",
    ),
    "a refusal's class": (lambda: JoinRefused, "write `raise JoinRefused` in place"),
    "an exception": (lambda: ValueError("no"), r"write `raise ValueError\(...\)` in place"),
    "a reply": (
        lambda: PushReply({"n": 1}),
        "return the payload itself, without a PushReply around it",
    ),
    "a reply of actors": (lambda: actors.Reply({"n": 1}), "return None or a dict"),
    "a stop": (actors.Stop, "return None or a dict to let the client in"),
    "a coroutine": (a_coroutine, "write `await` before the call"),
}


def rooms(value: Callable[[], Any]) -> Endpoint:
    class Craft(Channel):
        async def join(self, topic: str, payload: Any) -> Any:
            return value()

    class Door(UserSocket):
        channels = {"room:*": Craft}

    return Endpoint(sockets={"/socket": Door})


@pytest.mark.parametrize("what", JOIN)
async def test_an_undocumented_result_of_join_refuses_the_client_and_is_reported(
    serve: Serve, what: str
) -> None:
    value, advice = JOIN[what]
    server = await serve(rooms(value))
    crashes = server.crashes()
    client = await server.connect()
    ((_, _, _, event, payload),) = await client.exchange(("1", "1", "room:a", "phx_join"))
    assert event == "phx_reply"
    assert payload == {"status": "error", "response": {"reason": "join crashed"}}
    assert server.channels("room:a") == []
    (error,) = crashes
    assert isinstance(error, InvalidResult)
    assert error.callback == "Craft.join"
    assert re.search(rf"^Craft\.join returned .* \({HERE}:\d+\); .*{advice}", str(error))


ENCODABLE: list[tuple[Any, Any]] = [
    (None, {}),
    ({}, {}),
    ({"total": 3}, {"total": 3}),
    (Answered(3), {"total": 3}),
    (Counted(3), {"total": 3}),
    (Packed(3), {"total": 3}),
]


@pytest.mark.parametrize(("value", "response"), ENCODABLE)
async def test_join_accepts_the_client_with_none_a_dict_or_a_record(
    serve: Serve, value: Any, response: Any
) -> None:
    client = await (await serve(rooms(lambda: value))).connect()
    ((*_, payload),) = await client.exchange(("1", "1", "room:a", "phx_join"))
    assert payload == {"status": "ok", "response": response}


async def test_join_accepts_the_client_with_raw_bytes(serve: Serve) -> None:
    server = await serve(rooms(lambda: Binary(b"map")))
    client = await server.connect()
    await client.exchange(("1", "1", "room:a", "phx_join"))
    assert len(server.channels("room:a")) == 1


# The questions of permission that a mount asks


class Curious(UserSocket):
    sessions: ClassVar[list[Any]] = []

    async def connect(self, params: Any, connect_info: ConnectInfo) -> None:
        self.assigns["user"] = None
        self.sessions.append(connect_info.session)
        if "reason" in params:
            raise ConnectRefused(params["reason"])


ORIGIN = "origin: https://else.where\r\n"


@pytest.mark.parametrize("answer", [None, 1, 0, "yes", object(), {"ok": True}, Refusal()])
async def test_an_origin_function_accepts_only_with_true(
    serve: Serve, caplog: pytest.LogCaptureFixture, answer: Any
) -> None:
    def allowed(origin: Any) -> Any:
        return answer

    with caplog.at_level(logging.ERROR, "channels"):
        server = await serve(Endpoint(sockets={"/socket": Mount(Curious, check_origin=allowed)}))
        assert (await ask(server, ORIGIN)).status == 403
    (record,) = caplog.records
    text = record.getMessage()
    assert re.match(rf"the function .*allowed of check_origin returned .* \({HERE}:\d+\); ", text)
    assert "it may return True, False; the client got HTTP 403" in text


async def test_an_origin_function_that_returns_a_coroutine_refuses(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    mount = Mount(Curious, check_origin=lambda origin: a_coroutine())  # type: ignore[arg-type,return-value]
    server = await serve(Endpoint(sockets={"/socket": mount}))
    assert (await ask(server, ORIGIN)).status == 403
    assert "write a plain function, `def`, that returns True or False" in caplog.text


async def test_an_origin_function_that_raises_refuses_and_is_logged(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(origin: Any) -> bool:
        raise LookupError("no list")

    server = await serve(Endpoint(sockets={"/socket": Mount(Curious, check_origin=broken)}))
    assert (await ask(server, ORIGIN)).status == 403
    assert "Curious.check_origin raised; the client got HTTP 403" in caplog.text
    assert "LookupError: no list" in caplog.text


@pytest.mark.parametrize(("answer", "status"), [(True, 101), (False, 403)])
async def test_an_origin_function_may_return_true_and_false(
    serve: Serve, answer: bool, status: int
) -> None:
    mount = Mount(Curious, check_origin=lambda origin: answer)
    assert (await ask(await serve(Endpoint(sockets={"/socket": mount})), ORIGIN)).status == status


@pytest.mark.parametrize("session", [False, True, ("user", 1), "ann", 7, ValueError("no")])
async def test_a_session_that_is_not_a_mapping_refuses_the_client(
    serve: Serve, session: Any
) -> None:
    Curious.sessions.clear()
    mount = Mount(Curious, session=lambda cookies: session, check_csrf=False)
    server = await serve(Endpoint(sockets={"/socket": mount}))
    heard = server.listen(SOCKET_CONNECT_FAILED)
    assert (await ask(server)).status == 500
    assert Curious.sessions == []
    ((_, about),) = heard
    assert re.match(
        "the session of Curious returned .*; it may return None, a mapping", str(about["exception"])
    )


@pytest.mark.parametrize("answer", [None, 1, "yes", object()])
async def test_a_csrf_function_gives_the_session_only_with_true(serve: Serve, answer: Any) -> None:
    Curious.sessions.clear()
    mount = Mount(Curious, session=lambda cookies: {"user": 1}, check_csrf=lambda *_: answer)
    server = await serve(Endpoint(sockets={"/socket": mount}))
    assert (await ask(server, query="&_csrf_token=x")).status == 500
    assert Curious.sessions == []


async def test_an_error_handler_that_returns_a_coroutine_is_reported_and_refuses(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    mount = Mount(Curious, error_handler=lambda *_: a_coroutine())  # type: ignore[arg-type]
    server = await serve(Endpoint(sockets={"/socket": mount}))
    assert (await ask(server, query="&reason=full")).status == 500
    assert "the error_handler of Curious returned a coroutine" in caplog.text
    assert "return a Refusal, such as Refusal(401)" in caplog.text


async def asks(*_: Any) -> bool:
    return True


@pytest.mark.parametrize(
    ("option", "instead"),
    [
        ("check_origin", "`def check(origin)`"),
        ("check_csrf", "`def check(session, token)`"),
        ("error_handler", "`def handler(reason, connect_info)`"),
    ],
)
def test_a_mount_refuses_an_async_permission_check(option: str, instead: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        Mount(Curious, **{option: asks})  # type: ignore[arg-type]
    assert f"write a plain function, {instead}, without async" in str(caught.value)


@pytest.mark.parametrize("identity", [7, False, ("user", 7), ConnectRefused])
async def test_an_invalid_id_refuses_the_client_and_is_reported(
    serve: Serve, caplog: pytest.LogCaptureFixture, identity: Any
) -> None:
    class Odd(UserSocket):
        def id(self) -> Any:
            return identity

    server = await serve(Endpoint(sockets={"/socket": Odd}))
    assert (await ask(server)).status == 500
    assert re.search(rf"Odd\.id returned .* \({HERE}:\d+\); return a topic", caplog.text)
