"""Answers to requests of polling clients, byte for byte: statuses, headers and bodies."""

from __future__ import annotations

import base64
import contextvars
import json
import math
from typing import Any

import pytest
import trio

from actors import InvalidArgument, sys
from channels import (
    ConnectInfo,
    ConnectRefused,
    Endpoint,
    LongPoll,
    Mount,
    PeerData,
    Refusal,
    Socket,
    sign,
)
from channels.telemetry import LONGPOLL_LEFT_OUT, SOCKET_CONNECT_FAILED, SOCKET_ORIGIN_REFUSED
from supervision import DynamicSupervisor
from tests.channels.conftest import Serve
from tests.channels.polling import JSON, NDJSON, Poller, line, sessions
from tests.channels.rooms import Room, UserSocket
from tests.channels.support import Answer, Server, named, reply, settle

SECRET = "a secret that only this test knows"
HEADERS = {
    "access-control-allow-origin": "*",
    "content-type": "application/json; charset=utf-8",
    "cache-control": "no-store",
}
JOIN = ("1", "1", "room:a", "phx_join")


@pytest.fixture
async def server(serve: Serve) -> Server:
    endpoint = Endpoint(
        sockets={"/socket": Mount(UserSocket, longpoll=True)}, secret_key_base=SECRET
    )
    return await serve(endpoint)


@pytest.fixture
def stranger(server: Server) -> Poller:
    """A client without a session."""
    return Poller(server)


@pytest.fixture
async def poller(server: Server) -> Poller:
    """A client with a session."""
    return await Poller(server).open()


def headers_of(answer: Answer) -> dict[str, str]:
    """The headers that are ours; the date and the length of the body are checked here."""
    headers = dict(answer.headers)
    assert headers.pop("date")
    assert headers.pop("content-length") == str(len(answer.body))
    headers.pop("connection", None)
    return headers


def assert_says(answer: Answer, body: bytes) -> None:
    assert answer.status == 200
    assert answer.body == body
    assert headers_of(answer) == HEADERS


# Sessions begin


async def test_a_get_without_a_session_starts_one_and_returns_its_token(stranger: Poller) -> None:
    client = await stranger.server.accept()
    client.write(stranger.request("GET"))
    await settle()
    answer = client.answer()
    assert answer is not None
    token = json.loads(answer.body)["token"]
    assert_says(answer, b'{"messages":[],"status":410,"token":"%s"}' % token.encode())
    assert len(sessions(stranger.server)) == 1


async def test_the_status_line_and_the_order_of_headers_are_those_of_http(stranger: Poller) -> None:
    client = await stranger.server.accept()
    client.write(stranger.request("POST", b"", token="none"))
    await settle()
    client._read()
    status, *lines = client._reader.data.split(b"\r\n")
    assert status.startswith(b"HTTP/1.1 200")
    assert lines[:4] == [
        b"access-control-allow-origin: *",
        b"content-type: application/json; charset=utf-8",
        b"cache-control: no-store",
        b"content-length: 14",
    ]
    assert lines[-2:] == [b"", b'{"status":410}']


@pytest.mark.parametrize("query", ["vsn=2.0.0&token=deny", "vsn=9.0.0", "vsn=2.0", "vsn[]=2.0.0"])
async def test_a_refused_client_gets_403(server: Server, query: str) -> None:
    assert_says(await Poller(server, query=query).ask("GET"), b'{"status":403}')
    assert await DynamicSupervisor.which_children((server.endpoint, "sessions")) == []


async def test_a_connect_that_raises_is_500_and_an_event(server: Server) -> None:
    heard = server.listen(SOCKET_CONNECT_FAILED)
    answer = await Poller(server, query="vsn=2.0.0&token=crash").ask("GET")
    assert (answer.status, answer.body) == (500, b"")
    assert headers_of(answer) == {"access-control-allow-origin": "*"}
    assert [type(about["exception"]) for _, about in heard] == [RuntimeError]


