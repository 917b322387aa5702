"""The opening handshake of trio-websocket's client, with a time limit.

If the connection ends before the server answers, `trio_websocket.wrap_client_stream` waits forever, and
`open_websocket` raises an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import trio
from trio_websocket import HandshakeError, WebSocketConnection, wrap_client_stream

__all__ = ["HANDSHAKE_TIMEOUT", "open_websocket"]

HANDSHAKE_TIMEOUT = 10.0
"""Seconds for the server to answer the handshake."""


async def open_websocket(
    nursery: trio.Nursery,
    stream: trio.abc.Stream,
    host: str,
    path: str = "/socket/websocket?vsn=2.0.0",
    *,
    timeout: float = HANDSHAKE_TIMEOUT,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> WebSocketConnection:
    """Open a WebSocket over a stream.

    Args:
        nursery: The nursery for the task that reads from the stream.
        stream: A connection to the server.
        host: The `Host` header.
        path: The path of the socket, with its query.
        timeout: Seconds for the server to answer.
        headers: Further headers of the request.

    Raises:
        HandshakeError: The server did not answer in time, or the connection ended before the answer.
    """
    with trio.move_on_after(timeout) as handshake:
        # Any, because the client's annotations require a socket stream, but any stream works.
        noticed: Any = _EndNoticed(stream, handshake.cancel)
        return await wrap_client_stream(nursery, noticed, host, path, extra_headers=list(headers))
    if noticed.ended:
        raise HandshakeError(f"the connection to {host} ended before an answer to {path}")
    raise HandshakeError(f"{host} did not answer {path} within {timeout:g} seconds")


class _EndNoticed(trio.abc.Stream):
    """A stream that calls `at_end` as soon as one direction has ended."""

    def __init__(self, stream: trio.abc.Stream, at_end: Callable[[], None]) -> None:
        self.ended = False
        self._stream = stream
        self._at_end = at_end

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        try:
            data = await self._stream.receive_some(max_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._end()
            raise
        if not data:
            self._end()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._end()
            raise

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        self._end()
        await self._stream.aclose()

    def _end(self) -> None:
        self.ended = True
        self._at_end()
