"""The listener as a process: it serves or closes every accepted socket, even after failures."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pytest
import trio
import trustme
from trio.testing import wait_all_tasks_blocked

from actors import Runtime, kill, spawn, sys
from channels import ConnectInfo, ConnectRefused, Draining, Endpoint, Mount, Refusal, Socket
from channels.endpoint import listening
from channels.operations.health import Health
from channels.serving.services import Admission
from channels.telemetry import CONNECTION_REFUSED
from channels.upgrade import first_request
from supervision import Supervisor
from supervision.child_spec import RESTARTING
from tests.channels.rooms import UserSocket
from tests.channels.support import (
    GENEROUS,
    UPGRADE,
    Footprint,
    Server,
    TcpClient,
    head,
    named,
    settle,
)
from tests.channels.transports.sockets import socket_pair
from tests.channels.trees import child

REAL_CLOCK = True


@pytest.fixture
async def server(runtime: Runtime) -> Server:
    endpoint = Endpoint(sockets={"/socket": UserSocket}, draining=Draining(timeout=0.05))
    return Server(endpoint, runtime, await endpoint.start_link(port=0))


async def test_clients_that_connect_during_a_restart_wait_and_are_served(
    server: Server,
) -> None:
    connections = named((server.endpoint, "connections"))
    await sys.suspend(connections)
    clients = [await TcpClient.open(server.endpoint) for _ in range(5)]
    await settle()
    await sys.resume(connections)
    for client in clients:
        await client.write(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
        assert (await client.answer()).status == 404
        await client.close()


async def test_clients_that_connect_without_a_supervisor_get_503_and_are_counted(
    server: Server,
) -> None:
    connections = named((server.endpoint, "connections"))
    await sys.suspend(connections)
    clients = [await TcpClient.open(server.endpoint) for _ in range(5)]
    await settle()
    kill(connections)
    closed = 0
    for client in clients:
        await client.write(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
        with trio.fail_after(GENEROUS):
            try:
                closed += (await client.stream.receive_some()).startswith(b"HTTP/1.1 503 ")
            except trio.BrokenResourceError:
                closed += 1
        await client.close()
    # The endpoint refuses one client, because its process was starting. The next supervisor may serve the others.
    counts = server.endpoint.statistics()["counts"]
    assert closed == counts["connection", "not_started"] >= 1


async def refused_answers(server: Server, count: int, **headers: str) -> list[tuple[int, str]]:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    answers = []
    for _ in range(count):
        client = await TcpClient.open(server.endpoint)
        await client.write(head(headers=UPGRADE + lines))
        answer = await client.answer()
        answers.append((answer.status, answer.headers["retry-after"]))
        await client.close()
    return answers


async def upgraded(server: Server, **headers: str) -> TcpClient:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    client = await TcpClient.open(server.endpoint)
    await client.write(head(headers=UPGRADE + lines))
    answer = await client.answer()
    assert answer.status == 101, answer
    return client


async def test_a_request_beyond_max_connections_gets_503_without_a_process(
    runtime: Runtime,
) -> None:
    endpoint = Endpoint(sockets={"/socket": UserSocket}, max_connections=1)
    server = Server(endpoint, runtime, await endpoint.start_link(port=0))
    client = await upgraded(server)
    before = server.connections()
    assert await refused_answers(server, 2) == [(503, "5")] * 2
    assert server.connections() == before
    assert endpoint.statistics()["counts"] == {("connection", "not_started"): 2}
    await client.close()


async def internal_answer(endpoint: Endpoint) -> tuple[int, TcpClient]:
    """Probe the internal port. Return the status, and the client, whose connection stays open."""
    assert endpoint.internal_address is not None
    with trio.fail_after(GENEROUS):
        client = TcpClient(await trio.open_tcp_stream(*endpoint.internal_address))
    await client.write(head("/health/live", "host: test\r\n"))
    return (await client.answer()).status, client


async def test_a_full_server_answers_on_its_internal_port_which_has_its_own_limit(
    runtime: Runtime,
) -> None:
    endpoint = Endpoint(
        sockets={"/socket": UserSocket},
        max_connections=1,
        max_internal_connections=2,
        plugs=[Health()],
    )
    server = Server(endpoint, runtime, await endpoint.start_link(port=0, internal_port=0))
    refused = server.listen(CONNECTION_REFUSED)
    client = await upgraded(server)
    assert await refused_answers(server, 1) == [(503, "5")]
    probes = [await internal_answer(endpoint) for _ in range(3)]
    assert [status for status, _ in probes] == [200, 200, 503]
    assert [(about["limit"], about["status"]) for _, about in refused] == [
        ("max_connections", 503),
        ("max_internal_connections", 503),
    ]
    assert endpoint.statistics()["counts"]["connection", "not_started"] == 2
    for each in (client, *(probe for _, probe in probes)):
        await each.close()


async def test_the_connections_that_wait_for_their_503_are_bounded(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "REFUSALS_TOGETHER", 2)
    monkeypatch.setattr(first_request, "_LATE_HEAD", GENEROUS)
    endpoint = Endpoint(sockets={"/socket": UserSocket}, max_connections=1)
    server = Server(endpoint, runtime, await endpoint.start_link(port=0))
    client = await upgraded(server)
    silent = [await trio.open_tcp_stream(*endpoint.address) for _ in range(5)]
    with trio.fail_after(GENEROUS):
        for stream in silent[2:]:
            assert await stream.receive_some() == b"", "closed at once"
    for stream in silent[:2]:
        await stream.send_all(head())
        assert bytes(await stream.receive_some()).startswith(b"HTTP/1.1 503 ")
    for each in silent:
        await each.aclose()
    await client.close()


class Seeing(Socket):
    """Refuses each client, with its address and scheme as the reason."""

    async def connect(self, params: Any, connect_info: ConnectInfo) -> None:
        peer = connect_info.peer_data
        raise ConnectRefused(f"{peer and peer.address} {connect_info.uri.scheme}")


@pytest.mark.parametrize(
    ("proxies", "expected"),
    [
        ([], ("127.0.0.1", "http")),
        (["10.0.0.1"], ("127.0.0.1", "http")),
        (["127.0.0.1"], ("203.0.113.8", "https")),
    ],
)
async def test_sockets_and_the_application_see_the_client_behind_a_trusted_proxy(
    runtime: Runtime, proxies: list[str], expected: tuple[str, str]
) -> None:
    scopes: list[Any] = []

    async def pages(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        scopes.append(scope)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def refuse(reason: Any, info: ConnectInfo) -> Refusal:
        return Refusal(403, str(reason))

    mount = Mount(Seeing, error_handler=refuse)
    endpoint = Endpoint(sockets={"/socket": mount}, http=pages, trusted_proxies=proxies)
    await endpoint.start_link(port=0)
    forwarded = "host: test\r\nx-forwarded-for: forged, 203.0.113.8\r\nx-forwarded-proto: https\r\n"

    async def ask(path: str, more: str = "") -> bytes:
        stream = await trio.open_tcp_stream(*endpoint.address)
        async with stream:
            head = f"GET {path} HTTP/1.1\r\n{forwarded}{more}\r\n"
            await stream.send_all(head.encode())
            return bytes(await stream.receive_some())

    assert (await ask("/page", "connection: close\r\n")).startswith(b"HTTP/1.1 204")
    assert (scopes[0]["client"][0], scopes[0]["scheme"]) == expected
    upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    answer = await ask("/socket/websocket?vsn=2.0.0", upgrade + key)
    assert answer.endswith(" ".join(expected).encode())


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
async def test_clients_that_were_accepted_and_have_no_process_are_answered_503_when_it_stops(
    runtime: Runtime, secure: bool
) -> None:
    endpoint = Endpoint(sockets={"/socket": UserSocket}, draining=Draining(timeout=0.05))
    authority = trustme.CA()
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(ours)
    authority.configure_trust(theirs)
    pid = await endpoint.start_link(port=0, ssl_context=ours if secure else None)
    connections = named((endpoint, "connections"))
    await sys.suspend(connections)
    first = await TcpClient.open(endpoint)
    clients = [await trio.open_tcp_stream(*endpoint.address) for _ in range(5)]
    await settle()
    spawn(Server(endpoint, runtime, pid).stop)
    answers: list[bytes] = []

    async def ask(stream: trio.abc.Stream) -> None:
        if secure:
            stream = trio.SSLStream(
                stream, theirs, server_hostname="localhost", https_compatible=True
            )
        await stream.send_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
        answers.append(bytes(await stream.receive_some()))
        await stream.aclose()

    with trio.fail_after(GENEROUS):
        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(ask, client)
    assert all(answer.startswith(b"HTTP/1.1 503 ") for answer in answers)
    assert all(b"retry-after: 1" in answer.lower() for answer in answers)
    assert endpoint.statistics()["counts"]["connection", "not_started"] == 5
    await first.close()


@pytest.mark.parametrize("sent", [head(), head()[:20]], ids=["all", "a part"])
async def test_a_request_that_arrives_just_before_the_drain_is_answered_503(
    server: Server, sent: bytes
) -> None:
    with socket.create_connection(server.endpoint.address) as connected:
        connected.setblocking(False)
        await settle()
        # The process of the connection waits for the head, and does not run between these two lines.
        connected.send(sent)
        server.services.admission.drain()
        with trio.fail_after(GENEROUS):
            await trio.lowlevel.wait_readable(connected)
        assert connected.recv(1000).startswith(b"HTTP/1.1 503 ")


async def test_a_restart_by_a_supervisor_keeps_the_port_that_was_found(runtime: Runtime) -> None:
    endpoint = Endpoint(sockets={"/socket": UserSocket})
    top = await Supervisor.start_link([endpoint.child_spec(port=0)])
    before = endpoint.address
    killed = await child(top, "endpoint")
    kill(killed)
    with trio.fail_after(GENEROUS):
        while (await Supervisor.which_children(top))[0].pid in (killed, RESTARTING, None):
            await settle()
    assert endpoint.address == before
    client = await TcpClient.open(endpoint)
    await client.write(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
    assert (await client.answer()).status == 404
    await client.close()


async def test_two_endpoints_with_port_0_have_different_ports(runtime: Runtime) -> None:
    endpoint = Endpoint(sockets={"/socket": UserSocket})
    pid = await endpoint.start_link(port=0)
    port = endpoint.address[1]
    await Server(endpoint, runtime, pid).stop()
    with socket.create_server(("127.0.0.1", port)):
        await endpoint.start_link(port=0)
        assert endpoint.address[1] != port


async def test_a_killed_listener_closes_accepted_connections_without_a_process(
    server: Server,
) -> None:
    before = Footprint.of(server.runtime)
    connections = named((server.endpoint, "connections"))
    await sys.suspend(connections)
    clients = [await TcpClient.open(server.endpoint) for _ in range(5)]
    await settle()
    kill(await child(server.pid, "listener"))
    await settle()
    await sys.resume(connections)
    # The listener had already handed over the first client, so the endpoint serves this client.
    first, *others = clients
    for client in others:
        assert await client.ended() == []
    await first.write(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
    assert (await first.answer()).status == 404
    for client in clients:
        await client.close()
    await settle()
    after = Footprint.of(server.runtime)
    assert (len(after.processes), after.tasks, after.descriptors) == (
        len(before.processes),
        before.tasks,
        before.descriptors,
    )


async def test_the_end_of_a_listener_waits_until_each_connection_has_a_process_or_is_closed() -> (
    None
):
    admission = Admission()
    await admission.wait_all_served()
    with socket_pair() as (one, other), trio.fail_after(GENEROUS):
        admission.hand_over(one, one)
        admission.hand_over(other, other)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(admission.wait_all_served)
            await wait_all_tasks_blocked()
            admission.take_over(one)
            await wait_all_tasks_blocked()
            assert nursery.child_tasks
            admission.take_over(other)
            await wait_all_tasks_blocked()
            assert not nursery.child_tasks
        admission.hand_over(one, one)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(admission.wait_all_served)
            await wait_all_tasks_blocked()
            admission.abandon()