async def test_the_error_handler_of_the_mount_is_not_asked(serve: Serve) -> None:
    asked: list[Any] = []

    def handle(reason: Any, info: ConnectInfo) -> Refusal:
        asked.append(reason)
        return Refusal(418)

    mount = Mount(UserSocket, longpoll=True, error_handler=handle)
    server = await serve(Endpoint(sockets={"/socket": mount}))
    assert_says(await Poller(server, query="vsn=2.0.0&token=deny").ask("GET"), b'{"status":403}')
    assert asked == []


async def test_connect_gets_the_request_that_began_the_session(serve: Serve) -> None:
    seen: list[tuple[dict[str, Any], ConnectInfo]] = []

    class Curious(Socket):
        channels = {"room:*": Room}

        async def connect(self, params: dict[str, Any], connect_info: ConnectInfo) -> None:
            seen.append((params, connect_info))

    mount = Mount(Curious, longpoll=LongPoll(path="/poll/:way"), auth_token=True)
    server = await serve(Endpoint(sockets={"/socket/:tenant": mount}))
    poller = Poller(
        server,
        path="/socket/acme%20inc/poll/slow",
        query="vsn=2.0.0&tenant=mine&user[name]=ann",
        headers=(
            ("user-agent", "test/1"),
            ("x-forwarded-for", "192.0.2.1"),
            ("traceparent", "00-1-2-01"),
            ("x-phoenix-authtoken", "secret"),
        ),
    )
    await poller.open()
    ((params, info),) = seen
    assert params == {
        "vsn": "2.0.0",
        "tenant": "acme inc",
        "way": "slow",
        "user": {"name": "ann"},
    }
    assert info.user_agent == "test/1"
    assert ("x-forwarded-for", "192.0.2.1") in info.x_headers
    assert info.trace_context_headers == (("traceparent", "00-1-2-01"),)
    assert info.auth_token == "secret"
    assert (info.uri.host, info.uri.path) == ("test", "/socket/acme%20inc/poll/slow")
    assert info.peer_data is None, "memory has no addresses"
    await poller.join()
    assert len(seen) == 1


async def test_the_auth_token_is_only_for_mounts_that_ask_for_it(serve: Serve) -> None:
    class Curious(Socket):
        async def connect(self, params: dict[str, Any], connect_info: ConnectInfo) -> None:
            if connect_info.auth_token is not None:
                raise ConnectRefused

    server = await serve(Endpoint(sockets={"/socket": Mount(Curious, longpoll=True)}))
    await Poller(server, headers=(("x-phoenix-authtoken", "secret"),)).open()


# Polls


async def test_a_poll_gets_at_once_what_waits_and_only_once(poller: Poller) -> None:
    await poller.join()
    assert (
        await poller.send(("1", "2", "room:a", "echo", {"n": 1}), ("1", "3", "room:a", "push"))
        == 200
    )
    answer = await poller.ask("GET")
    one = rb"[\"1\",\"2\",\"room:a\",\"phx_reply\",{\"status\":\"ok\",\"response\":{\"n\":1}}]"
    other = rb"[\"1\",null,\"room:a\",\"pushed\",{}]"
    token = poller.token.encode()
    assert_says(answer, b'{"messages":["%s","%s"],"status":200,"token":"%s"}' % (one, other, token))
    assert (await poller.begin("GET")).answer() is None


async def test_a_poll_is_held_for_the_window_and_then_204(poller: Poller) -> None:
    held = await poller.begin("GET")
    await trio.sleep(9.9)
    assert held.answer() is None
    await trio.sleep(0.2)
    answer = held.answer()
    assert answer is not None
    assert_says(answer, b'{"messages":[],"status":204,"token":"%s"}' % poller.token.encode())


async def test_a_poll_that_is_held_wakes_as_soon_as_there_is_something(poller: Poller) -> None:
    await poller.join()
    began = trio.current_time()
    held = await poller.begin("GET")
    poller.server.endpoint.broadcast("room:a", "new", {"n": 1})
    poller.server.endpoint.broadcast("room:a", "new", {"n": 2})
    await settle()
    said = held.said()
    assert said is not None
    assert [json.loads(message)[4]["n"] for message in said["messages"]] == [1, 2]
    assert trio.current_time() == began


