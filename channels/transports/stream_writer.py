"""A writing task for one connection: for every stream that has no write which does not block.

TLS, simulated networks and the like. Plain sockets share one flusher instead, see
`channels.transports.flusher`. The promises are the same: what waits is joined and written in one
piece, in order; an error reaches the `tell` of the out-buffer and nothing else.

    writer = StreamWriter(stream)
    out = OutBuffer(writer.mark, tell=...)
    spawn_link(writer.main, out)
"""

from __future__ import annotations

import trio

from channels.transports.out_buffer import OutBuffer

__all__ = ["StreamWriter"]


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
