"""An out-buffer that shows its frames to an observer, and the text in these frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from channels.messages import BinaryFrame
from channels.transports.contract import LatestKey

__all__ = ["WatchedOut", "text_of"]

# The first byte of a WebSocket frame with a whole text, and the header sizes for the two special length values.
_WHOLE_TEXT = 0x81
_HEADERS = {126: 4, 127: 10}


class WatchedOut:
    """Stands in for the out-buffer of a connection, and calls `seen` with each frame after `put` or `put_latest`.

        server.out = server.link.out = WatchedOut(server.out, frames.append)

    Args:
        out: the out-buffer, or its equal in a test.
        seen: called with the frame. It must not raise.
    """

    def __init__(self, out: Any, seen: Callable[[bytes], object]) -> None:
        self._out = out
        self._seen = seen

    def put(self, frame: bytes) -> None:
        self._out.put(frame)
        self._seen(frame)

    def put_latest(self, key: LatestKey, frame: bytes) -> None:
        self._out.put_latest(key, frame)
        self._seen(frame)

    def end(self) -> None:
        """Call `seen` no more. Subscriptions of channels keep this object, so it stays in its place."""
        self.put = self._out.put  # type: ignore[method-assign] # without a cost for each frame
        self.put_latest = self._out.put_latest  # type: ignore[method-assign]
        del self._seen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._out, name)


def text_of(frame: bytes) -> bytes:
    """Return the text of a frame of a server, or empty bytes if it has no text. Without a network, it has no header."""
    if type(frame) is BinaryFrame or len(frame) < 2:
        return b""
    return frame[_HEADERS.get(frame[1], 2) :] if frame[0] == _WHOLE_TEXT else frame
