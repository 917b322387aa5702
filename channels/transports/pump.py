"""A reading task for one connection: for every stream that the poller cannot read.

TLS, simulated networks, and plain sockets where there is no epoll. `Pump` makes the same promises
as `channels.transports.poller`: bytes, then `b""` or an `OSError` once; silence between `pause`
and `resume` and after `stop`; whatever goes wrong with the stream is delivered, never raised. A
peer that goes during a pause is noticed if it left no more than 64 KiB unread, because there is no
seeing the end of such a stream but by reading up to it.

    pump = Pump(stream_source(stream), on_data)
    spawn_link(pump.main)
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio

from channels.transports.poller import OnData

__all__ = ["Pump", "Source", "socket_source", "stream_source"]

_READ_SIZE = 65536

Source: TypeAlias = Callable[[], Awaitable[bytes]]
"""Waits for the next bytes of a stream; `b""` is its end. Raises `OSError` if it broke, and
`trio.ClosedResourceError` if it was closed on this side."""


def stream_source(stream: trio.abc.ReceiveStream) -> Source:
    """Read a Trio stream.

    >>> async def example(stream: trio.abc.ReceiveStream) -> bytes:
    ...     return await stream_source(stream)()
    """

    async def read() -> bytes:
        try:
            return bytes(await stream.receive_some(_READ_SIZE))
        except trio.BrokenResourceError as error:
            raise ConnectionResetError(f"the stream broke: {error}") from error

    return read


def socket_source(sock: socket.socket) -> Source:
    """Read a plain, non-blocking socket, where there is no poller to do it.

    >>> async def example(sock: socket.socket) -> bytes:
    ...     return await socket_source(sock)()
    """

    async def read() -> bytes:
        # At least one checkpoint for each read, so that a busy peer leaves room for others.
        await trio.lowlevel.checkpoint()
        while True:
            try:
                return sock.recv(_READ_SIZE)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(sock.fileno())

    return read


class Pump:
    """Reads one stream and hands over what comes.

        >>> async def example(nursery: trio.Nursery, stream: trio.abc.ReceiveStream) -> None:
        ...     nursery.start_soon(Pump(stream_source(stream), print).main)

    - `source`: where to read from; stays the caller's, who closes it;
    - `on_data`: takes what is read, as with a poller.
    """

    __slots__ = ("_kept", "_on_data", "_parked", "_paused", "_scope", "_source", "ended")

    def __init__(self, source: Source, on_data: OnData) -> None:
        self._source = source
        self._on_data = on_data
        self._paused = False
        self._parked = trio.Event()
        self._scope = trio.CancelScope()
        self._kept: deque[bytes] = deque()  # read during a pause
        self.ended = False
        """Whether the end of the stream or an error has been delivered, or `stop` was called."""

    def pause(self) -> None:
        """Deliver nothing until `resume`, unless the peer goes. Less than 128 KiB are kept meanwhile."""
        if not self._paused:
            self._paused = True
            self._parked = trio.Event()

    def resume(self) -> None:
        """Deliver again after `pause`, at once what was kept."""
        self._paused = False
        while self._kept and not self._paused and not self.ended:
            self._on_data(self._kept.popleft())
        if not self._paused:
            self._parked.set()

    def redirect(self, on_data: OnData) -> None:
        """Call `on_data` from now on in place of what the constructor got."""
        self._on_data = on_data

    def stop(self) -> None:
        """Deliver nothing any more, and end `main`. May be called twice, and before `main`."""
        self.ended = True
        self._kept.clear()
        self._scope.cancel()

    async def main(self) -> None:
        """Read until the stream ends, breaks, or `stop` is called."""
        with self._scope:
            while not self.ended:
                data = await self._read()
                if self.ended or data is None:
                    return
                if not data or isinstance(data, OSError):
                    self._end(data)
                elif self._paused:
                    self._kept.append(data)
                    while self._paused and sum(map(len, self._kept)) >= _READ_SIZE:
                        await self._parked.wait()
                else:
                    self._on_data(data)

    def _end(self, data: bytes | OSError) -> None:
        while self._kept and not self.ended:
            self._on_data(self._kept.popleft())
        if not self.ended:
            self.ended = True
            self._on_data(data)

    async def _read(self) -> bytes | OSError | None:
        try:
            return await self._source()
        except trio.ClosedResourceError:
            return None
        except OSError as error:
            return error
