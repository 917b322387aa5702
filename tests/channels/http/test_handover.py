"""The seam to Hypercorn: the behaviour that its per-connection server must keep."""

from __future__ import annotations

import logging
import re
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
import trio
import trustme
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from channels.http.handover import DEFAULT_KEEP_ALIVE_TIMEOUT, HttpHandover
from channels.http.hypercorn_server import ReplayStream
from channels.http.lifespan import ApplicationStartError
from channels.upgrade.first_request import read_head
from channels.wire.request import Head
from tests.architecture.sources import PACKAGES, sources_under
from tests.channels.transports.http_client import Client, echo, served
from tests.channels.transports.sockets import fill, socket_pair


def test_one_module_alone_imports_hypercorn() -> None:
    importing = [
        each.path
        for each in sources_under(*PACKAGES)
        if re.search(r"^\s*(from|import) hypercorn\b", each.text, re.MULTILINE)
    ]
    assert importing == ["channels/http/hypercorn_server.py"]


async def test_bytes_read_before_the_handover_are_part_of_the_request() -> None:
    request = Client(memory_stream_pair()[0]).question("POST", "/a?b=c", b"hello")
    for cut in (0, 10, len(request) - 3, len(request)):
        async with served(HttpHandover(echo), request[:cut]) as (client, _):
            client.question("POST", "/a?b=c", b"hello")
            if request[cut:]:
                await client.stream.send_all(request[cut:])
            assert await client.answer() == (200, b"POST /a?b=c hello")


async def test_a_connection_serves_many_requests_one_after_the_other() -> None:
    handover = HttpHandover(echo)
    async with served(handover) as (client, nursery):
        for number in range(20):
            assert await client.ask("GET", f"/{number}") == (200, b"GET /%d? " % number)
        assert await client.ask("POST", "/x", b"y" * 100_000) == (
            200,
            b"POST /x? " + b"y" * 100_000,
        )
        assert handover.connections == 1
        assert len(nursery.child_tasks) == 1
    assert handover.connections == 0


async def test_pipelined_requests_are_answered_in_order() -> None:
    one, two = (Client(memory_stream_pair()[0]).question("GET", f"/{name}") for name in "ab")
    async with served(HttpHandover(echo), one + two) as (client, _):
        client.question("GET", "/a")
        assert await client.answer() == (200, b"GET /a? ")
        client.question("GET", "/b")
        assert await client.answer() == (200, b"GET /b? ")


async def test_without_an_application_everything_is_404_not_found() -> None:
    async with served(HttpHandover()) as (client, _):
        assert await client.ask("GET", "/socket") == (404, b"not found")
        assert await client.ask("HEAD", "/") == (404, b"")
        assert await client.ask("POST", "/", b"body") == (404, b"not found")


