"""The client behind a proxy that cuts, stalls and corrupts its connections."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest
import trio

from channels.client import (
    ClientChannel,
    ClientPush,
    Connected,
    Feed,
    Lifecycle,
    Lost,
    RetryTable,
    open_socket,
)
from tests.integration.servers import Server, serving
from tests.patience import PATIENCE, until

TRANSPORTS = ("websocket", "longpoll")


class Proxy:
    """A proxy on a real port, which breaks what passes through it.

    Attributes:
        port: where clients connect to.
        is_stalled: nothing passes; no connection ends.
        is_refusing: new connections end at once.
        flips: the number of bytes from the server that are changed from now on.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.is_stalled = False
        self.is_refusing = False
        self.flips = 0
        self.flipped = 0
        self._target = target
        self._random = Random(7)
        self._open: list[trio.SocketStream] = []

    async def main(self, *, task_status: trio.TaskStatus[None]) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._serve, [listener])

    async def cut(self) -> None:
        """End all connections without a word."""
        while self._open:
            await trio.aclose_forcefully(self._open.pop())

    async def _serve(self, client: trio.SocketStream) -> None:
        if self.is_refusing:
            await trio.aclose_forcefully(client)
            return
        try:
            server = await trio.open_tcp_stream("127.0.0.1", self._target)
        except OSError:
            await trio.aclose_forcefully(client)
            return
        self._open += [client, server]
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pass, client, server, False)
                nursery.start_soon(self._pass, server, client, True)
        finally:
            for stream in (client, server):
                await trio.aclose_forcefully(stream)

    async def _pass(
        self, source: trio.SocketStream, target: trio.SocketStream, is_answer: bool
    ) -> None:
        try:
            while data := await source.receive_some():
                await until(lambda: not self.is_stalled)
                await target.send_all(self._changed(data) if is_answer else data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        await trio.aclose_forcefully(target)

    def _changed(self, data: bytes | bytearray) -> bytes:
        changed = bytearray(data)
        while self.flips and changed:
            self.flips -= 1
            self.flipped += 1
            changed[self._random.randrange(len(changed))] ^= self._random.randrange(1, 256)
        return bytes(changed)


@asynccontextmanager
async def proxied(server: Server) -> AsyncIterator[Proxy]:
    async with trio.open_nursery() as nursery:
        proxy = Proxy(server.port)
        await nursery.start(proxy.main)
        yield proxy
        nursery.cancel_scope.cancel()


OPTIONS: dict[str, Any] = {
    # Quick, so that a test is quick. Nothing depends on how quick.
    "heartbeat_interval": 0.5,
    "poll_timeout": 12.0,
    "reconnect": RetryTable(steps=(), then=0.05),
    "rejoin": RetryTable(steps=(), then=0.05),
    "timeout": 2.0,
}


async def echoes(channel: Any, number: int) -> bool:
    """Push until there is an answer. Corrupt answers and lost ones are tried again."""
    while True:
        push = channel.push_nowait("echo", {"n": number}, timeout=2.0)
        try:
            return bool(await push.wait() == {"n": number})
        except Exception:  # of any kind: the proxy can turn an answer into anything
            await channel.wait_joined()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server for one test alone, which may kill it."""
    with serving("examples.conformance", tmp_path) as server:
        yield server


async def lost(events: Feed[Lifecycle], cause: str) -> None:
    """Return when the connection is lost for this cause."""
    async for event in events:
        if isinstance(event, Lost) and event.cause == cause:
            return


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_cut_connections_come_back(conformance: Server, transport: Any) -> None:
    with trio.fail_after(PATIENCE):
        async with (
            proxied(conformance) as proxy,
            open_socket(
                f"ws://127.0.0.1:{proxy.port}/socket", transport=transport, **OPTIONS
            ) as socket,
            socket.channel("room:cut") as channel,
        ):
            for number in range(5):
                before = socket.statistics().connections
                proxy.is_refusing = number % 2 == 1
                await proxy.cut()
                await until(lambda: channel.state == "errored")
                proxy.is_refusing = False
                await until(lambda: socket.statistics().connections > before)  # noqa: B023 - run at once
                assert await echoes(channel, number)


async def test_a_stalled_connection_is_noticed_and_replaced(conformance: Server) -> None:
    with trio.fail_after(PATIENCE):
        async with (
            proxied(conformance) as proxy,
            open_socket(f"ws://127.0.0.1:{proxy.port}/socket", **OPTIONS) as socket,
            socket.channel("room:stalled") as channel,
        ):
            with socket.events() as events:
                proxy.is_stalled = True
                await lost(events, "heartbeat timeout")
                proxy.is_stalled = False
                async for event in events:
                    if isinstance(event, Connected):
                        break
            assert await echoes(channel, 1)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_corrupt_bytes_cost_a_connection_at_most(conformance: Server, transport: Any) -> None:
    with trio.fail_after(PATIENCE):
        async with (
            proxied(conformance) as proxy,
            open_socket(
                f"ws://127.0.0.1:{proxy.port}/socket",
                transport=transport,
                **OPTIONS,
                max_message_bytes=100_000,
            ) as socket,
            socket.channel("room:corrupt") as channel,
        ):
            number = 0
            while proxy.flipped < 15:
                number += 1
                proxy.flips = 1
                with trio.move_on_after(0.2):
                    await echoes(channel, number)
            proxy.flips = 0
            await channel.wait_joined()
            assert await echoes(channel, 99)


async def test_kills_cuts_stalls_and_corrupt_bytes_leave_every_client_joined_and_every_push_settled(
    server: Server,
) -> None:
    async def push_on(channel: ClientChannel, pushes: list[ClientPush]) -> None:
        while True:
            pushes.append(channel.push_nowait("echo", {"n": len(pushes)}))
            await trio.sleep(0.01)

    with trio.fail_after(PATIENCE):
        async with proxied(server) as proxy, AsyncExitStack() as stack:
            channels: list[ClientChannel] = []
            events: list[Feed[Lifecycle]] = []
            for transport in ("websocket", "websocket", "longpoll"):
                url = f"ws://127.0.0.1:{proxy.port}/socket"
                opening = open_socket(url, transport=cast("Any", transport), **OPTIONS)
                socket = await stack.enter_async_context(opening)
                events.append(socket.events())
                channels.append(
                    await stack.enter_async_context(socket.channel("room:all", wait=False))
                )
            pushes: list[list[ClientPush]] = [[] for _ in channels]
            async with trio.open_nursery() as nursery:
                for channel, its in zip(channels, pushes, strict=True):
                    await channel.wait_joined()
                    nursery.start_soon(push_on, channel, its)

                await trio.to_thread.run_sync(server.kill)
                await until(lambda: all(each.state == "errored" for each in channels))
                await trio.to_thread.run_sync(server.start)
                await until(lambda: all(each.state == "joined" for each in channels))

                await proxy.cut()
                await until(lambda: any(each.state != "joined" for each in channels))
                await until(lambda: all(each.state == "joined" for each in channels))

                proxy.is_stalled = True
                await lost(events[0], "heartbeat timeout")
                proxy.is_stalled = False
                await until(lambda: all(each.state == "joined" for each in channels))

                proxy.flips = 8
                await until(lambda: proxy.flipped == 8)
                nursery.cancel_scope.cancel()
            for channel, its in zip(channels, pushes, strict=True):
                await channel.wait_joined()
                assert await echoes(channel, 99)
                await until(lambda: all(push.status is not None for push in its))  # noqa: B023 - run at once
                assert {str(push.status) for push in its} >= {"ok", "timeout"}
