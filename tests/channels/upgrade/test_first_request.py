"""The first request of a connection: its head, its answer, and its upgrade."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from actors import kill
from channels import ConnectInfo, ConnectRefused, Endpoint, Mount, Socket
from channels.telemetry import SOCKET_CONNECT_FAILED, SOCKET_CONNECTED
from channels.transports.transports import ByteStream
from channels.upgrade.first_request import read_head, send_final_answer
from channels.wire.request import BadRequest, Head, HeadParser, ParsedHead
from tests.channels.conftest import Serve
from tests.channels.rooms import UserSocket
from tests.channels.support import (
    EOF,
    KEY,
    UPGRADE,
    Answer,
    Client,
    Footprint,
    Server,
    head,
    reply,
    settle,
)
from tests.channels.transports.sockets import socket_pair

REQUEST = b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n"
Send = Callable[[bytes], Awaitable[None]]


class Ends:
    """Both ends of a connection."""

    def __init__(
        self, stream: ByteStream, send: Send, close: Callable[[], Awaitable[None]]
    ) -> None:
        self.stream = stream
        self.send = send
        self.close = close


@contextlib.asynccontextmanager
async def over_sockets() -> AsyncIterator[Ends]:
    with socket_pair() as (ours, theirs):
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
        yield Ends(ours, stream.send_all, stream.aclose)


@contextlib.asynccontextmanager
async def over_memory() -> AsyncIterator[Ends]:
    ours, theirs = trio.testing.memory_stream_pair()
    yield Ends(ours, theirs.send_all, theirs.aclose)


@pytest.fixture(params=[over_sockets, over_memory])
async def ends(request: pytest.FixtureRequest) -> AsyncIterator[Ends]:
    async with request.param() as ends:
        yield ends


async def test_a_head_that_has_arrived_is_read(ends: Ends) -> None:
    await ends.send(REQUEST + b"rest")
    head = await read_head(ends.stream)
    assert isinstance(head, Head)
    assert (head.path, head.rest, head.received) == ("/a", b"rest", REQUEST + b"rest")


async def test_a_head_in_pieces_is_read(ends: Ends, nursery: trio.Nursery) -> None:
    results: list[ParsedHead | None] = []

    async def read() -> None:
        results.append(await read_head(ends.stream))

    nursery.start_soon(read)
    for i in range(len(REQUEST)):
        assert results == []
        await ends.send(REQUEST[i : i + 1])
        await wait_all_tasks_blocked()
    assert isinstance(results[0], Head)


async def test_bytes_that_are_not_a_request_are_refused_at_once(ends: Ends) -> None:
    await ends.send(b"\x16\x03\x01")
    assert isinstance(await read_head(ends.stream), BadRequest)


async def test_a_head_that_is_too_large_is_refused(ends: Ends) -> None:
    await ends.send(REQUEST)
    result = await read_head(ends.stream, HeadParser(max_size=20))
    assert isinstance(result, BadRequest)
    assert result.status == 431


@pytest.mark.parametrize("sent", [b"", b"GET / HT"])
async def test_a_peer_that_leaves_without_a_request_is_none(ends: Ends, sent: bytes) -> None:
    if sent:
        await ends.send(sent)
    await ends.close()
    assert await read_head(ends.stream) is None


async def test_a_peer_that_breaks_the_connection_is_none() -> None:
    with socket_pair() as (ours, theirs):
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        theirs.close()
        assert await read_head(ours) is None


async def test_reading_a_head_can_be_cancelled(ends: Ends, autojump_clock: object) -> None:
    with trio.move_on_after(10) as scope:
        await read_head(ends.stream)
    assert scope.cancelled_caught
    await ends.send(REQUEST)
    assert isinstance(await read_head(ends.stream), Head)


def files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


async def test_final_answers_arrive_whole_and_open_no_file() -> None:
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        before = files()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_final_answer, here, b"go away")
            await wait_all_tasks_blocked()
            assert files() == before
            assert there.recv(100) == b"go away"
            assert there.recv(100) == b""
            there.sendall(b"I am still talking")
            there.close()
        assert here.fileno() >= 0


async def test_a_final_answer_gives_up_after_five_seconds(
    autojump_clock: object,
) -> None:
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        await send_final_answer(here, b"x" * 10_000_000)
        assert trio.current_time() == 5.0


async def test_a_final_answer_to_a_peer_that_has_gone_does_not_raise(
    autojump_clock: object,
) -> None:
    here, there = socket.socketpair()
    with here:
        here.setblocking(False)
        there.close()
        await send_final_answer(here, b"go away")
        assert trio.current_time() == 0.0


async def test_a_stream_is_closed() -> None:
    here, there = trio.testing.memory_stream_pair()
    await send_final_answer(here, b"go away")
    assert await there.receive_some() == b"go away"
    assert await there.receive_some() == b""


async def ask(server: Server, data: bytes) -> tuple[Client, Answer]:
    """Send a first request, and read the answer."""
    client = await server.accept()
    client.write(data)
    await settle()
    answer = client.answer()
    assert answer is not None
    return client, answer


@pytest.fixture
async def server(serve: Serve) -> Server:
    return await serve(Endpoint(sockets={"/socket": UserSocket}))


async def test_a_proper_upgrade_is_answered_with_the_key_of_the_client(server: Server) -> None:
    _, answer = await ask(server, head())
    assert answer.status == 101
    # Worked out in RFC 6455, section 1.3.
    assert answer.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert KEY in UPGRADE


REFUSED = {
    "another method": (head().replace(b"GET", b"POST"), 400),
    "no upgrade at all": (head(headers="host: test\r\n"), 400),
    "a key that is none": (head(headers=UPGRADE.replace(KEY, "short")), 400),
    "another version of WebSockets": (
        head(headers=UPGRADE.replace("version: 13", "version: 8")),
        400,
    ),
    "an old protocol": (head("/socket/websocket?vsn=0.9.0"), 403),
    "a protocol of the future": (head("/socket/websocket?vsn=3.0.0"), 403),
    "a protocol that is none": (head("/socket/websocket?vsn=2"), 403),
    "a list of protocols": (head("/socket/websocket?vsn[]=2.0.0"), 403),
    "the application's refusal": (head("/socket/websocket?vsn=2.0.0&token=deny"), 403),
    "a refusal where no upgrade was asked for": (
        head("/socket/websocket?vsn=2.0.0&token=deny", "host: test\r\n"),
        403,
    ),
    "an application that raises": (head("/socket/websocket?vsn=2.0.0&token=crash"), 500),
    "a query that is not UTF-8": (head("/socket/websocket?vsn=2.0.0&a=%ff"), 400),
    "what is not HTTP": (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    "a header without an end": (b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"a" * 20_000, 431),
    "a target without an end": (b"GET /" + b"a" * 20_000, 414),
    "a header that is malformed": (b"GET / HTTP/1.1\r\nhost a\r\n\r\n", 400),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_a_refused_request_gets_its_status_and_leaks_nothing(
    server: Server, what: str
) -> None:
    data, status = REFUSED[what]
    crashes = server.crashes()
    before = Footprint.of(server.runtime)
    client, answer = await ask(server, data)
    assert answer.status == status
    assert answer.headers["connection"] == "close"
    assert client.frames() == [EOF]
    assert client.is_closed
    assert Footprint.of(server.runtime) == before
    assert crashes == []


async def test_a_percent_sign_without_digits_in_a_query_is_accepted_as_in_phoenix(
    server: Server,
) -> None:
    _, answer = await ask(server, head("/socket/websocket?vsn=2.0.0&a=%zz"))
    assert answer.status == 101


async def test_the_preface_of_http2_gets_505_and_is_counted(
    server: Server,
) -> None:
    _, answer = await ask(server, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert answer.status == 505
    assert b"use HTTP/1.1" in answer.body
    assert server.services.counters.counts["http", "bad_request"] == 1


async def test_refusals_other_than_a_wrong_upgrade_have_no_body(server: Server) -> None:
    for what in ("another method", "the application's refusal", "a protocol of the future"):
        _, answer = await ask(server, REFUSED[what][0])
        assert answer.body == b""
    _, answer = await ask(server, REFUSED["no upgrade at all"][0])
    assert b"'connection' header must contain 'upgrade'" in answer.body
    assert answer.headers["sec-websocket-version"] == "13"


@pytest.mark.parametrize("path", ["/socket/websocket/", "/socket//websocket", "//socket/websocket"])
async def test_empty_segments_of_a_path_do_not_count(server: Server, path: str) -> None:
    _, answer = await ask(server, head(f"{path}?vsn=2.0.0"))
    assert answer.status == 101


async def test_any_other_path_is_answered_by_the_http_side(server: Server) -> None:
    for path in ("/", "/socket", "/socket/websocket/x", "/other/websocket"):
        client, answer = await ask(server, head(path, "host: test\r\nconnection: close\r\n"))
        assert (answer.status, answer.body) == (404, b"not found")
        client.end()


@pytest.mark.parametrize("sent", [b"", b"GET /socket/webs", head()[:-2]])
async def test_a_request_that_is_cut_short_leaves_nothing_behind(
    server: Server, sent: bytes
) -> None:
    before = Footprint.of(server.runtime)
    client = await server.accept()
    client.write(sent)
    await settle()
    client.end()
    await settle()
    assert client.frames() == [EOF]
    assert client.is_closed
    assert Footprint.of(server.runtime) == before


@pytest.mark.parametrize("sent", [b"", b"GET /socket/webs", head()[:-2]])
async def test_a_client_that_does_not_finish_its_request_is_cut_off_with_408(
    serve: Serve, sent: bytes
) -> None:
    server = await serve(Endpoint(sockets={"/socket": UserSocket}, head_timeout=3.0))
    before = Footprint.of(server.runtime)
    client = await server.accept()
    client.write(sent)
    await trio.sleep(2.9)
    assert client.answer() is None
    await trio.sleep(0.2)
    answer = client.answer()
    assert answer is not None
    assert answer.status == 408
    assert client.is_closed
    assert Footprint.of(server.runtime) == before
    assert server.endpoint.statistics()["counts"] == {("http", "head_timeout"): 1}


async def test_a_trickle_of_bytes_does_not_prolong_the_time_for_a_request(serve: Serve) -> None:
    server = await serve(Endpoint(sockets={"/socket": UserSocket}, head_timeout=3.0))
    client = await server.accept()
    for byte in head()[:7]:
        client.write(bytes((byte,)))
        await trio.sleep(0.5)
    answer = client.answer()
    assert answer is not None
    assert answer.status == 408


async def test_a_silent_client_does_not_keep_others_from_connecting(server: Server) -> None:
    await server.accept()
    client = await server.connect()
    await client.join()


async def test_connect_sees_parameters_headers_and_target(serve: Serve) -> None:
    seen: list[Any] = []

    class Curious(Socket):
        async def connect(self, params: dict[str, Any], connect_info: ConnectInfo) -> None:
            seen.append((params, connect_info, self.endpoint, self.assigns))

    endpoint = Endpoint(sockets={"/socket": Curious})
    server = await serve(endpoint)
    target = "/socket/websocket?vsn=2.0.0&user[name]=ann&tags[]=a&tags[]=b"
    await ask(server, head(target, UPGRADE + "User-Agent: test\r\nX-Twice: 1\r\nX-Twice: 2\r\n"))
    ((params, info, its_endpoint, assigns),) = seen
    assert params == {"vsn": "2.0.0", "user": {"name": "ann"}, "tags": ["a", "b"]}
    assert (str(info.uri), info.user_agent, info.header("x-twice")) == (
        f"http://test{target}",
        "test",
        "1",
    )
    assert info.peer_data is None
    assert its_endpoint is endpoint
    assert assigns == {}


async def test_connect_does_not_run_for_an_unsupported_version(serve: Serve) -> None:
    class Never(Socket):
        async def connect(self, params: dict[str, Any], connect_info: ConnectInfo) -> None:
            raise AssertionError("not reached")

    server = await serve(Endpoint(sockets={"/socket": Never}))
    assert (await ask(server, head("/socket/websocket?vsn=9.0.0")))[1].status == 403
    assert (await ask(server, head().replace(b"GET", b"PUT")))[1].status == 400


@pytest.mark.parametrize("identity", [7, b"user:7", object()])
async def test_an_invalid_id_is_a_bug_of_the_application(serve: Serve, identity: Any) -> None:
    class Odd(Socket):
        def id(self) -> Any:
            return identity

    server = await serve(Endpoint(sockets={"/socket": Odd}))
    failed = server.listen(SOCKET_CONNECT_FAILED)
    _, answer = await ask(server, head())
    assert answer.status == 500
    ((_, about),) = failed
    assert "Odd.id returned" in str(about["exception"])


async def test_connections_emit_telemetry(server: Server) -> None:
    heard = server.listen(SOCKET_CONNECTED)
    await ask(server, head("/socket/websocket?vsn=2.0.0&user=ann"))
    await ask(server, head("/socket/websocket?vsn=2.0.0&token=deny"))
    (good, yes), (bad, no) = heard
    assert good == bad == {"duration": 0.0}
    assert yes.pop("socket").assigns == {"user": "ann"}
    assert yes.pop("connect_info").path == "/socket/websocket"
    assert yes.pop("serializer").vsn == "2.0.0"
    assert yes == {
        "endpoint": server.endpoint,
        "transport": "websocket",
        "params": {"vsn": "2.0.0", "user": "ann"},
        "vsn": "2.0.0",
        "user_socket": UserSocket,
        "log": "info",
        "result": "ok",
        "reason": None,
    }
    assert (no["result"], no["reason"]) == ("error", "token")


async def test_a_request_that_cannot_become_a_websocket_is_reported_as_refused(
    server: Server,
) -> None:
    heard = server.listen(SOCKET_CONNECTED)
    await ask(server, REFUSED["no upgrade at all"][0])
    ((_, about),) = heard
    assert about["result"] == "error"
    assert "'connection' header must contain 'upgrade'" in about["reason"]


async def test_a_slow_connect_does_not_delay_others_and_is_measured(serve: Serve) -> None:
    class Slow(UserSocket):
        async def connect(self, params: dict[str, Any], connect_info: ConnectInfo) -> None:
            await super().connect(params, connect_info)
            if "slow" in params:
                await trio.sleep(20)

    server = await serve(Endpoint(sockets={"/socket": Slow}))
    heard = server.listen(SOCKET_CONNECTED)
    slow = await server.accept()
    slow.write(head("/socket/websocket?vsn=2.0.0&slow=1"))
    await settle()
    other = await server.connect()
    await other.join()
    assert slow.answer() is None
    await trio.sleep(21)
    answer = slow.answer()
    assert answer is not None
    assert answer.status == 101
    assert [measured["duration"] for measured, _ in heard] == [0.0, 20.0]
    slow.send(("1", "1", "room:a", "phx_join"))
    await settle()
    assert slow.frames() == [reply("1", "1", "room:a")]


async def test_a_refusal_may_be_raised_as_a_class_and_carries_its_reason() -> None:
    assert ConnectRefused().reason is None
    assert ConnectRefused("full").reason == "full"


async def test_two_mounts_of_one_socket_have_separate_options(serve: Serve) -> None:
    mounts = {"/a": Mount(UserSocket, timeout=10.0), "/b/": Mount(UserSocket, timeout=20.0)}
    server = await serve(Endpoint(sockets=mounts))
    one, other = await server.connect("/a"), await server.connect("/b")
    await trio.sleep(11)
    assert len(one.frames()) == 2
    assert other.frames() == []


async def test_a_connection_killed_before_its_request_is_closed_without_an_answer(
    server: Server,
) -> None:
    failed = server.listen(("actors", "process", "cleanup_failed"))
    before = Footprint.of(server.runtime)
    client = await server.accept()
    client.write(head()[:20])
    await settle()
    assert client.process is not None
    kill(client.process)
    await settle()
    assert client.frames() == [EOF]
    assert client.is_closed
    assert Footprint.of(server.runtime) == before
    assert failed == []


async def test_a_served_request_leaves_no_time_limit_behind(server: Server) -> None:
    await server.connect()
    await ask(server, REFUSED["what is not HTTP"][0])
    client = await server.accept()
    await settle()
    assert len(server.services.admission.ending) == 1
    client.end()
    await settle()
    assert server.services.admission.ending == {}
    assert server.endpoint.statistics()["counts"] == {("http", "bad_request"): 1}


async def test_a_socket_is_made_by_its_constructor(serve: Serve) -> None:
    class Own(UserSocket):
        def __init__(self) -> None:
            self.seen: list[str] = []

        async def connect(self, params: dict[str, Any], connect_info: ConnectInfo) -> None:
            self.seen.append("connect")
            self.assigns["user"] = f"{len(self.seen)}"

    server = await serve(Endpoint(sockets={"/socket": Own}))
    await server.connect()
    await server.connect()
    assert len(server.endpoint.pubsub.subscribers("user:1")) == 2
