"""TLS through a whole endpoint, on real sockets: WebSockets, pages, and misbehaving clients.

These tests use a real clock. Only tests of a timeout wait for time to pass, a tenth of a second.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any, ClassVar

import pytest
import trio
import trustme
from attrs import frozen

from actors import Runtime, wait_exit
from channels import ConnectInfo, Draining, Endpoint
from tests.channels.rooms import UserSocket
from tests.channels.support import GENEROUS, Footprint, Server, TcpClient, head, reply, settle

REAL_CLOCK = True


class Curious(UserSocket):
    """A socket that keeps its arguments."""

    seen: ClassVar[list[ConnectInfo]]

    async def connect(self, params: dict[str, Any], connect_info: ConnectInfo) -> None:
        await super().connect(params, connect_info)
        type(self).seen.append(connect_info)


async def page(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        raise NotImplementedError
    body = f"{scope['scheme']} {scope['http_version']}".encode()
    length = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": body})


@frozen
class Certificates:
    """Made on the spot: one authority, and contexts for both sides."""

    authority: trustme.CA
    server: ssl.SSLContext
    client: ssl.SSLContext


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.verify_mode = ssl.CERT_OPTIONAL
    client = ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(server)
    authority.configure_trust(client)
    return Certificates(authority, server, client)


async def serve_tls(
    runtime: Runtime,
    certificates: Certificates,
    *,
    head_timeout: float = GENEROUS,
) -> Server:
    Curious.seen = []
    endpoint = Endpoint(
        sockets={"/socket": Curious},
        http=page,
        head_timeout=head_timeout,
        draining=Draining(timeout=0.05),
    )
    pid = await endpoint.start_link(port=0, ssl_context=certificates.server)
    return Server(endpoint, runtime, pid)


@pytest.fixture
async def server(runtime: Runtime, certificates: Certificates) -> Server:
    return await serve_tls(runtime, certificates)


async def connected(server: Server, context: ssl.SSLContext) -> TcpClient:
    """A client that has shaken hands."""
    with trio.fail_after(GENEROUS):
        tcp = await trio.open_tcp_stream(*server.endpoint.address)
        stream = trio.SSLStream(tcp, context, server_hostname="localhost", https_compatible=True)
        await stream.do_handshake()
    client: Any = TcpClient.__new__(TcpClient)
    TcpClient.__init__(client, stream)  # type: ignore[arg-type]  # it reads and writes any stream
    return client  # type: ignore[no-any-return]


async def test_a_websocket_and_a_page_are_served_on_one_port(
    server: Server, certificates: Certificates
) -> None:
    client = await connected(server, certificates.client)
    await client.write(head())
    assert (await client.answer()).status == 101
    await client.join()
    large = {"text": "x" * 300_000}
    assert await client.exchange("1", "2", "room:a", "echo", large) == [
        reply("1", "2", "room:a", large)
    ]
    browser = await connected(server, certificates.client)
    await browser.write(head("/page", "host: test\r\nconnection: close\r\n"))
    assert (await browser.answer()).body == b"https 1.1"
    (info,) = Curious.seen
    assert str(info.uri) == "https://test/socket/websocket?vsn=2.0.0"
    assert info.peer_data is not None
    assert info.peer_data.ssl_cert is None
    for each in (client, browser):
        await each.close()


async def test_a_client_that_offers_http2_gets_http1(
    runtime: Runtime, certificates: Certificates
) -> None:
    # The endpoint decides, and not the owner of the context.
    certificates.server.set_alpn_protocols(["h2", "http/1.1"])
    server = await serve_tls(runtime, certificates)
    context = ssl.create_default_context()
    certificates.authority.configure_trust(context)
    context.set_alpn_protocols(["h2", "http/1.1"])
    browser = await connected(server, context)
    stream: Any = browser.stream
    assert stream.selected_alpn_protocol() == "http/1.1"
    await browser.write(head("/page", "host: test\r\nconnection: close\r\n"))
    assert (await browser.answer()).body == b"https 1.1"
    await browser.close()


async def test_a_connection_that_has_served_a_page_opens_a_websocket(
    server: Server, certificates: Certificates
) -> None:
    client = await connected(server, certificates.client)
    await client.write(head("/page", "host: test\r\n"))
    assert (await client.answer()).body == b"https 1.1"
    await client.write(head())
    assert (await client.answer()).status == 101
    await client.join()
    assert await client.exchange("1", "2", "room:a", "echo", {"a": 1}) == [
        reply("1", "2", "room:a", {"a": 1})
    ]
    await client.close()


async def test_connect_sees_the_certificate_of_the_client(
    server: Server, certificates: Certificates
) -> None:
    context = ssl.create_default_context()
    certificates.authority.configure_trust(context)
    own = certificates.authority.issue_cert("client@example.org")
    own.configure_cert(context)
    client = await connected(server, context)
    await client.write(head())
    assert (await client.answer()).status == 101
    (info,) = Curious.seen
    assert info.peer_data is not None
    assert info.peer_data.ssl_cert == ssl.PEM_cert_to_DER_cert(
        own.cert_chain_pems[0].bytes().decode()
    )
    await client.close()


async def strangers(server: Server) -> list[socket.socket]:
    """Clients that do not speak TLS, or stop in the middle of it."""
    made = []
    for words in (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", b"\x16\x03\x01\x02", b""):
        sock = socket.create_connection(server.endpoint.address)
        sock.sendall(words)
        made.append(sock)
    return made


async def test_clients_without_a_tls_handshake_are_cut_off(
    runtime: Runtime, certificates: Certificates
) -> None:
    server = await serve_tls(runtime, certificates, head_timeout=0.2)
    before = Footprint.of(server.runtime)
    crashes = server.crashes()
    made = await strangers(server)
    with trio.fail_after(GENEROUS):
        for sock in made:
            sock.setblocking(False)
            # TLS data can come first. The end comes after it.
            while True:
                await trio.lowlevel.wait_readable(sock)
                try:
                    if not sock.recv(4096):
                        break
                except ConnectionResetError:
                    break
            sock.close()
        for pid in server.connections():
            await wait_exit(pid)
    await settle()
    assert Footprint.of(server.runtime) == before
    assert crashes == []


async def test_a_server_that_stops_closes_with_1012_over_tls(
    server: Server, certificates: Certificates
) -> None:
    client = await connected(server, certificates.client)
    await client.write(head())
    assert (await client.answer()).status == 101
    await client.join()
    with trio.fail_after(GENEROUS):
        await server.stop()
    (close, *_) = await client.frames()
    assert close.code == 1012
    await client.close()