async def test_answers_do_not_name_the_software() -> None:
    async with served(HttpHandover()) as (client, _):
        await client.stream.send_all(client.question("GET", "/"))
        answer = bytes(await client.stream.receive_some())
        assert b"\r\nserver:" not in answer.lower()
        assert b"hypercorn" not in answer.lower()


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
UPGRADE = {
    "connection": "upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.fixture
def mounted() -> HttpHandover:
    return HttpHandover(echo, is_socket_path="/socket/websocket".__eq__)


HANDED_BACK = {
    "an upgrade for a socket": ("GET", "/socket/websocket?vsn=2.0.0", UPGRADE),
    "an upgrade with an absolute target": ("GET", "http://a/socket/websocket", UPGRADE),
    "an upgrade for another path": ("GET", "/theirs", UPGRADE),
    "a request without an upgrade": ("GET", "/socket/websocket", {}),
    "another method": ("POST", "/socket/websocket", {}),
}


@pytest.mark.parametrize("pipelined", [False, True])
@pytest.mark.parametrize(("method", "target", "headers"), HANDED_BACK.values(), ids=HANDED_BACK)
async def test_a_later_request_for_the_endpoint_is_handed_back_with_an_open_stream(
    mounted: HttpHandover, method: str, target: str, headers: dict[str, str], pipelined: bool
) -> None:
    ours, theirs = memory_stream_pair()
    client, heads = Client(theirs), list[Head | None]()

    async def serve() -> None:
        heads.append(await mounted.serve(ours))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        page = client.question("GET", "/page")
        await theirs.send_all(page if not pipelined else b"")
        later = Client(theirs).question(method, target, headers=headers) + b"rest"
        await theirs.send_all(page + later if pipelined else b"")
        assert await client.answer() == (200, b"GET /page? ")
        await theirs.send_all(b"" if pipelined else later)
    (head,) = heads
    assert head is not None
    assert (head.method, head.received, head.rest) == (method, later, b"rest")
    assert mounted.connections == 0
    await ours.send_all(b"still open")
    assert await theirs.receive_some() == b"still open"


async def test_all_bytes_that_were_read_before_the_handover_are_handed_back(
    mounted: HttpHandover,
) -> None:
    page = Client(memory_stream_pair()[0]).question("GET", "/page")
    later = Client(memory_stream_pair()[0]).question("GET", "/theirs", headers=UPGRADE)
    ours, _ = memory_stream_pair()
    rest = bytes(80_000 - len(page + later))
    head = await mounted.serve(ours, page + later + rest)
    assert head is not None
    assert head.rest == rest


async def test_a_request_is_handed_back_when_the_applications_of_earlier_ones_have_ended(
    autojump_clock: MockClock,
) -> None:
    async def busy(scope: Any, receive: Any, send: Any) -> None:
        await echo(scope, receive, send)
        await trio.sleep(10)

    page = Client(memory_stream_pair()[0]).question("GET", "/page")
    later = Client(memory_stream_pair()[0]).question("GET", "/theirs", headers=UPGRADE)
    ours, theirs = memory_stream_pair()
    head = await HttpHandover(busy).serve(ours, page + later)
    assert head is not None
    assert trio.current_time() == pytest.approx(10)
    await theirs.aclose()


@pytest.mark.parametrize("host", ["localhost", "elsewhere:4000"])
async def test_an_absolute_request_target_is_reduced_to_its_path(
    mounted: HttpHandover, host: str
) -> None:
    async with served(mounted) as (client, _):
        assert await client.ask("GET", f"http://{host}/page?a=b") == (200, b"GET /page?a=b ")
        assert await client.ask("GET", f"HTTP://{host}") == (200, b"GET /? ")


async def test_an_idle_connection_is_closed_after_a_while(autojump_clock: MockClock) -> None:
    handover = HttpHandover(echo)
    async with served(handover) as (client, _):
        await client.ask("GET", "/")
        assert await client.stream.receive_some() == b""
    assert trio.current_time() == pytest.approx(DEFAULT_KEEP_ALIVE_TIMEOUT)


async def test_draining_closes_idle_connections_at_once(autojump_clock: MockClock) -> None:
    handover = HttpHandover(echo)
    async with served(handover) as (client, _):
        await client.ask("GET", "/")
        await handover.drain()
        assert await client.stream.receive_some() == b""
    assert trio.current_time() == 0
    assert handover.connections == 0


async def test_draining_waits_for_the_current_response() -> None:
    go_on = trio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    handover = HttpHandover(slow)
    async with served(handover) as (client, _):
        await client.stream.send_all(client.question("GET", "/"))
        await wait_all_tasks_blocked()
        await handover.drain()
        await wait_all_tasks_blocked()
        assert handover.connections == 1
        go_on.set()
        assert await client.answer() == (200, b"done")
        assert await client.stream.receive_some() == b""


async def test_draining_does_not_wait_for_a_request_after_the_last_response(
    autojump_clock: MockClock,
) -> None:
    go_on = trio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await go_on.wait()
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]}
        )
        await send({"type": "http.response.body", "body": b"done"})

    handover = HttpHandover(slow)
    async with served(handover) as (client, _):
        request = client.question("GET", "/")
        await client.stream.send_all(request + request)
        await wait_all_tasks_blocked()
        await handover.drain()
        go_on.set()
        assert await client.answer() == (200, b"done")
        with trio.fail_after(1):
            assert await client.stream.receive_some() == b""
            await wait_all_tasks_blocked()
        assert handover.connections == 0


@pytest.mark.parametrize(
    "sent", [b"\x00\x01\x02\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET /\r\n\r\n", b"P", b""]
)
async def test_a_malformed_request_or_a_disconnect_ends_the_connection_at_once(
    sent: bytes, autojump_clock: MockClock
) -> None:
    handover = HttpHandover(echo)
    async with served(handover, sent) as (client, _):
        await client.stream.aclose()
    assert handover.connections == 0
    assert trio.current_time() == 0


