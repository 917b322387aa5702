"""The transport of a plain socket: read by the poller, written by the flusher, no task of its own.

Keeps the contract of `channels.transports.contract`.
"""

from __future__ import annotations

import socket

from channels.transports.contract import Reader
from channels.transports.events import Signal, Tell
from channels.transports.out_buffer import OutBuffer

__all__ = ["SocketTransport"]


class SocketTransport:
    """One connected, non-blocking socket. Made by `Transports.attach`.

    - `sock`: becomes this object's, which closes it;
    - `out`: written by a flusher, with `sock` as its target;
    - `reader`: delivers to `tell`.
    """

    __slots__ = ("_half_closed", "_reader", "_socket", "_tell", "out")

    def __init__(self, sock: socket.socket, out: OutBuffer, reader: Reader, tell: Tell) -> None:
        self._socket = sock
        self.out = out
        self._reader = reader
        self._tell: Tell | None = tell
        self._half_closed = False

    def pause(self) -> None:
        """Leave what the peer sends in the kernel until `resume`."""
        self._reader.pause()

    def resume(self) -> None:
        """Go on reading after `pause`."""
        self._reader.resume()

    def finish(self, frame: bytes = b"") -> None:
        """Write `frame` as the last one, shut the socket for writing, read it to its end.

        `tell(Signal.FINISHED)` follows, and nothing else. Not bounded in time.
        """
        self._reader.redirect(self._drop)
        self._reader.resume()
        self.out.finish(frame, self._shut_for_writing)

    def _drop(self, data: bytes | OSError) -> None:
        if not data or isinstance(data, OSError):
            self._finish_if_done()

    def _shut_for_writing(self) -> None:
        self._half_closed = True
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            # The peer is gone, which the reader finds out as well.
            pass
        self._finish_if_done()

    def _finish_if_done(self) -> None:
        if self._half_closed and self._reader.ended:
            tell, self._tell = self._tell, None
            if tell is not None:
                tell(Signal.FINISHED)

    def close(self) -> None:
        """Close the socket, after everything that uses it has let go of it."""
        self._tell = None
        self._reader.stop()
        self.out.close()
        self._socket.close()
