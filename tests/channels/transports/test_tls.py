"""Sockets with TLS that behave like plain non-blocking sockets."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from functools import cache

import pytest
import trio
import trustme

from channels.transports.tls import TlsSocket, TlsSocketStream, secure
from tests.channels.transports.sockets import socket_pair


@cache
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    return server, client


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[tuple[TlsSocket, trio.SSLStream[trio.SocketStream]]]:
    server, client = contexts()
    with socket_pair() as (ours, theirs):
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
        peer = trio.SSLStream(stream, client, server_hostname="localhost", https_compatible=True)
        with secure(ours, server) as sock:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sock.handshake)
                nursery.start_soon(peer.do_handshake)
            yield sock, peer


async def test_a_read_without_data_would_block() -> None:
    async with connected() as (sock, _):
        with pytest.raises(BlockingIOError):
            sock.recv(65536)


async def test_one_read_returns_many_records_but_not_without_bound() -> None:
    async with connected() as (sock, peer):
        for _ in range(100):
            await peer.send_all(b"x")
        await trio.lowlevel.wait_readable(sock)
        first = sock.recv(65536)
        assert 1 < len(first) < 100, "each record holds one byte"
        rest = b""
        while len(first) + len(rest) < 100:
            rest += sock.recv(65536)


async def test_a_read_returns_no_more_than_asked_for_and_loses_nothing() -> None:
    async with connected() as (sock, peer):
        await peer.send_all(b"abcdef")
        await trio.lowlevel.wait_readable(sock)
        assert sock.recv(4) == b"abcd"
        assert sock.recv(4) == b"ef"


async def test_a_write_fills_the_kernel_and_then_would_block_until_the_peer_reads() -> None:
    async with connected() as (sock, peer):
        data = bytes(range(256)) * 40_000
        sent = 0
        with pytest.raises(BlockingIOError):
            while True:
                sent += sock.send(data[sent:])
        assert sent < len(data)
        received = bytearray()

        async def read() -> None:
            while len(received) < len(data):
                received.extend(await peer.receive_some())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            while sent < len(data):
                await trio.lowlevel.wait_writable(sock)
                with contextlib.suppress(BlockingIOError):
                    sent += sock.send(data[sent:])
        assert received == data


async def test_the_end_of_a_shut_socket_is_a_clean_end_of_tls() -> None:
    async with connected() as (sock, peer):
        sock.send(b"last")
        sock.shutdown(socket.SHUT_WR)
        assert await peer.receive_some() == b"last"
        # Without the closing alert, and without `https_compatible`, this would raise.
        assert await peer.receive_some() == b""


async def test_a_client_that_speaks_no_tls_fails_the_handshake() -> None:
    server, _ = contexts()
    with socket_pair() as (ours, theirs), secure(ours, server) as sock:
        theirs.send(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(OSError, match="HTTP_REQUEST"):
            await sock.handshake()


async def test_a_client_that_left_before_the_handshake_fails_it() -> None:
    server, _ = contexts()
    with socket_pair() as (ours, theirs):
        theirs.close()
        with secure(ours, server) as sock, pytest.raises(OSError, match=r"\w"):
            await sock.handshake()


async def test_a_stream_over_a_socket_reads_writes_and_closes() -> None:
    async with connected() as (sock, peer):
        stream = TlsSocketStream(sock)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, b"y" * 1_000_000)
            received = b""
            while len(received) < 1_000_000:
                received += await peer.receive_some()
        await peer.send_all(b"answer")
        assert await stream.receive_some() == b"answer"
        await stream.aclose()
        assert await peer.receive_some() == b""
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some()
        with pytest.raises(trio.ClosedResourceError):
            await stream.send_all(b"x")
        await stream.aclose()