async def test_the_latest_poll_gets_the_messages_and_the_one_before_204(poller: Poller) -> None:
    await poller.join()
    first, second = await poller.begin("GET"), await poller.begin("GET")
    poller.server.endpoint.broadcast("room:a", "new", {})
    await settle()
    assert first.answer() is None
    said = second.said()
    assert said is not None
    assert (said["status"], len(said["messages"])) == (200, 1)
    await trio.sleep(10.1)
    said = first.said()
    assert said is not None
    assert (said["status"], said["messages"]) == (204, [])


async def test_what_a_client_that_left_was_waiting_for_is_kept_for_its_next_poll(
    poller: Poller,
) -> None:
    await poller.join()
    (await poller.begin("GET")).go()
    await settle()
    poller.server.endpoint.broadcast("room:a", "new", {"n": 1})
    assert await poller.messages() == [[None, None, "room:a", "new", {"n": 1}]]


# Tokens


async def test_the_header_counts_even_if_the_parameter_is_right(poller: Poller) -> None:
    parameter = f"&token={poller.token}"
    said = await poller.get(token="nonsense", query=parameter)
    assert (said["status"], said["token"] != poller.token) == (410, True)
    await poller.join()
    poller.server.endpoint.broadcast("room:a", "new", {})
    assert (await poller.get(query="&token=nonsense"))["status"] == 200


async def test_the_parameter_counts_where_there_is_no_header(
    server: Server, poller: Poller
) -> None:
    await poller.join()
    server.endpoint.broadcast("room:a", "new", {})
    old = Poller(server, query=f"vsn=2.0.0&token={poller.token}")
    said = await old.get()
    assert (said["status"], said["token"]) == (200, poller.token)
    assert await old.send(("1", "2", "room:a", "echo")) == 200
    nested = Poller(server, query=f"vsn=2.0.0&token[]={poller.token}")
    assert (await nested.get())["status"] == 410


def forged(
    *parts: Any, secret: str = SECRET, salt: str = "phoenix longpoll session", **how: Any
) -> str:
    return sign(secret, salt, parts, **how)


def forgeries(server: Server) -> dict[str, str]:
    """Tokens that are wrong in one way each."""
    (name,) = server.services.admission.polling
    return {
        "garbage": "garbage",
        "another secret": forged("v1", "local", name, secret="another secret, long enough"),
        "another salt": forged("v1", "local", name, salt="user auth"),
        "another shape": forged(name),
        "another version": forged("v2", "local", name),
        "no name": forged("v1", "local", {}),
        "no such session": forged("v1", "local", "no such session"),
        "another node": forged("v1", "elsewhere", name),
        "no node": forged("v1", {}, name),
        "expired": forged("v1", "local", name, signed_at=0),
        "older than this mount allows": forged("v1", "local", name, signed_at=0, max_age=math.inf),
    }


async def test_a_token_that_is_none_means_no_session(poller: Poller) -> None:
    (name,) = poller.server.services.admission.polling
    assert await poller.post(line(JOIN), token=forged("v1", "local", name)) == 200, (
        "this one is right"
    )
    for why, token in forgeries(poller.server).items():
        assert await poller.post(line(JOIN), token=token) == 410, why
        said = await poller.get(token=token)
        assert (said["status"], said["messages"]) == (410, []), why
        assert said["token"] != poller.token


async def test_a_session_that_does_not_answer_in_time_counts_as_gone(poller: Poller) -> None:
    (pid,) = sessions(poller.server)
    await sys.suspend(pid)
    get, post = await poller.begin("GET"), await poller.begin("POST", line(JOIN))
    await trio.sleep(1.9)
    assert (get.answer(), post.answer()) == (None, None)
    await trio.sleep(0.2)
    assert post.said() == {"status": 410}
    said = get.said()
    assert said is not None
    assert (said["status"], said["token"] != poller.token) == (410, True)


async def test_a_secret_of_the_endpoint_s_own_is_another_at_each_start(serve: Serve) -> None:
    server = await serve(Endpoint(sockets={"/socket": Mount(UserSocket, longpoll=True)}))
    poller = await Poller(server).open()
    assert (
        await poller.get(token=forged("v1", "local", next(iter(server.services.admission.polling))))
    )["status"] == 410


