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

from channels.transports.contract import OnData, Signal, Tell
from channels.transports.out_buffer import OutBuffer

__all__ = ["Pump", "Source", "StreamTransport", "StreamWriter", "socket_source", "stream_source"]

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


class StreamWriter:
    """Writes out the out-buffer of one Trio stream.

        >>> async def example(nursery: trio.Nursery, stream: trio.abc.SendStream) -> None:
        ...     writer = StreamWriter(stream)
        ...     out = OutBuffer(writer.mark, tell=print)
        ...     nursery.start_soon(writer.main, out)
        ...     out.put(b"hello")

    - `stream`: where to write; stays the caller's, who closes it.
    """

    __slots__ = ("_marked", "_scope", "_stream")

    def __init__(self, stream: trio.abc.SendStream) -> None:
        self._stream = stream
        self._marked = trio.Event()
        self._scope = trio.CancelScope()

    def mark(self, _: OutBuffer) -> None:
        """Have the out-buffer written soon."""
        self._marked.set()

    def stop(self) -> None:
        """End `main`, even in the middle of a write. May be called twice, and before `main`."""
        self._scope.cancel()

    async def main(self, out: OutBuffer) -> None:
        """Write whenever `out` is marked, until `stop` is called."""
        with self._scope:
            while True:
                await self._marked.wait()
                self._marked = trio.Event()
                data = out.take()
                if data:
                    out.hold(data)
                    await self._write(out)
                if out.finished is not None:
                    out.written()

    async def _write(self, out: OutBuffer) -> None:
        try:
            while out.rest:
                size = len(out.rest)
                await self._stream.send_all(out.rest)
                out.progress(size)
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
            broken = ConnectionResetError(f"the stream broke: {error}")
            broken.__cause__ = error
            out.fail(broken)


# How long a TLS stream may take to say goodbye once everything else has been written.
_GOODBYE = 1.0


class StreamTransport:
    """One Trio stream. Made by `Transports.attach`.

    - `stream`: becomes this object's; it is closed when `main` ends;
    - `out`: marks `writer`;
    - `pump`: reads `stream` and delivers to `tell`.
    """

    __slots__ = ("_pump", "_read_ended", "_scope", "_stream", "_tell", "_writer", "_written", "out")

    def __init__(
        self,
        stream: trio.abc.Stream,
        out: OutBuffer,
        pump: Pump,
        writer: StreamWriter,
        tell: Tell,
    ) -> None:
        self._stream = stream
        self.out = out
        self._pump = pump
        self._writer = writer
        self._tell: Tell | None = tell
        self._scope = trio.CancelScope()
        self._read_ended = trio.Event()
        self._written = False

    def pause(self) -> None:
        """Deliver nothing until `resume`."""
        self._pump.pause()

    def resume(self) -> None:
        """Go on delivering after `pause`."""
        self._pump.resume()

    def finish(self, frame: bytes = b"") -> None:
        """Write `frame` as the last one; tell the peer that nothing follows, if the stream can.

        A stream that cannot be closed for writing alone (TLS) is not read to its end: it is
        finished when the last frame is written. `tell(Signal.FINISHED)` follows, and nothing
        else. Not bounded in time.
        """
        self._pump.redirect(_drop)
        self._pump.resume()
        self.out.finish(frame, self._last_frame_written)

    def _last_frame_written(self) -> None:
        self._written = True
        self._writer.stop()

    def close(self) -> None:
        """End both tasks; the one that runs `main` closes the stream."""
        self._tell = None
        self.out.close()
        self._scope.cancel()

    async def main(self) -> None:
        """Carry bytes both ways until `close`, then close the stream."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._read)
                    nursery.start_soon(self._write)
                await trio.sleep_forever()
        finally:
            self._tell_of_a_failure()
            self.close()
            await self._close_stream()

    def _tell_of_a_failure(self) -> None:
        """Have the connection know that nobody carries its bytes any more, if it was not `close` that ended this."""
        tell, self._tell = self._tell, None
        if tell is not None:
            tell(ConnectionAbortedError("what carried this connection has failed"))

    async def _read(self) -> None:
        await self._pump.main()
        self._read_ended.set()

    async def _write(self) -> None:
        await self._writer.main(self.out)
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            try:
                await self._stream.send_eof()
                await self._read_ended.wait()
            except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
                # The peer is gone, so there is nothing to wait for.
                pass
        tell, self._tell = self._tell, None
        if tell is not None:
            tell(Signal.FINISHED)

    async def _close_stream(self) -> None:
        if not self._written:
            await trio.aclose_forcefully(self._stream)
            return
        # Shielded, because a TLS stream says goodbye while it is closed, and whoever ends this
        # task has no reason to make the peer believe that something was cut off; bounded, because
        # the peer may not be reading.
        with trio.move_on_after(_GOODBYE, shield=True):
            try:
                await self._stream.aclose()
            except (trio.BrokenResourceError, OSError):
                # The peer was gone first.
                pass


def _drop(_: bytes | OSError) -> None:
    pass
