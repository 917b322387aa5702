"""The transport for Trio streams, such as those of simulated networks.

A stream has no non-blocking write, and no file descriptor for the poller. So each connection has two tasks: `Pump`
reads and `StreamWriter` writes. `StreamTransport` combines them into a transport of `channels.transports.contract`.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio

from channels.transports.contract import OnData, Signal, Tell
from channels.transports.out_buffer import OutBuffer, limit_unsent

__all__ = [
    "READ_SIZE",
    "Pump",
    "Source",
    "StreamTransport",
    "StreamWriter",
    "socket_source",
    "stream_source",
]

READ_SIZE = 65536
"""The maximum number of bytes of one read."""

Source: TypeAlias = Callable[[], Awaitable[bytes]]
"""A function that waits for the next bytes of a stream. `b""` is the end.

It raises `OSError` if the stream broke, and `trio.ClosedResourceError` if this side closed it.
"""


def stream_source(stream: trio.abc.ReceiveStream) -> Source:
    """Return a function that reads a Trio stream.

    >>> async def example(stream: trio.abc.ReceiveStream) -> bytes:
    ...     return await stream_source(stream)()
    """

    async def read() -> bytes:
        try:
            return bytes(await stream.receive_some(READ_SIZE))
        except trio.BrokenResourceError as error:
            raise ConnectionResetError(f"the stream broke: {error}") from error

    return read


def socket_source(sock: socket.socket) -> Source:
    """Return a function that reads a plain, non-blocking socket without a poller.

    >>> async def example(sock: socket.socket) -> bytes:
    ...     return await socket_source(sock)()
    """

    async def read() -> bytes:
        # A checkpoint before each read, so that other tasks run even if the socket always has data.
        await trio.lowlevel.checkpoint()
        while True:
            try:
                return sock.recv(READ_SIZE)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(sock.fileno())

    return read


class Pump:
    """Read a stream in a task, and deliver the data.

        >>> async def example(nursery: trio.Nursery, stream: trio.abc.ReceiveStream) -> None:
        ...     nursery.start_soon(Pump(stream_source(stream), print).main)

    A `Pump` behaves like a `Reading` of the poller. It delivers bytes, and at the end `b""` or an `OSError` once. It
    delivers nothing between `pause` and `resume`, or after `stop`. It delivers errors of the stream, and does not raise
    them. If the peer leaves during a pause, the pump notices this only if at most 64 KiB are unread.

    Args:
        source: the function that reads the stream. The caller closes the stream.
        on_data: the function for the data, as for a poller.
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
        """True after the pump has delivered the end or an error, or after `stop`."""

    def pause(self) -> None:
        """Deliver nothing until `resume`, unless the peer leaves. The pump keeps less than 128 KiB of data."""
        if not self._paused:
            self._paused = True
            self._parked = trio.Event()

    def resume(self) -> None:
        """Deliver again after `pause`, first the data from the pause."""
        self._paused = False
        while self._kept and not self._paused and not self.ended:
            self._on_data(self._kept.popleft())
        if not self._paused:
            self._parked.set()

    def redirect(self, on_data: OnData) -> None:
        """Deliver further data to `on_data`, instead of the earlier function."""
        self._on_data = on_data

    def stop(self) -> None:
        """Deliver nothing more, and end `main`. You may call it twice, and before `main`."""
        self.ended = True
        self._kept.clear()
        self._scope.cancel()

    async def main(self) -> None:
        """Read until the stream ends or breaks, or until `stop`."""
        with self._scope:
            while not self.ended:
                data = await self._read()
                if self.ended or data is None:
                    return
                if not data or isinstance(data, OSError):
                    self._end(data)
                elif self._paused:
                    self._kept.append(data)
                    while self._paused and sum(map(len, self._kept)) >= READ_SIZE:
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
    """Write the out-buffer of a Trio stream in a task.

        >>> async def example(nursery: trio.Nursery, stream: trio.abc.SendStream) -> None:
        ...     writer = StreamWriter(stream)
        ...     out = OutBuffer(writer, tell=print)
        ...     nursery.start_soon(writer.main, out)
        ...     out.put(b"hello")

    A writer behaves like the flusher. It joins waiting frames, and writes them in order. If the stream fails, only the
    `tell` of the out-buffer gets the error.

    Args:
        stream: the stream. The caller closes it.
    """

    __slots__ = ("_marked", "_scope", "_stream")

    def __init__(self, stream: trio.abc.SendStream) -> None:
        self._stream = stream
        self._marked = trio.Event()
        self._scope = trio.CancelScope()

    def mark(self, _: OutBuffer) -> None:
        """Wake `main`, which then writes the out-buffer."""
        self._marked.set()

    def limit_unsent(self, _: OutBuffer) -> None:
        """Limit the bytes that the kernel takes in advance, if there is a socket below the stream."""
        stream = getattr(self._stream, "transport_stream", self._stream)
        if isinstance(stream, trio.SocketStream):
            limit_unsent(stream.setsockopt)

    def stop(self) -> None:
        """End `main`, even during a write. You may call it twice, and before `main`."""
        self._scope.cancel()

    async def main(self, out: OutBuffer) -> None:
        """Write `out` each time that it has called `mark`, until `stop`."""
        with self._scope:
            while True:
                await self._marked.wait()
                self._marked = trio.Event()
                frames = out.waiting
                data = out.take()
                if data:
                    for listener in out.on_write:
                        listener(len(data), frames)
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