def test_a_secret_that_is_too_short_is_found_before_anything_starts() -> None:
    with pytest.raises(InvalidArgument):
        Endpoint(sockets={}, secret_key_base="short").check()


# Batches


async def test_a_post_is_answered_when_every_line_is_processed(poller: Poller) -> None:
    answer = await poller.ask("POST", line(JOIN), ("content-type", NDJSON))
    assert_says(answer, b'{"status":200}')
    assert await poller.messages() == [reply("1", "1", "room:a")]


@pytest.mark.parametrize("kind", [JSON, None, f"{NDJSON}; charset=utf-8", "Application/X-NDJSON"])
async def test_any_other_type_of_body_is_one_message(poller: Poller, kind: str | None) -> None:
    assert await poller.post(line(JOIN), kind) == 200
    assert await poller.messages() == [reply("1", "1", "room:a")]
    two = b"\n".join((line(("1", "2", "room:a", "echo")), line(("1", "3", "room:a", "echo"))))
    assert await poller.post(two, kind) == 408


async def test_two_types_are_none(poller: Poller) -> None:
    types = ("content-type", NDJSON), ("content-type", NDJSON)
    body = b"\n".join((line(JOIN), line(("1", "2", "room:a", "echo"))))
    answer = await poller.ask("POST", body, *types)
    assert json.loads(answer.body) == {"status": 408}, "as one text it is no message"


async def test_lines_end_with_either_newline(poller: Poller) -> None:
    body = (
        line(JOIN)
        + b"\r\n"
        + line(("1", "2", "room:a", "echo"))
        + b"\n"
        + line(("1", "3", "room:a", "echo"))
    )
    assert await poller.post(body) == 200
    assert [message[1] for message in await poller.messages()] == ["1", "2", "3"]


async def test_lines_beyond_the_hundredth_are_left_out(
    poller: Poller, caplog: pytest.LogCaptureFixture
) -> None:
    await poller.join()
    heard = poller.server.listen(LONGPOLL_LEFT_OUT)
    pushes = [("1", str(number), "room:a", "echo") for number in range(105)]
    assert await poller.send(*pushes) == 200
    assert [message[1] for message in await poller.messages()] == [str(n) for n in range(100)]
    assert [measured for measured, _ in heard] == [{"messages": 5}]
    assert (
        "posted a batch of more than 100 messages; the server discarded the last 5" in caplog.text
    )
    assert poller.server.endpoint.statistics()["counts"] == {LONGPOLL_LEFT_OUT: 1}
    await poller.send(*pushes[:100])
    assert len(heard) == 1


async def test_base64_is_a_binary_message(poller: Poller) -> None:
    await poller.join()
    push = b"\x00\x01\x01\x06\x0512room:acount"
    assert await poller.post(base64.b64encode(push)) == 200
    assert await poller.messages() == [reply("1", "2", "room:a", {"count": 1})]


async def test_a_line_that_is_no_base64_is_500_and_the_session_lives(poller: Poller) -> None:
    await poller.join()
    body = line(("1", "2", "room:a", "echo")) + b"\n!!!\n" + line(("1", "3", "room:a", "echo"))
    answer = await poller.ask("POST", body, ("content-type", NDJSON))
    assert (answer.status, answer.body) == (500, b"")
    assert headers_of(answer) == {"access-control-allow-origin": "*"}
    assert [message[1] for message in await poller.messages()] == ["2"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", NDJSON),
        (b"", JSON),
        (b'["1","2","room:a","echo",{}]\n', NDJSON),
        (b'{"bad', JSON),
        (b'["1","2","room:a"]', NDJSON),
        (b"AAEC", NDJSON),
        (b'["1","2","room:a","echo","\xff"]', NDJSON),
    ],
)
async def test_a_message_that_is_none_ends_the_session(
    poller: Poller, body: bytes, kind: str
) -> None:
    assert await poller.post(body, kind) == 408
    assert await poller.post(line(JOIN)) == 410
    said = await poller.get()
    assert (said["status"], said["messages"], said["token"] != poller.token) == (410, [], True)


