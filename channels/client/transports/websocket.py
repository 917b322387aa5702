"""WebSockets, over trio-websocket.

trio-websocket runs its reader in a nursery of the caller, raises the server's refusal from there, and waits for ever if
the connection ends during the handshake. This module hides that behaviour. A handshake ends after its timeout, or as
soon as the stream ends. Every error becomes a `LinkFailed` or a `LinkLost`.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any

import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    WebSocketConnection,
    wrap_client_stream,
)

from channels.client.transports.contract import LinkFailed, LinkLost, Opening, dial, refused
from channels.client.wire import Frame, subprotocols

__all__ = ["WebSocketLink", "open_websocket"]

ABNORMAL = 1006


async def open_websocket(nursery: trio.Nursery, opening: Opening) -> WebSocketLink:
    """Open a WebSocket.

    Args:
        nursery: runs the task that reads from the stream. Cancel it when the link is not needed any more.
        opening: the address and the options.

    Raises:
        LinkFailed: there is no server, it refused, or it did not answer in time.
    """
    with trio.move_on_after(opening.options.connect_timeout):
        stream = await dial(opening)
        try:
            return await _shake_hands(nursery, stream, opening)
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
    raise LinkFailed(f"no answer within {opening.options.connect_timeout:g} seconds")


async def _shake_hands(
    nursery: trio.Nursery, stream: trio.abc.Stream, opening: Opening
) -> WebSocketLink:
    with trio.CancelScope() as handshake:
        noticed = _EndNoticed(stream, handshake.cancel)
        reader = _ReadingNursery(nursery, handshake.cancel)
        # `Any`, because the annotations ask for a nursery and a socket, but a stream and `start_soon` are enough.
        untyped: Any = wrap_client_stream
        connection = await untyped(
            reader,
            noticed,
            opening.address.authority,
            opening.address.target,
            subprotocols=subprotocols(opening.auth_token) or None,
            extra_headers=[
                (name.encode(), value.encode()) for name, value in opening.options.headers
            ],
            max_message_size=opening.options.max_message_bytes,
            receive_buffer_size=64 * 1024,
        )
        noticed.at_end = reader.at_end = None
        _forget_handshake(connection)
        return WebSocketLink(connection, stream)
    failure = reader.failure
    if isinstance(failure, ConnectionRejected):
        raise refused("the WebSocket", failure.status_code, opening.address)
    if failure is not None:
        raise LinkFailed(f"the answer is not that of a WebSocket: {failure!r}")
    raise LinkFailed("the connection ended before the server answered")


class _Handshake:
    """A placeholder for the finished handshake in a connection of wsproto."""

    def events(self) -> Iterator[Any]:
        return iter(())


_OVER = _Handshake()


def _forget_handshake(connection: WebSocketConnection) -> None:
    """Release the HTTP parser of the handshake. It would take 2 KB of each client until the connection ends."""
    # `_wsproto` is a private name. Without it, a client takes more memory, and nothing else changes.
    protocol: Any = getattr(connection, "_wsproto", None)
    if getattr(protocol, "connection", None) is not None:
        protocol.handshake = _OVER


class WebSocketLink:
    """One open WebSocket."""

    __slots__ = ("_connection", "_stream")

    def __init__(self, connection: WebSocketConnection, stream: trio.abc.Stream) -> None:
        self._connection = connection
        self._stream = stream

    async def send(self, frames: Sequence[Frame]) -> None:
        """Write frames in order."""
        try:
            for frame in frames:
                await self._connection.send_message(frame)
        except ConnectionClosed as closed:
            raise _lost(closed.reason) from None

    async def receive(self) -> Frame:
        """Return the next frame of the server."""
        try:
            return await self._connection.get_message()
        except ConnectionClosed as closed:
            raise _lost(closed.reason) from None

    async def aclose(self, code: int, reason: str) -> None:
        """Send a close frame, and wait for the close frame of the server."""
        try:
            await self._connection.aclose(code, reason or None)
        finally:
            await trio.aclose_forcefully(self._stream)


def _lost(reason: Any) -> LinkLost:
    # wsproto has an enumeration for the codes that it knows.
    return LinkLost(ABNORMAL) if reason is None else LinkLost(int(reason.code), reason.reason or "")


class _ReadingNursery:
    """A replacement for the nursery that trio-websocket asks for.

    Keeps the error of the reader, and ends the handshake.

    Attributes:
        failure: the error of the reader.
        at_end: called when the reader ends; None after the handshake.
    """

    __slots__ = ("_nursery", "at_end", "failure")

    def __init__(self, nursery: trio.Nursery, at_end: Callable[[], None]) -> None:
        self.failure: Exception | None = None
        self.at_end: Callable[[], None] | None = at_end
        self._nursery = nursery

    def start_soon(self, read: Callable[[], Awaitable[None]]) -> None:
        self._nursery.start_soon(self._run, read)

    async def _run(self, read: Callable[[], Awaitable[None]]) -> None:
        try:
            await read()
        except (
            Exception
        ) as error:  # of any kind: the library closes its queue, so `receive` reports the loss
            self.failure = error
        if self.at_end is not None:
            self.at_end()


class _EndNoticed(trio.abc.Stream):
    """A stream that calls `at_end`, if that is not None, as soon as one of its directions has ended."""

    __slots__ = ("_stream", "at_end")

    def __init__(self, stream: trio.abc.Stream, at_end: Callable[[], None]) -> None:
        self.at_end: Callable[[], None] | None = at_end
        self._stream = stream

    # Return the coroutines of the inner stream. Own coroutines would take memory while they wait.

    def receive_some(self, max_bytes: int | None = None) -> Coroutine[Any, Any, bytes | bytearray]:
        if self.at_end is None:
            return self._stream.receive_some(max_bytes)
        return self._receive_some(max_bytes)

    def send_all(self, data: bytes | bytearray | memoryview) -> Coroutine[Any, Any, None]:
        if self.at_end is None:
            return self._stream.send_all(data)
        return self._send_all(data)

    async def _receive_some(self, max_bytes: int | None) -> bytes | bytearray:
        try:
            data = await self._stream.receive_some(max_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
            self._end()
            raise
        if not data:
            self._end()
        return data

    async def _send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
            self._end()
            raise

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        self._end()
        await self._stream.aclose()

    def _end(self) -> None:
        if self.at_end is not None:
            self.at_end()
