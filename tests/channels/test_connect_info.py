"""The facts about a request for `connect`, and the options of a mount for them. Named after Phoenix's own tests."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import trio
import trio.lowlevel

import channels
from actors import InvalidOption
from channels import ConnectInfo, ConnectRefused, Endpoint, Mount, Refusal, Socket, TokenError, Uri
from channels.serializers.v2 import V2
from channels.telemetry import SOCKET_CONNECT_FAILED, SOCKET_CONNECTED
from tests.channels.conftest import Serve
from tests.channels.rooms import UserSocket
from tests.channels.support import UPGRADE, Answer, Server, head, settle

SECRET = "a secret that is long enough to be one, at least for this test"


class Curious(Socket):
    """A socket that keeps its arguments."""

    seen: ClassVar[list[tuple[dict[str, Any], ConnectInfo]]]

    async def connect(self, params: dict[str, Any], connect_info: ConnectInfo) -> None:
        type(self).seen.append((params, connect_info))


@pytest.fixture(autouse=True)
def forget() -> None:
    Curious.seen = []


async def ask(
    serve: Serve, mount: Mount, headers: str = "", query: str = "", path: str = "/socket/websocket"
) -> Answer:
    """Ask a server with one mount for a WebSocket."""
    server = await serve(Endpoint(sockets={"/socket": mount}))
    return await ask_at(server, f"{path}?vsn=2.0.0{query}", headers)


async def ask_at(server: Server, target: str, headers: str = "") -> Answer:
    client = await server.accept()
    client.write(head(target, UPGRADE + headers))
    await settle()
    answer = client.answer()
    assert answer is not None
    return answer


async def told(serve: Serve, headers: str = "", query: str = "", **options: Any) -> ConnectInfo:
    """The facts about a request for `connect`."""
    assert (await ask(serve, Mount(Curious, **options), headers, query)).status == 101
    return Curious.seen[-1][1]


async def test_transport_x_headers_are_extracted_to_the_socket_connect_info(serve: Serve) -> None:
    headers = "X-Forwarded-For: 10.0.0.1\r\nx-trace: a\r\nX-Trace: b\r\naccept: x-no\r\n"
    info = await told(serve, headers, connect_info=["x_headers"])
    assert info.x_headers == (("x-forwarded-for", "10.0.0.1"), ("x-trace", "a"), ("x-trace", "b"))
    assert info["x_headers"] == info.x_headers


async def test_transport_sec_websocket_headers_are_extracted_to_the_socket_connect_info(
    serve: Serve,
) -> None:
    info = await told(serve, connect_info=["sec_websocket_headers"])
    assert [name for name, _ in info["sec_websocket_headers"]] == [
        "sec-websocket-version",
        "sec-websocket-key",
    ]


async def test_transport_trace_context_headers_are_extracted_to_the_socket_connect_info(
    serve: Serve,
) -> None:
    info = await told(serve, "traceparent: 00-1-2-01\r\ntracestate: a=b\r\nx-traceparent: no\r\n")
    assert info.trace_context_headers == (("traceparent", "00-1-2-01"), ("tracestate", "a=b"))


async def test_transport_uri_is_extracted_to_the_socket_connect_info(serve: Serve) -> None:
    info = await told(serve, query="&a=%20b", connect_info=["uri"])
    assert info["uri"] == Uri(
        scheme="http", host="test", port=80, path="/socket/websocket", query="vsn=2.0.0&a=%20b"
    )
    assert str(info.uri) == "http://test/socket/websocket?vsn=2.0.0&a=%20b"
    assert "vsn" not in repr(info.uri)


@pytest.mark.parametrize(
    ("scheme", "host", "text"),
    [
        ("https", "example.org:8443", "https://example.org:8443/"),
        ("https", "example.org:443", "https://example.org/"),
        ("http", "[::1]:4000", "http://[::1]:4000/"),
        ("http", "a:b:c", "http:///"),
        ("http", "[", "http:///"),
        ("https", None, "https:///"),
    ],
)
def test_a_uri_uses_the_host_header_and_never_raises(
    scheme: str, host: str | None, text: str
) -> None:
    headers = () if host is None else (("host", host),)
    assert str(ConnectInfo(scheme=scheme, headers=headers).uri) == text


async def test_transport_user_agent_is_extracted_to_the_socket_connect_info(serve: Serve) -> None:
    assert (await told(serve, "user-agent: me\r\n", connect_info=["user_agent"]))["user_agent"] == (
        "me"
    )
    assert (await told(serve)).user_agent is None


async def test_transport_custom_keywords_are_extracted_to_the_socket_connect_info(
    serve: Serve,
) -> None:
    info = await told(serve, connect_info=[("region", "eu"), "uri"])
    assert info["region"] == "eu"
    assert "region" in info
    assert "x_headers" not in info
    with pytest.raises(KeyError, match=r"Mount\(..., connect_info=\['x_headers'\]\)"):
        info["x_headers"]


@pytest.mark.parametrize("wrong", [["x_header"], "uri", [("only",)], [7]])
def test_an_unknown_name_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidOption) as caught:
        Mount(UserSocket, connect_info=wrong)
    assert caught.value.option == "connect_info"


# Sessions


def decode(cookies: dict[str, str]) -> dict[str, str] | None:
    key = cookies.get("_key")
    return None if key is None else {"user": key, "_csrf_token": "token"}


async def test_transport_session_is_extracted_to_the_socket_connect_info(serve: Serve) -> None:
    info = await told(
        serve,
        "cookie: _key=ann\r\n",
        "&_csrf_token=token",
        session=decode,
        connect_info=["session"],
    )
    assert info["session"] == info.session == {"user": "ann", "_csrf_token": "token"}


async def test_a_session_function_may_be_async(serve: Serve) -> None:
    async def look_up(cookies: dict[str, str]) -> Any:
        await trio.lowlevel.checkpoint()
        return decode(cookies)

    info = await told(serve, "cookie: _key=ann\r\n", session=look_up, check_csrf=False)
    assert info.session["user"] == "ann"


async def test_does_not_load_session_when_an_invalid_csrf_token_is_provided(serve: Serve) -> None:
    cookie = "cookie: _key=ann\r\n"
    for query in ("", "&_csrf_token=other", "&_csrf_token[]=token"):
        assert (await told(serve, cookie, query, session=decode)).session is None
    assert (await told(serve, "", "&_csrf_token=token", session=decode)).session is None


async def test_loads_the_session_with_a_custom_rule(serve: Serve) -> None:
    info = await told(
        serve,
        "cookie: _key=ann\r\n",
        "&_csrf_token=ANN",
        session=decode,
        check_csrf=lambda session, token: session["user"].upper() == token,
    )
    assert info.session is not None


async def test_loads_the_session_when_csrf_is_disabled_despite_csrf_token_not_being_provided(
    serve: Serve,
) -> None:
    info = await told(serve, "cookie: _key=ann\r\n", session=decode, check_csrf=False)
    assert info.session["user"] == "ann"


async def test_a_session_function_that_raises_is_a_bug_of_the_application(serve: Serve) -> None:
    def broken(cookies: dict[str, str]) -> None:
        raise RuntimeError("no store")

    server = await serve(Endpoint(sockets={"/socket": Mount(Curious, session=broken)}))
    heard = server.listen(SOCKET_CONNECT_FAILED)
    assert (await ask_at(server, "/socket/websocket?vsn=2.0.0")).status == 500
    assert str(heard[0][1]["exception"]) == "no store"
    assert Curious.seen == []


def test_a_mount_cannot_disable_both_the_csrf_and_the_origin_check() -> None:
    with pytest.raises(InvalidOption) as refused:
        Mount(UserSocket, check_origin=False, check_csrf=False)
    assert refused.value.option == "check_csrf"
    Mount(UserSocket, check_origin=False)
    Mount(UserSocket, check_csrf=False)


# Refusals


class Refusing(Socket):
    """Refuses for the reason that the client asks for."""

    async def connect(self, params: dict[str, Any], connect_info: ConnectInfo) -> None:
        if "token" in params:
            channels.verify(SECRET, "user", params["token"])
        if "reason" in params:
            raise ConnectRefused(params["reason"])
        raise ConnectRefused


def handle(reason: Any, info: ConnectInfo) -> Any:
    if reason == "nothing":
        return None
    if isinstance(reason, TokenError):
        return Refusal(401, "log in again", headers=(("WWW-Authenticate", "Bearer"),))
    return Refusal(429, f"{reason} {info.path}", headers=(("content-type", "text/x"),))


async def test_refuses_connects_that_error_with_403_response(serve: Serve) -> None:
    answer = await ask(serve, Mount(Refusing), query="&reason=full")
    assert (answer.status, answer.body) == (403, b"")


async def test_refuses_connects_that_error_with_custom_error_response(serve: Serve) -> None:
    answer = await ask(serve, Mount(Refusing, error_handler=handle), query="&reason=full")
    assert (answer.status, answer.body) == (429, b"full /socket/websocket")
    assert answer.headers["content-type"] == "text/x"


async def test_a_refusal_without_a_reason_is_403_even_with_an_error_handler(serve: Serve) -> None:
    assert (await ask(serve, Mount(Refusing, error_handler=handle))).status == 403


async def test_a_token_error_in_connect_is_a_refusal(serve: Serve) -> None:
    server = await serve(Endpoint(sockets={"/socket": Mount(Refusing)}))
    refused, failed = server.listen(SOCKET_CONNECTED), server.listen(SOCKET_CONNECT_FAILED)
    assert (await ask_at(server, "/socket/websocket?vsn=2.0.0&token=bad")).status == 403
    assert isinstance(refused[0][1]["reason"], TokenError)
    assert failed == []


async def test_an_error_handler_sees_the_token_error(serve: Serve) -> None:
    answer = await ask(serve, Mount(Refusing, error_handler=handle), query="&token=bad")
    assert (answer.status, answer.body) == (401, b"log in again")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


async def test_an_error_handler_that_returns_none_is_a_mistake(serve: Serve) -> None:
    server = await serve(Endpoint(sockets={"/socket": Mount(Refusing, error_handler=handle)}))
    heard = server.listen(SOCKET_CONNECT_FAILED)
    assert (await ask_at(server, "/socket/websocket?vsn=2.0.0&reason=nothing")).status == 500
    assert "return a Refusal" in str(heard[0][1]["exception"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": 200},
        {"status": 999},
        {"status": "403"},
        {"headers": (("a\r\nb", "c"),)},
        {"headers": (("a", "b\r\nc: d"),)},
        {"headers": {"www-authenticate": "Bearer"}},
        {"headers": (("a", 1),)},
        {"body": b"bytes"},
    ],
)
def test_an_invalid_refusal_raises(wrong: Any) -> None:
    with pytest.raises(InvalidOption):
        Refusal(**wrong)


# Mounts


@pytest.mark.parametrize(
    ("option", "value", "advice"),
    [
        ("compress", "gzip", "True or False"),
        ("auth_token", "yes", "True or False"),
        ("websocket", None, "True or False"),
        ("session", {"key": 1}, "a function, or None"),
        ("error_handler", 403, "a function, or None"),
        ("check_csrf", "no", "True, False, or a function"),
        ("serializers", [], "a list with at least one pair"),
        ("serializers", [V2()], "a list with at least one pair"),
        ("serializers", [(V2(), "~> 2.0.0")], "a list with at least one pair"),
        ("connect_info", None, "a list of peer_data"),
        ("subprotocols", 3, "a list of names"),
    ],
)
def test_an_option_of_the_wrong_type_raises_with_the_correction(
    option: str, value: Any, advice: str
) -> None:
    with pytest.raises(InvalidOption, match=f"Mount got {option}=.*; write {advice}"):
        Mount(UserSocket, **{option: value})


async def test_subprotocols_are_answered_or_refused(serve: Serve) -> None:
    mount = Mount(Curious, subprotocols=["v2", "v1"])
    server = await serve(Endpoint(sockets={"/socket": mount}))
    answer = await ask_at(
        server, "/socket/websocket?vsn=2.0.0", "sec-websocket-protocol: v1, v2\r\n"
    )
    assert (answer.status, answer.headers["sec-websocket-protocol"]) == (101, "v2")
    answer = await ask_at(server, "/socket/websocket?vsn=2.0.0")
    assert answer.status == 101
    assert "sec-websocket-protocol" not in answer.headers
    answer = await ask_at(server, "/socket/websocket?vsn=2.0.0", "sec-websocket-protocol: v3\r\n")
    assert answer.status == 403
    assert len(Curious.seen) == 2, "connect is not asked about a client that is refused before"


@pytest.mark.parametrize("wrong", ["v1", ["a b"], ["a,b"], [7]])
def test_invalid_subprotocols_are_refused(wrong: Any) -> None:
    with pytest.raises(InvalidOption) as refused:
        Mount(UserSocket, subprotocols=wrong)
    assert refused.value.option == "subprotocols"


async def test_an_auth_token_reaches_connect_and_no_log(serve: Serve) -> None:
    offer = "sec-websocket-protocol: phoenix, base64url.bearer.phx.c2VjcmV0\r\n"
    answer = await ask(serve, Mount(Curious, auth_token=True, connect_info=["auth_token"]), offer)
    assert answer.headers["sec-websocket-protocol"] == "phoenix"
    ((params, info),) = Curious.seen
    assert info["auth_token"] == info.auth_token == "secret"
    assert params == {"vsn": "2.0.0"}
    assert "secret" not in repr(info)
    assert (await told(serve, offer)).auth_token is None


async def test_path_parameters_override_query_parameters(serve: Serve) -> None:
    sockets = {"/socket/:tenant/:_ignored": Mount(Curious, path="/:shard/ws")}
    server = await serve(Endpoint(sockets=sockets))
    answer = await ask_at(server, "/socket/acme/x/7/ws?vsn=2.0.0&tenant=evil&_ignored=y&z=1")
    assert answer.status == 101
    assert Curious.seen[0][0] == {
        "vsn": "2.0.0",
        "tenant": "acme",
        "shard": "7",
        "_ignored": "y",
        "z": "1",
    }


async def test_endpoint_handles_multiple_mount_segments(serve: Serve) -> None:
    sockets: dict[str, Any] = {"/ws/admin": Curious, "/ws/:any": Curious, "/": Curious}
    server = await serve(Endpoint(sockets=sockets))
    for path in ("/ws/admin/websocket", "/ws/other/websocket", "/websocket"):
        assert (await ask_at(server, f"{path}?vsn=2.0.0")).status == 101
    assert [params.get("any") for params, _ in Curious.seen] == [None, "other", None]


@pytest.mark.parametrize("wrong", ["websocket", "", None, 7])
def test_an_invalid_path_of_a_mount_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidOption) as refused:
        Mount(UserSocket, path=wrong)
    assert refused.value.option == "path"


async def test_two_mounts_at_one_path_raise_before_the_endpoint_starts() -> None:
    with pytest.raises(channels.EndpointError, match="two sockets are mounted at"):
        Endpoint(sockets={"/:a": UserSocket, "/:b": UserSocket}).check()


async def test_honors_configured_max_channels_per_transport(serve: Serve) -> None:
    mounts = {"/one": Mount(UserSocket, max_channels=1), "/two": Mount(UserSocket)}
    server = await serve(Endpoint(sockets=mounts))
    for path, status in (("/one", "error"), ("/two", "ok")):
        client = await server.connect(path)
        await client.join("room:a")
        (answer,) = await client.exchange(("2", "2", "room:b", "phx_join"))
        assert answer[4]["status"] == status
