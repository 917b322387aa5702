"""Connections of a live experiment: the clients' view of resets, holds, delays and partitions."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from channels.laboratory.live_network import LiveNetwork
from tests.patience import PATIENCE, until


class Echo:
    """An echo server behind a network, with its accepted sockets."""

    def __init__(self, network: LiveNetwork, listener: Any) -> None:
        self.network = network
        self.port: int = listener.port
        self.served: list[socket.socket] = []
        self._streams: list[trio.SocketStream] = []

    async def connect(self, source: str | None = None) -> trio.SocketStream:
        stream = await self.network.connect("127.0.0.1", self.port, source=source)
        self._streams.append(stream)
        return stream

    async def gone(self) -> None:
        """Wait until there are no connections."""
        await until(lambda: not self.network.connections, lambda: f"{self.network.connections}")

    def close(self) -> None:
        for stream in self._streams:
            stream.socket.close()
        for sock in self.served:
            sock.close()


@asynccontextmanager
async def echoing() -> AsyncIterator[Echo]:
    network = LiveNetwork()
    async with trio.open_nursery() as nursery:
        attached = trio.Event()
        nursery.start_soon(network.main, attached.set)
        await attached.wait()
        listener = await network.open("127.0.0.1", 0)
        echo = Echo(network, listener)

        async def serve(sock: socket.socket) -> None:
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
            async with stream:
                try:
                    async for data in stream:
                        await stream.send_all(data)
                except trio.BrokenResourceError:
                    # Some of these connections are broken on purpose.
                    pass

        def accepted(sock: socket.socket) -> None:
            echo.served.append(sock)
            nursery.start_soon(serve, sock)

        nursery.start_soon(listener.main, accepted)
        try:
            with trio.fail_after(PATIENCE):
                yield echo
        finally:
            listener.close()
            echo.close()
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def forwarding(network: LiveNetwork, echo: Echo, source: str | None) -> AsyncIterator[int]:
    """Forward a port to the echo server, as if this was another process."""

    async def dial() -> socket.socket:
        stream = await trio.open_tcp_stream("127.0.0.1", echo.port)
        return socket.socket(fileno=stream.socket.detach())

    async with trio.open_nursery() as nursery:
        attached = trio.Event()
        nursery.start_soon(network.main, attached.set)
        await attached.wait()
        yield await network.forward("server", dial, source=source)
        nursery.cancel_scope.cancel()


async def test_a_client_that_leaves_while_the_network_dials_ends_only_its_own_connection() -> None:
    network = LiveNetwork()
    dialled, gone = trio.Event(), trio.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        async def dial() -> socket.socket:
            here = socket.create_connection(server.getsockname())
            here.setblocking(False)
            dialled.set()
            await gone.wait()
            return here

        async with trio.open_nursery() as nursery:
            attached = trio.Event()
            nursery.start_soon(network.main, attached.set)
            await attached.wait()
            port = await network.forward("server", dial)
            with trio.fail_after(PATIENCE):
                with socket.create_connection(("127.0.0.1", port)) as client:
                    await dialled.wait()
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                gone.set()
                accepted, _ = server.accept()
                with accepted:
                    stream = trio.SocketStream(trio.socket.from_stdlib_socket(accepted))
                    # The server sees the end of its connection, and the network goes on.
                    with contextlib.suppress(trio.BrokenResourceError):
                        assert await stream.receive_some() == b""
                assert network.connections == []
            nursery.cancel_scope.cancel()


async def test_a_port_can_be_forwarded_to_a_unix_socket() -> None:
    network = LiveNetwork()
    here, there = socket.socketpair()

    async def dial() -> socket.socket:
        return here

    with there:
        async with trio.open_nursery() as nursery:
            attached = trio.Event()
            nursery.start_soon(network.main, attached.set)
            await attached.wait()
            port = await network.forward("redis", dial)
            with trio.fail_after(PATIENCE):
                async with await trio.open_tcp_stream("127.0.0.1", port) as client:
                    there.sendall(b"hello")
                    assert await client.receive_some() == b"hello"
            nursery.cancel_scope.cancel()


async def said(stream: trio.SocketStream, data: bytes = b"hello") -> bytes:
    await stream.send_all(data)
    return bytes(await stream.receive_some())


async def test_data_and_the_end_of_the_stream_pass_both_ways() -> None:
    async with echoing() as echo:
        stream = await echo.connect()
        assert await said(stream) == b"hello"
        data = bytes(range(256)) * 4000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, data)
            got = b""
            while len(got) < len(data):
                got += await stream.receive_some()
        assert got == data
        await stream.send_eof()
        assert await stream.receive_some() == b""
        await echo.gone()


async def test_the_server_sees_clients_with_addresses() -> None:
    async with echoing() as echo:
        stream = await echo.connect()
        await said(stream)
        host, _port = echo.served[0].getpeername()
        assert host == "127.0.0.1"


async def test_connections_are_named_after_their_hosts() -> None:
    async with echoing() as echo:
        for source in ("phone", "phone", None):
            await said(await echo.connect(source))
        assert [connection.name for connection in echo.network.connections] == [
            "phone->127.0.0.1#1",
            "phone->127.0.0.1#2",
            "127.0.0.1->127.0.0.1#3",
        ]


async def test_a_reset_breaks_both_ends() -> None:
    async with echoing() as echo:
        stream = await echo.connect()
        await said(stream)
        assert len(echo.network.connections) == 1
        echo.network.connections[0].reset()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        await echo.gone()


async def test_a_reset_of_the_client_reaches_the_server() -> None:
    async with echoing() as echo:
        stream = await echo.connect()
        await said(stream)
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        stream.socket.close()
        await echo.gone()


async def test_a_held_connection_delays_data_without_loss() -> None:
    async with echoing() as echo:
        stream = await echo.connect()
        await said(stream)
        connection = echo.network.connections[0]
        connection.hold()
        await stream.send_all(b"later")
        with trio.move_on_after(0.2) as limit:
            await stream.receive_some()
        assert limit.cancelled_caught
        connection.release()
        assert await stream.receive_some() == b"later"


async def test_a_delay_can_be_added_and_removed() -> None:
    async with echoing() as echo:
        stream = await echo.connect()
        await said(stream)
        connection = echo.network.connections[0]
        connection.delay(0.1)
        began = time.monotonic()
        await said(stream)
        assert time.monotonic() - began >= 0.2  # there and back
        connection.delay(3600)
        connection.delay(-3600)
        connection.delay(-0.1)
        # In the time that this test has, and not in an hour.
        await said(stream)


async def test_a_partition_holds_new_connections_too_until_it_is_healed() -> None:
    async with echoing() as echo:
        echo.network.partition_oneway("phone", "127.0.0.1")
        phone, desk = await echo.connect("phone"), await echo.connect("desk")
        assert await said(desk) == b"hello"
        await phone.send_all(b"held")
        with trio.move_on_after(0.2) as limit:
            await phone.receive_some()
        assert limit.cancelled_caught
        echo.network.heal("127.0.0.1", "phone")
        assert await phone.receive_some() == b"held"


async def test_healing_one_partition_leaves_the_others() -> None:
    async with echoing() as echo:
        phone = await echo.connect("phone")
        await said(phone)
        echo.network.partition_oneway("127.0.0.1", "phone")
        echo.network.heal("desk", "127.0.0.1")
        await phone.send_all(b"held")
        with trio.move_on_after(0.2) as limit:
            await phone.receive_some()
        assert limit.cancelled_caught
        echo.network.heal()
        assert await phone.receive_some() == b"held"


async def test_a_forwarded_connection_can_be_cut_by_the_name_of_its_source() -> None:
    network = LiveNetwork()
    async with echoing() as echo, forwarding(network, echo, "node1") as port:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        assert await said(stream) == b"hello"
        assert [each.name for each in network.connections] == ["node1->server#1"]
        network.partition_oneway("node1", "server")
        with trio.move_on_after(0.2) as held:
            await said(stream)
        assert held.cancelled_caught
        network.heal("node1", "server")
        assert await stream.receive_some() == b"hello"
        await stream.aclose()


async def test_a_forwarded_connection_ends_if_the_server_is_gone() -> None:
    network = LiveNetwork()
    async with echoing() as echo:
        pass
    async with forwarding(network, echo, None) as port:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        with trio.fail_after(PATIENCE), contextlib.suppress(trio.BrokenResourceError):
            assert await stream.receive_some() == b""
        assert network.connections == []
        await stream.aclose()
