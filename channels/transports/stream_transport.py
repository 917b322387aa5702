"""The transport of any other stream: TLS, simulated networks. Two tasks for each connection.

Keeps the contract of `channels.transports.contract`.
"""

from __future__ import annotations

import trio

from channels.transports.events import Signal, Tell
from channels.transports.out_buffer import OutBuffer
from channels.transports.pump import Pump
from channels.transports.stream_writer import StreamWriter

__all__ = ["StreamTransport"]

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