async def test_the_first_version_of_the_protocol_cannot_send_batches(server: Server) -> None:
    old = await Poller(server, query="").open()
    join = b'{"topic":"room:a","event":"phx_join","payload":{},"ref":"1"}'
    assert await old.post(join, JSON) == 200
    said = await old.get()
    (message,) = said["messages"]
    assert json.loads(message) == {
        "topic": "room:a",
        "event": "phx_reply",
        "payload": {"status": "ok", "response": {}},
        "ref": "1",
    }
    assert await old.post(base64.b64encode(join)) == 200, "it does not care how it came"
    answer = await old.ask("POST", join, ("content-type", NDJSON))
    assert answer.status == 500, "it is no base64"


async def test_a_line_not_processed_within_the_window_is_408_and_ends_the_batch(
    serve: Serve,
) -> None:
    mount = Mount(UserSocket, longpoll=LongPoll(window=3.0))
    server = await serve(Endpoint(sockets={"/socket": mount}))
    poller = await Poller(server).open()
    pools = [named((server.endpoint, "channels", "UserSocket", number)) for number in range(2)]
    for pool in pools:
        await sys.suspend(pool)
    body = b"\n".join((line(JOIN), line(("1", "2", "room:a", "echo"))))
    slow = await poller.begin("POST", body, ("content-type", NDJSON))
    await trio.sleep(2.9)
    assert slow.answer() is None
    await trio.sleep(0.2)
    assert slow.said() == {"status": 408}
    for pool in pools:
        await sys.resume(pool)
    assert await poller.messages() == [reply("1", "1", "room:a")], (
        "the join was carried out, what followed it was not"
    )


# Requests that are refused


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_a_page_of_another_site_gets_403(poller: Poller, method: str) -> None:
    heard = poller.server.listen(SOCKET_ORIGIN_REFUSED)
    evil = ("origin", "https://evil.example")
    assert_says(await poller.ask(method, None if method == "GET" else b"", evil), b'{"status":403}')
    assert [about["origin"] for _, about in heard] == ["https://evil.example"]
    assert sessions(poller.server), "it lives"
    assert (await poller.begin("GET", None, ("origin", "http://test"))).answer() is None


async def test_a_preflight_is_answered_with_what_was_asked_for(stranger: Poller) -> None:
    asked = ("access-control-request-headers", "content-type, x-phoenix-longpoll-token")
    answer = await stranger.ask("OPTIONS", None, asked)
    assert (answer.status, answer.body) == (200, b"")
    assert headers_of(answer) == {
        "access-control-allow-origin": "*",
        "access-control-allow-headers": "content-type, x-phoenix-longpoll-token",
        "access-control-allow-methods": "get, post, options",
        "access-control-max-age": "3600",
    }
    assert headers_of(await stranger.ask("OPTIONS"))["access-control-allow-headers"] == ""


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD"])
async def test_any_other_method_is_400(poller: Poller, method: str) -> None:
    answer = await poller.ask(method, b"" if method != "HEAD" else None)
    assert (answer.status, answer.body) == (400, b"")
    assert headers_of(answer) == {"access-control-allow-origin": "*"}


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_a_query_that_is_not_utf8_is_400(poller: Poller, method: str) -> None:
    answer = await poller.ask(method, b"" if method == "POST" else None, query="&a=%ff")
    assert (answer.status, answer.body) == (400, b"")


@pytest.mark.parametrize("path", ["/socket/longpoll/", "/socket//longpoll", "//socket/longpoll"])
async def test_empty_segments_of_a_path_do_not_count(server: Server, path: str) -> None:
    await Poller(server, path).open()


@pytest.mark.parametrize("host", ["test", "elsewhere:4000"])
async def test_a_target_in_absolute_form_is_the_path_behind_its_host(
    server: Server, host: str
) -> None:
    await Poller(server, f"http://{host}/socket/longpoll").open()


