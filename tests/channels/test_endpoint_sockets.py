"""An endpoint on real sockets: hostile input, and failures of its parts.

These tests use a real clock. Only tests of a timeout wait for time to pass, a tenth of a second.
"""

from __future__ import annotations

import gc
import socket
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from actors import Runtime, is_alive, kill, wait_exit
from channels import Channel, Draining, Endpoint, Mount, Socket, handle_in
from channels.connection.connection import Connection
from channels.telemetry import SOCKET_OVERFLOW
from tests.channels.rooms import UserSocket
from tests.channels.support import (
    EOF,
    GENEROUS,
    Close,
    Footprint,
    Server,
    TcpClient,
    head,
    phx_error,
    reply,
    settle,
    text,
)
from tests.channels.transports.frames import TEXT, client_close, client_frame
from tests.channels.trees import child

REAL_CLOCK = True

HEAD_TIMEOUT = 1.0
"""Long enough for clients that mean well, on a busy machine too."""


async def pages(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the path; `/slow` waits until the client goes."""
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["path"] == "/slow":
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
    )
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
async def server(runtime: Runtime) -> Server:
    endpoint = Endpoint(
        sockets={"/socket": Mount(UserSocket, max_frame_size=100_000)},
        http=pages,
        head_timeout=HEAD_TIMEOUT,
        max_buffered_messages=50,
        # Clients that a test does not close never read their 1012.
        draining=Draining(timeout=0.05),
    )
    pid = await endpoint.start_link(port=0)
    return Server(endpoint, runtime, pid)


async def assert_only(server: Server, before: Footprint) -> None:
    """Wait until no process, task or file is left that was not in `before`."""
    with trio.fail_after(GENEROUS):
        for pid in server.runtime.processes():
            if pid not in before.processes:
                await wait_exit(pid)
        await settle()
    assert Footprint.of(server.runtime) == before


# Misbehaviour of clients. Each function gets a new connection.

Stranger = Callable[[TcpClient], Awaitable[None]]


async def opened(client: TcpClient) -> None:
    await client.write(head())
    assert (await client.answer()).status == 101


async def joined(client: TcpClient) -> None:
    await opened(client)
    await client.join()


async def says_nothing(client: TcpClient) -> None:
    assert (await client.answer()).status == 408
    assert await client.ended() == []


async def stops_in_the_middle_of_its_request(client: TcpClient) -> None:
    await client.write(head()[:50])
    assert (await client.answer()).status == 408
    assert await client.ended() == []


async def cuts_its_upgrade_short(client: TcpClient) -> None:
    await client.write(head()[:50])
    await client.stream.send_eof()
    assert await client.ended() == []


async def closes_at_once(client: TcpClient) -> None:
    await client.close()


async def resets_at_once(client: TcpClient) -> None:
    await client.reset()


async def resets_in_the_middle_of_its_request(client: TcpClient) -> None:
    await client.write(head()[:50])
    await client.reset()


async def resets_with_its_request(client: TcpClient) -> None:
    await client.write(head())
    await client.reset()


async def resets_a_websocket(client: TcpClient) -> None:
    await joined(client)
    await client.reset()


async def resets_while_it_joins(client: TcpClient) -> None:
    await opened(client)
    await client.write(client_frame(TEXT, b'["1","1","room:a","phx_join",{"sleep":0.05}]'))
    await client.reset()


async def resets_a_page(client: TcpClient) -> None:
    await client.write(head("/slow", "host: test\r\n"))
    await client.reset()


async def closes_a_page(client: TcpClient) -> None:
    await client.write(head("/slow", "host: test\r\n"))
    await client.close()


async def closes_a_websocket_without_a_word(client: TcpClient) -> None:
    await joined(client)
    await client.stream.send_eof()
    assert await client.ended() == []


async def closes_a_websocket_politely(client: TcpClient) -> None:
    await joined(client)
    await client.write(client_close(1000))
    assert await client.frames() == [Close(1000)]
    await client.stream.send_eof()
    assert await client.ended() == []


async def sends_no_json(client: TcpClient) -> None:
    await joined(client)
    await client.write(client_frame(TEXT, b"hello"))
    assert await client.ended() == [Close(1011)]


async def sends_a_message_too_big(client: TcpClient) -> None:
    await joined(client)
    await client.write(client_frame(TEXT, b" " * 200_000))
    (close,) = await client.ended()
    assert close.code == 1009


async def announces_a_message_too_big(client: TcpClient) -> None:
    await joined(client)
    await client.write(client_frame(TEXT, b" " * 200_000)[:14])
    (close,) = await client.ended()
    assert close.code == 1009


async def stops_in_the_middle_of_a_frame(client: TcpClient) -> None:
    await joined(client)
    await client.write(client_frame(TEXT, b" " * 1000)[:500])
    await client.close()


async def sends_a_head_without_an_end(client: TcpClient) -> None:
    await client.write(b"GET / HTTP/1.1\r\nx: " + b"a" * 17_000)
    assert (await client.answer()).status == 431
    assert await client.ended() == []


async def speaks_tls(client: TcpClient) -> None:
    await client.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    assert (await client.answer()).status == 400
    assert await client.ended() == []


async def is_refused(client: TcpClient) -> None:
    await client.write(head("/socket/websocket?vsn=2.0.0&token=deny"))
    assert (await client.answer()).status == 403
    assert await client.ended() == []


STRANGERS: list[Stranger] = [
    says_nothing,
    stops_in_the_middle_of_its_request,
    cuts_its_upgrade_short,
    closes_at_once,
    resets_at_once,
    resets_in_the_middle_of_its_request,
    resets_with_its_request,
    resets_a_websocket,
    resets_while_it_joins,
    resets_a_page,
    closes_a_page,
    closes_a_websocket_without_a_word,
    closes_a_websocket_politely,
    sends_no_json,
    sends_a_message_too_big,
    announces_a_message_too_big,
    stops_in_the_middle_of_a_frame,
    sends_a_head_without_an_end,
    speaks_tls,
    is_refused,
]


@pytest.mark.parametrize("stranger", STRANGERS, ids=[each.__name__ for each in STRANGERS])
async def test_a_misbehaving_client_affects_no_other_and_leaks_nothing(
    server: Server, stranger: Stranger, caplog: pytest.LogCaptureFixture
) -> None:
    crashes = server.crashes()
    friend = await TcpClient.connect(server.endpoint)
    await friend.join()
    await settle()
    before = Footprint.of(server.runtime)
    # Three at a time, so that a leak would show three times.
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(visit, server, stranger)
    await assert_only(server, before)
    assert crashes == []
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    assert await friend.exchange("1", "2", "room:a", "echo") == [reply("1", "2", "room:a")]
    server.endpoint.broadcast("room:a", "shouted", {})
    assert await friend.frames() == [[None, None, "room:a", "shouted", {}]]
    await friend.close()


async def visit(server: Server, stranger: Stranger) -> None:
    client = await TcpClient.open(server.endpoint)
    try:
        await stranger(client)
    finally:
        await client.close()


# Parts that fail under it


async def test_clients_survive_a_restart_of_the_poller_and_the_flusher(server: Server) -> None:
    client = await TcpClient.connect(server.endpoint)
    await client.join()
    for part in ("poller", "quiet_poller", "flusher"):
        old = await child(server.pid, part)
        kill(old)
        # Bytes before the server reads, or frames before it writes.
        await client.write(client_frame(TEXT, b'["1","2","room:a","echo",{}]'))
        server.endpoint.broadcast("room:a", "shouted", {})
        got = await client.frames(2)
        assert sorted(got, key=str) == sorted(
            [reply("1", "2", "room:a"), [None, None, "room:a", "shouted", {}]], key=str
        )
        assert not is_alive(old)
    await client.close()


async def test_a_quiet_client_changes_pollers_and_survives_a_restart_of_its_new_poller(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await TcpClient.connect(server.endpoint)
    await client.join()
    assert sockets_of(server.endpoint) == (1, 0)
    monkeypatch.setattr("channels.transports.poller._QUIET_AFTER", -1.0)
    assert await client.exchange("1", "2", "room:a", "echo") == [reply("1", "2", "room:a")]
    assert sockets_of(server.endpoint) == (0, 1)
    kill(await child(server.pid, "quiet_poller"))
    assert await client.exchange("1", "3", "room:a", "echo") == [reply("1", "3", "room:a")]
    await client.close()


@pytest.mark.parametrize("is_silent", [False, True], ids=["closed", "silent"])
async def test_an_ended_connection_is_freed_without_the_garbage_collector(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, is_silent: bool
) -> None:
    made: list[weakref.ref[Connection]] = []
    begin = Connection.handle_continue

    async def note(self: Connection, argument: Any) -> Any:
        made.append(weakref.ref(self))
        return await begin(self, argument)

    monkeypatch.setattr(Connection, "handle_continue", note)
    timeout = 0.1 if is_silent else 3600.0
    endpoint = Endpoint(sockets={"/socket": Mount(UserSocket, timeout=timeout)})
    await endpoint.start_link(port=0)
    gc.disable()
    try:
        client = await TcpClient.connect(endpoint)
        if is_silent:
            assert await client.ended() == [Close(1002)]
        else:
            await client.join()
        await client.close()
        (connection,) = made
        with trio.fail_after(GENEROUS):
            while connection() is not None:  # noqa: ASYNC110 - the connection tells nobody
                await trio.sleep(0.001)
    finally:
        gc.enable()


async def test_without_a_delay_for_quiet_clients_one_poller_reads_all(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("channels.transports.poller._QUIET_AFTER", -1.0)
    endpoint = Endpoint(sockets={"/socket": UserSocket}, quiet_delay=0)
    await endpoint.start_link(port=0)
    client = await TcpClient.connect(endpoint)
    await client.join()
    assert endpoint.statistics()["poller"].sockets == 1
    assert endpoint.statistics()["quiet_poller"] is None
    await client.close()


def sockets_of(endpoint: Endpoint) -> tuple[int, int]:
    found = endpoint.statistics()
    return found["poller"].sockets, found["quiet_poller"].sockets


@pytest.mark.parametrize("fixed", [False, True])
async def test_a_listener_that_is_killed_comes_back_on_its_port_and_clients_stay(
    runtime: Runtime, fixed: bool
) -> None:
    port = 0
    if fixed:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
    endpoint = Endpoint(sockets={"/socket": UserSocket}, draining=Draining(timeout=0.05))
    server = Server(endpoint, runtime, await endpoint.start_link(port=port))
    address = endpoint.address
    old = await child(server.pid, "listener")
    client = await TcpClient.connect(endpoint)
    await client.join()
    before = Footprint.of(runtime)
    kill(old)
    await settle()
    assert await child(server.pid, "listener") is not old
    assert endpoint.address == address
    assert Footprint.of(runtime).descriptors == before.descriptors
    # Connections that are open on a port do not keep it from being bound again.
    assert await client.exchange("1", "2", "room:a", "echo") == [reply("1", "2", "room:a")]
    another = await TcpClient.connect(endpoint)
    await another.join()
    for each in (client, another):
        await each.close()


async def test_a_port_is_free_again_as_soon_as_its_endpoint_has_stopped(runtime: Runtime) -> None:
    port = 0
    for _ in range(3):
        endpoint = Endpoint(sockets={"/socket": UserSocket}, draining=Draining(timeout=0.05))
        server = Server(endpoint, runtime, await endpoint.start_link(port=port))
        port = endpoint.address[1]
        client = await TcpClient.connect(endpoint)
        await client.join()
        await server.stop()
        assert await client.ended() == [Close(1012)]
        await client.close()


async def test_a_killed_pool_is_phx_error_and_a_rejoin_works(server: Server) -> None:
    client = await TcpClient.connect(server.endpoint)
    await client.join()
    kill(await child(server.pid, "UserSocket channels"))
    assert await client.frames() == [phx_error("1", "room:a")]
    # A join before the pool is back would be one that crashed.
    await settle()
    await client.join(ref="2")
    await client.close()


# One port


async def test_pages_and_sockets_share_the_port(server: Server) -> None:
    page = await TcpClient.open(server.endpoint)
    for _ in range(2):
        await page.write(head("/page", "host: test\r\n"))
        answer = await page.answer()
        assert (answer.status, answer.body) == (200, b"ok")
    await page.close()
    client = await TcpClient.connect(server.endpoint)
    await client.join()
    await client.close()


async def test_a_connection_that_has_served_pages_can_become_a_websocket(server: Server) -> None:
    # As proxies do it that keep their connections.
    before = Footprint.of(server.runtime)
    client = await TcpClient.open(server.endpoint)
    await client.write(head("/page", "host: test\r\n"))
    assert (await client.answer()).status == 200
    await client.write(head())
    assert (await client.answer()).status == 101
    await client.join()
    assert await client.exchange("1", "2", "room:a", "echo", {"n": 1}) == [
        reply("1", "2", "room:a", {"n": 1})
    ]
    await client.write(client_close(1000))
    await client.ended()
    await client.close()
    await assert_only(server, before)


async def test_connect_sees_the_address_of_the_client(runtime: Runtime) -> None:
    seen: list[Any] = []

    class Curious(UserSocket):
        async def connect(self, params: Any, connect_info: Any) -> None:
            await super().connect(params, connect_info)
            seen.append(connect_info.peer_data)

    endpoint = Endpoint(sockets={"/socket": Curious}, draining=Draining(timeout=0.05))
    await endpoint.start_link(port=0)
    client = await TcpClient.connect(endpoint)
    assert [(peer.address, peer.port) for peer in seen] == [client.stream.socket.getsockname()]
    await client.close()


async def test_a_client_that_does_not_read_overflows_only_its_own_buffer(server: Server) -> None:
    overflows = server.listen(SOCKET_OVERFLOW)
    slow, friend = (
        await TcpClient.connect(server.endpoint),
        await TcpClient.connect(server.endpoint),
    )
    await slow.join()
    await friend.join()
    payload = {"text": "x" * 60_000}
    sent = 0
    with trio.fail_after(GENEROUS):
        while not overflows:
            server.endpoint.broadcast("room:a", "shouted", payload)
            sent += 1
            assert await friend.frames() == [[None, None, "room:a", "shouted", payload]]
    assert server.endpoint.statistics()["counts"] == {SOCKET_OVERFLOW: 1}
    # The client gets the buffered frames in order, and then the close frame.
    *frames, close = await slow.ended()
    assert close == Close(1013)
    assert frames == [[None, None, "room:a", "shouted", payload]] * len(frames)
    assert 50 <= len(frames) < sent
    assert EOF not in frames
    for each in (slow, friend):
        await each.close()


class Stuck(Channel):
    """Never answers."""

    @handle_in("wait")
    async def wait(self, payload: Any) -> None:
        await trio.sleep_forever()


class StuckSocket(Socket):
    channels = {"room:*": Stuck}


@pytest.mark.parametrize("rudely", [False, True])
async def test_the_server_notices_a_client_that_leaves_during_a_pause(
    runtime: Runtime, rudely: bool
) -> None:
    endpoint = Endpoint(sockets={"/socket": StuckSocket}, draining=Draining(timeout=0.05))
    server = Server(endpoint, runtime, await endpoint.start_link(port=0))
    client = await TcpClient.connect(endpoint)
    await client.join()
    # More than the limit, but less than fills the network. Otherwise the server would not notice the end of the stream.
    for _ in range(20):
        await client.stream.send_all(text("1", "2", "room:a", "wait", {}) * 100)
        await settle()
    (connection,) = server.connections()
    info = runtime.process_info(server.channel("room:a"))
    assert info is not None
    assert info["queue_length"] < 2000
    assert is_alive(connection)
    await (client.reset() if rudely else client.close())
    with trio.fail_after(GENEROUS):
        await wait_exit(connection)
    kill(server.channel("room:a"))