async def test_a_client_that_leaves_between_two_requests_ends_its_connection_at_once(
    autojump_clock: MockClock,
) -> None:
    handover = HttpHandover(echo)
    async with served(handover) as (client, _):
        await client.ask("GET", "/")
    assert handover.connections == 0
    assert trio.current_time() == 0


async def test_an_application_may_finish_after_its_client_has_left(
    autojump_clock: MockClock,
) -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await trio.sleep(1)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    handover = HttpHandover(slow)
    async with served(handover) as (client, _):
        await client.stream.send_all(client.question("GET", "/"))
        await client.stream.aclose()
    assert handover.connections == 0
    assert trio.current_time() == pytest.approx(1)


H2C = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": ""}


@pytest.mark.parametrize("protocol", ["h2c", "H2C", "h2c, websocket", "TLS/1.0"])
async def test_an_upgrade_to_another_protocol_than_websocket_is_ignored(protocol: str) -> None:
    async with served(HttpHandover(echo)) as (client, _):
        for _ in range(2):
            answer = await client.ask("GET", "/a", headers=H2C | {"upgrade": protocol})
            assert answer == (200, b"GET /a? ")


async def test_a_connection_never_changes_to_http2(autojump_clock: MockClock) -> None:
    handover = HttpHandover(echo)
    counts: list[tuple[str, ...]] = []
    handover.count = counts.append
    async with served(handover) as (client, _):
        assert (await client.ask("GET", "/a"))[0] == 200
        await client.stream.send_all(PREFACE)
        answer = b"".join([bytes(data) async for data in client.stream])
    assert answer.startswith(b"HTTP/1.1 505 ")
    assert counts == [("http", "bad_request")]


async def test_the_preface_of_http2_is_refused() -> None:
    handover = HttpHandover(echo)
    counts: list[tuple[str, ...]] = []
    handover.count = counts.append
    async with served(handover, PREFACE) as (client, _):
        answer = b"".join([bytes(data) async for data in client.stream])
    assert answer.startswith(b"HTTP/1.1 505 ")
    assert counts == [("http", "bad_request")]
    assert handover.connections == 0


@pytest.mark.parametrize(
    "rest", [b"zz\r\n", b"-1\r\n", b""], ids=["no size", "a size below nothing", "no end"]
)
async def test_a_body_that_becomes_invalid_during_the_response_does_not_raise(
    rest: bytes, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    async def hasty(scope: Any, receive: Any, send: Any) -> None:
        await trio.sleep(1)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await trio.sleep(1)
        await send({"type": "http.response.body", "body": b"done"})

    for pause in (0.5, 1.5):
        handover = HttpHandover(hasty)
        head = b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
        async with served(handover, head) as (client, _):
            await trio.sleep(pause)
            await client.stream.send_all(rest)
            await client.stream.aclose()
        assert handover.connections == 0
    assert not caplog.records


async def test_an_application_that_raises_is_answered_500_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("a bug")

    async with served(HttpHandover(broken)) as (client, _):
        status, _ = await client.ask("GET", "/")
        assert status == 500
    assert "a bug" in caplog.text
    assert {record.name for record in caplog.records} == {"channels.http"}


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket_pair() as pair:
        yield pair


async def test_a_plain_socket_is_served_with_its_addresses_and_closed(
    sockets: tuple[socket.socket, socket.socket], nursery: trio.Nursery
) -> None:
    ours, theirs = sockets
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await echo(scope, receive, send)

    peer = theirs.getsockname()
    nursery.start_soon(HttpHandover(app).serve, ours, b"")
    client = Client(trio.SocketStream(trio.socket.from_stdlib_socket(theirs)))
    assert await client.ask("GET", "/") == (200, b"GET /? ")
    assert tuple(scopes[0]["client"]) == peer
    assert tuple(scopes[0]["server"]) == theirs.getpeername()
    await client.stream.aclose()
    await wait_all_tasks_blocked()
    assert not nursery.child_tasks


async def test_a_tls_connection_is_served_after_its_first_request_was_read(
    sockets: tuple[socket.socket, socket.socket], nursery: trio.Nursery
) -> None:
    authority = trustme.CA()
    server, client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client_side)
    ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(sock)) for sock in sockets)
    stream = trio.SSLStream(ours, server, server_side=True, https_compatible=True)
    schemes: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        schemes.append(scope["scheme"])
        await echo(scope, receive, send)

    async def serve() -> None:
        head = await read_head(stream)
        assert isinstance(head, Head)
        await HttpHandover(app).serve(stream, head.received)

    nursery.start_soon(serve)
    client = Client(
        trio.SSLStream(theirs, client_side, server_hostname="localhost", https_compatible=True)
    )
    assert await client.ask("GET", "/a") == (200, b"GET /a? ")
    assert await client.ask("GET", "/b") == (200, b"GET /b? ")
    assert schemes == ["https", "https"]
    await client.stream.aclose()
    await wait_all_tasks_blocked()
    assert not nursery.child_tasks


