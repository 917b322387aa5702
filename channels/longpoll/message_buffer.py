"""What waits to be taken by one client, message by message: an out-buffer for transports that carry whole messages.

Long polling hands out what waits with each poll, ASGI servers frame their messages themselves; neither wants bytes that
were joined. For the rest it is an `OutBuffer`: bounded, and never in the way of who writes.
"""

from __future__ import annotations

from collections.abc import Callable

from channels.transports.events import Signal, Tell
from channels.transports.out_buffer import (
    DEFAULT_MAX_BYTES,
    DEFAULT_MAX_MESSAGES,
    OutBufferStatistics,
)

__all__ = ["MessageBuffer"]


class MessageBuffer:
    """The messages that wait for one client.

        >>> out = MessageBuffer(lambda: print("something waits"), tell=print)
        >>> out.put(b"one")
        something waits
        >>> out.put(b"two")
        >>> out.take()
        [b'one', b'two']

    - `wake`: called when the first message is put, and not again before `take`. May neither block nor raise;
    - `tell`: where `Signal.OVERFLOW` goes, once;
    - `max_messages`, `max_bytes`: how much may wait. A message that does not fit is dropped and counted, and so is
      every one after it. An empty buffer takes one message of any size.

    All methods belong to the thread that runs Trio.
    """

    __slots__ = (
        "_bytes",
        "_dropped",
        "_max_bytes",
        "_max_messages",
        "_overflowed",
        "_shut",
        "_tell",
        "_wake",
        "messages",
    )

    def __init__(
        self,
        wake: Callable[[], object],
        *,
        tell: Tell,
        max_messages: int = DEFAULT_MAX_MESSAGES,
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> None:
        self.messages: list[bytes] = []
        self._wake = wake
        self._tell = tell
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._bytes = 0
        self._dropped = 0
        self._overflowed = False
        self._shut = False

    def put(self, frame: bytes) -> None:
        """Append a message; never blocks, never raises. Dropped and counted after an overflow or `close`."""
        messages = self.messages
        if self._shut:
            self._dropped += 1
        elif not messages:
            # Woken first: a message that waits wakes nobody again, so a wake that fails must leave none.
            self._wake()
            self._bytes = len(frame)
            messages.append(frame)
        elif len(messages) >= self._max_messages or self._bytes + len(frame) > self._max_bytes:
            self._dropped += 1
            self._overflowed = self._shut = True
            self._tell(Signal.OVERFLOW)
        else:
            self._bytes += len(frame)
            messages.append(frame)

    def take(self) -> list[bytes]:
        """Give out everything that waits, counting it as written."""
        messages, self.messages = self.messages, []
        self._bytes = 0
        return messages

    def close(self) -> None:
        """Drop what waits, and what comes. May be called twice."""
        self._shut = True
        self.messages.clear()
        self._bytes = 0

    def statistics(self) -> OutBufferStatistics:
        """Say how much waits and what was dropped."""
        return OutBufferStatistics(
            waiting_messages=len(self.messages),
            waiting_bytes=self._bytes,
            dropped_messages=self._dropped,
            overflowed=self._overflowed,
            catching_up=False,
        )