# Seconds for a TLS stream to send its closing alert.
_TLS_CLOSE_TIMEOUT = 1.0


class StreamTransport:
    """The transport of one Trio stream. Use `Transports.attach`.

    Args:
        stream: the stream. This object closes it when `main` ends.
        out: the buffer that marks `writer`.
        pump: the pump that reads `stream` and delivers to `tell`.
        writer: the writer of `out`.
        tell: the function for the events of this transport.
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
        """Deliver again after `pause`."""
        self._pump.resume()

    def finish(self, frame: bytes = b"") -> None:
        """Write the last frame, then end this side of the stream if the stream can.

        TLS cannot end one side alone. So the transport finishes a TLS stream right after the last frame, and does not
        read it to its end. Afterwards, it calls only `tell(Signal.FINISHED)`. There is no time limit.
        """
        self._pump.redirect(_drop)
        self._pump.resume()
        self.out.finish(frame, self._last_frame_written)

    def _last_frame_written(self) -> None:
        self._written = True
        self._writer.stop()

    def close(self) -> None:
        """End both tasks. The task that runs `main` closes the stream."""
        self._tell = None
        self.out.close()
        self._scope.cancel()

    async def main(self) -> None:
        """Read and write until `close`, then close the stream."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._read)
                    nursery.start_soon(self._write)
                await trio.sleep_forever()
        finally:
            self._report_failure()
            self.close()
            await self._close_stream()

    def _report_failure(self) -> None:
        """Report that the tasks of this transport failed, unless `close` ended them."""
        tell, self._tell = self._tell, None
        if tell is not None:
            tell(ConnectionAbortedError("a task of this stream failed"))

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
                # The peer is gone, so do not wait for the end of its side.
                pass
        tell, self._tell = self._tell, None
        if tell is not None:
            tell(Signal.FINISHED)

    async def _close_stream(self) -> None:
        if not self._written:
            await trio.aclose_forcefully(self._stream)
            return
        # Shielded, because a TLS stream sends its closing alert here. Without the alert, the peer would assume that
        # data was lost. The time limit is for a peer that does not read.
        with trio.move_on_after(_TLS_CLOSE_TIMEOUT, shield=True):
            try:
                await self._stream.aclose()
            except (trio.BrokenResourceError, OSError):
                # The peer left first.
                pass


def _drop(_: bytes | OSError) -> None:
    pass