async def test_a_body_that_is_too_big_is_400_and_the_connection_can_go_on(serve: Serve) -> None:
    mount = Mount(UserSocket, longpoll=LongPoll(max_body_bytes=1000))
    poller = await Poller(await serve(Endpoint(sockets={"/socket": mount}))).open()
    await poller.join()
    fitting = line(("1", "2", "room:a", "echo", {"x": "x" * 900}))
    assert await poller.post(fitting) == 200
    client = await poller.server.accept()
    for _ in range(2):
        client.write(poller.request("POST", b"[" + b"x" * 5000, ("content-type", NDJSON)))
        await settle()
        answer = client.answer()
        assert answer is not None
        assert (answer.status, answer.body) == (400, b"")
    assert len(await poller.messages()) == 1, "the session lives"
    assert poller.server.endpoint.statistics()["counts"] == {("http", "body_refused"): 2}


async def test_a_body_that_does_not_come_is_408(poller: Poller) -> None:
    client = await poller.server.accept()
    client.write(poller.request("POST", b"x" * 100)[:-50])
    await settle()
    await trio.sleep(29)
    client.write(b"x")
    await settle()
    assert client.answer() is None
    await trio.sleep(2)
    answer = client.answer()
    assert answer is not None
    assert (answer.status, answer.body) == (408, b"")
    assert client.is_closed


async def test_a_socket_without_long_polling_is_not_there(serve: Serve) -> None:
    server = await serve(Endpoint(sockets={"/socket": UserSocket}))
    assert (await Poller(server).ask("GET")).status == 404


async def test_a_socket_may_be_for_polling_only(serve: Serve) -> None:
    mount = Mount(UserSocket, websocket=False, longpoll=True)
    server = await serve(Endpoint(sockets={"/socket": mount}))
    await Poller(server).open()
    assert (await Poller(server, path="/socket/websocket").ask("GET")).status == 404


def scope_of(path: str, *headers: tuple[bytes, bytes], **fields: Any) -> dict[str, Any]:
    """The scope of a GET in a server that is not ours."""
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": b"vsn=2.0.0",
        "headers": list(headers),
    }
    return {**scope, **fields}


async def asked(endpoint: Endpoint, scope: dict[str, Any]) -> dict[str, Any]:
    """Have an endpoint serve a request as an application, in a task that knows nothing of its runtime."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async with trio.open_nursery() as nursery:
        contextvars.Context().run(nursery.start_soon, endpoint, scope, trio.sleep_forever, send)
    start, body = sent
    assert (start["type"], start["status"]) == ("http.response.start", 200)
    assert body["type"] == "http.response.body"
    said: dict[str, Any] = json.loads(body["body"])
    return said


async def test_the_details_of_an_asgi_server_reach_connect_info(serve: Serve) -> None:
    seen: list[ConnectInfo] = []

    class Curious(Socket):
        async def connect(self, params: dict[str, Any], connect_info: ConnectInfo) -> None:
            seen.append(connect_info)

    endpoint = Endpoint(sockets={"/socket": Mount(Curious, longpoll=True)})
    await serve(endpoint)
    client: dict[str, Any] = {"client": ("192.0.2.7", 4711), "scheme": "https"}
    said = await asked(endpoint, scope_of("/socket/longpoll", **client))
    assert said["status"] == 410
    assert [(info.peer_data, info.scheme) for info in seen] == [
        (PeerData(address="192.0.2.7", port=4711), "https")
    ]


async def test_an_endpoint_that_is_mounted_in_an_application_can_be_polled(server: Server) -> None:
    mounted = {"root_path": "/live"}
    said = await asked(server.endpoint, scope_of("/live/socket/longpoll", **mounted))
    assert said["status"] == 410
    token = (b"x-phoenix-longpoll-token", said["token"].encode())
    said = await asked(server.endpoint, scope_of("/live/socket/longpoll", token, **mounted))
    assert said["status"] == 204
    assert len(sessions(server)) == 1


async def test_the_scheme_of_a_request_counts_where_origins_are_compared_in_full(
    serve: Serve,
) -> None:
    endpoint = Endpoint(sockets={"/socket": Mount(UserSocket, longpoll=True, check_origin="conn")})
    await serve(endpoint)
    headers = (b"host", b"test"), (b"origin", b"https://test")
    said = await asked(endpoint, scope_of("/socket/longpoll", *headers, scheme="https"))
    assert said["status"] == 410
    said = await asked(endpoint, scope_of("/socket/longpoll", *headers, scheme="http"))
    assert said["status"] == 403
