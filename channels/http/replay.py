"""A stream that first gives out bytes which somebody has read already.

What `HttpHandover` passes to Hypercorn: its server reads the request again from the beginning, and
touches, besides the stream, the socket below it for the addresses.
"""

from __future__ import annotations

import socket
from typing import Any

import trio

__all__ = ["ReplayStream", "TLSReplayStream"]


_PIECE = 64 * 1024
_STALLED = 60.0
_GOODBYE = 5.0


class _NoSocket:
    """Stands in for the socket of a stream that has none, such as one in memory."""

    family = socket.AF_UNSPEC

    def getpeername(self) -> None:
        """There is no address, and none is asked for in this family."""

    def getsockname(self) -> None:
        """There is no address, and none is asked for in this family."""


class ReplayStream(trio.abc.HalfCloseableStream):
    """`stream`, with `first` in front of what it has to say.

    >>> async def example(stream: trio.abc.Stream, read_before: bytes) -> bytes:
    ...     return bytes(await ReplayStream(stream, read_before).receive_some())

    - `stream`: becomes this object's: closing this closes it;
    - `first`: what was read from it before.

    Where `stream` cannot be closed for writing alone, `send_eof` raises `AttributeError`, as
    Hypercorn expects it to.
    """

    def __init__(self, stream: trio.abc.Stream, first: bytes) -> None:
        self._stream = stream
        self._first = first

    @property
    def socket(self) -> Any:
        """The socket of the stream, or a stand-in without addresses."""
        return getattr(self._stream, "socket", None) or _NoSocket()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Read; the bytes that were read before come first."""
        if not self._first:
            return await self._stream.receive_some(max_bytes)
        await trio.lowlevel.checkpoint()
        size = len(self._first) if max_bytes is None else max_bytes
        data, self._first = self._first[:size], self._first[size:]
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write, as the stream does, but not to a peer that does not read.

        A peer that does not take 64 KiB, or what is left, within a minute is cut off: Hypercorn would wait for ever,
        with the answer in memory. Raises `trio.BrokenResourceError` then.
        """
        view = memoryview(data)
        for start in range(0, len(view) or 1, _PIECE):
            with trio.move_on_after(_STALLED) as limit:
                await self._stream.send_all(view[start : start + _PIECE])
            if limit.cancelled_caught:
                await trio.aclose_forcefully(self._stream)
                raise trio.BrokenResourceError("the peer does not read what it asked for")

    async def wait_send_all_might_not_block(self) -> None:
        """Wait, as the stream does."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """Close the stream for writing."""
        await self._stream.send_eof()  # type: ignore[attr-defined]  # see the class

    async def aclose(self) -> None:
        """Close the stream. A TLS stream says goodbye first, for five seconds at most to a peer that does not read."""
        with trio.move_on_after(_GOODBYE):
            await self._stream.aclose()


class TLSReplayStream(ReplayStream):
    """The same for a TLS stream, with what Hypercorn asks of one."""

    def __init__(self, stream: trio.SSLStream[Any], first: bytes) -> None:
        super().__init__(stream, first)
        self._tls = stream

    @property
    def transport_stream(self) -> Any:
        """The stream below TLS, in the same dress."""
        return ReplayStream(self._tls.transport_stream, b"")

    async def do_handshake(self) -> None:
        """Agree on a key, if that has not been done."""
        await self._tls.do_handshake()

    def selected_alpn_protocol(self) -> str | None:
        """Say which protocol the client has chosen: `"h2"`, `"http/1.1"` or None."""
        protocol: str | None = self._tls.selected_alpn_protocol()
        return protocol