async def test_cancelling_closes_a_connection_even_if_its_peer_does_not_read(
    sockets: tuple[socket.socket, socket.socket], nursery: trio.Nursery
) -> None:
    ours, _ = sockets
    request = Client(memory_stream_pair()[0]).question("GET", "/")
    scope = trio.CancelScope()
    fill(ours)

    async def serve() -> None:
        with scope:
            await HttpHandover().serve(ours, request)

    nursery.start_soon(serve)
    await wait_all_tasks_blocked()
    assert nursery.child_tasks, "it waits for the peer to read"
    scope.cancel()
    await wait_all_tasks_blocked()
    assert not nursery.child_tasks
    assert ours.fileno() < 0


async def test_the_lifespan_of_the_application_is_run_and_its_state_reaches_requests(
    nursery: trio.Nursery,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["greeting"] = b"hello"
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": scope["state"]["greeting"]})

    handover = HttpHandover(app)
    ready = trio.Event()
    nursery.start_soon(handover.main, ready.set)
    await ready.wait()
    async with served(handover) as (client, _):
        assert await client.ask("GET", "/") == (200, b"hello")
    nursery.cancel_scope.cancel()


async def test_an_application_that_cannot_start_says_so() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(ApplicationStartError, match="no database"):
        await HttpHandover(app).main(lambda: None)


async def test_the_default_application_has_a_lifespan(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    scope = trio.CancelScope()
    ready = trio.Event()

    async def main() -> None:
        with scope:
            await HttpHandover().main(ready.set)

    nursery.start_soon(main)
    await ready.wait()
    scope.cancel()
    await wait_all_tasks_blocked()
    assert not nursery.child_tasks
    assert caplog.records == []


async def test_a_replay_stream_first_returns_the_earlier_bytes() -> None:
    ours, theirs = memory_stream_pair()
    stream = ReplayStream(ours, b"hello")
    await theirs.send_all(b" world")
    assert await stream.receive_some(2) == b"he"
    assert await stream.receive_some() == b"llo"
    assert await stream.receive_some() == b" world"
    await stream.send_eof()
    assert await theirs.receive_some() == b""
    await stream.aclose()


@pytest.mark.parametrize(("size", "writes"), [(0, 1), (10, 1), (60_000, 1), (65_537, 3)])
async def test_the_head_and_a_small_body_are_one_write(size: int, writes: int) -> None:
    ours, theirs = memory_stream_pair()
    written: list[int] = []

    async def note() -> None:
        await trio.lowlevel.checkpoint()
        written.append(1)

    theirs.send_stream.send_all_hook = note
    client = Client(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(HttpHandover(sized(size)).serve, theirs)
        assert await client.ask("GET", "/") == (200, b"x" * size)
        assert len(written) == writes
        await ours.aclose()


async def test_the_head_arrives_if_the_application_ends_without_a_body() -> None:
    async with served(HttpHandover(sized(None))) as (client, _):
        await client.stream.send_all(client.question("GET", "/"))
        assert (await client.stream.receive_some()).startswith(b"HTTP/1.1 200 ")


def sized(size: int | None) -> Any:
    """Return an application whose answers have a body of this size, or no body."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        length = (b"content-length", b"%d" % (size or 0))
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        if size is not None:
            await send({"type": "http.response.body", "body": b"x" * size})

    return app
