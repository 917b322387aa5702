"""A WebSocket message that takes several steps to arrive: in several frames, or compressed, or both.

*pure*. It is put together here, and never becomes longer than a message may be. What a frame that is out of order
means, and what the client is told, is decided by `channels.wire.websocket`.

    fragments.add(first, payload)           # of each frame, in order
    while fragments.is_busy:
        fragments.inflate()
    if fragments.is_complete:
        first, message = fragments.take()
"""

from __future__ import annotations

from websockets.extensions.permessage_deflate import PerMessageDeflate

from channels.wire.inflater import Inflater

__all__ = ["BINARY_MESSAGE", "TEXT_MESSAGE", "Fragments", "MessageTooBig"]

TEXT_MESSAGE, BINARY_MESSAGE = 0x81, 0x82
"""The first bytes of frames that are a whole message."""

_FIN = 0x80
_COMPRESSED = 0x40
_BEGINNINGS = frozenset((0x01, 0x02, TEXT_MESSAGE, BINARY_MESSAGE))
_COMPRESSED_BEGINNINGS = frozenset(first | _COMPRESSED for first in _BEGINNINGS)
_CONTINUATIONS = frozenset((0x00, _FIN))


class MessageTooBig(ValueError):
    """A message is longer than a message may be, once it is inflated. The client is at fault."""


class Fragments:
    """The message that is arriving, if there is one.

    - `max_size`: bytes of a message, inflated;
    - `extension`: what was agreed on about compression, if anything was.

    Attributes: `size`, the bytes so far; `room`, the bytes that may still be added; `is_open`, whether a message has
    begun.
    """

    __slots__ = (
        "_beginnings",
        "_data",
        "_first",
        "_inflater",
        "_is_last",
        "_max",
        "is_open",
        "room",
        "size",
    )

    def __init__(self, max_size: int, extension: PerMessageDeflate | None) -> None:
        self._max = self.room = max_size
        self._inflater = None if extension is None else Inflater(extension)
        self._beginnings = (
            _BEGINNINGS if extension is None else _BEGINNINGS | _COMPRESSED_BEGINNINGS
        )
        self._data = bytearray()
        self.size = 0
        self._first = 0
        self._is_last = False
        self.is_open = False

    def may_begin(self, first: int) -> bool:
        """Tell whether a frame whose first byte is `first` is the beginning of a message."""
        return first in self._beginnings

    def may_follow(self, first: int) -> bool:
        """Tell whether a frame whose first byte is `first` goes on with the message that has begun."""
        return self.is_open and first in _CONTINUATIONS

    @property
    def is_busy(self) -> bool:
        """Whether `inflate` has something to do before the next frame may be added."""
        return self._inflater is not None and self._inflater.is_busy

    @property
    def is_complete(self) -> bool:
        """Whether the message is whole."""
        return self.is_open and self._is_last and not self.is_busy

    def add(self, first: int, payload: bytes) -> None:
        """Take a frame that may begin or follow, and whose payload is no longer than `room`."""
        if not self.is_open:
            self.is_open = True
            self._first = first
        self._is_last = bool(first & _FIN)
        if self._first & _COMPRESSED and self._inflater is not None:
            self._inflater.feed(payload, ends=self._is_last)
        else:
            self._append(payload)

    def inflate(self) -> None:
        """Inflate a piece of the frame that was added last.

        Raises `zlib.error` if it is damaged, and `MessageTooBig`.
        """
        assert self._inflater is not None  # or nothing would be busy
        piece = self._inflater.inflate()
        if len(piece) > self.room:
            raise MessageTooBig
        self._append(piece)

    def take(self) -> tuple[int, bytes]:
        """Give out the complete message: the first byte of a frame that has it whole, and its data."""
        message = bytes(self._data)
        first = TEXT_MESSAGE if self._first & 0x0F == TEXT_MESSAGE & 0x0F else BINARY_MESSAGE
        self.drop()
        return first, message

    def drop(self) -> None:
        """Forget the message that has begun."""
        self._data = bytearray()
        self.size = 0
        self.room = self._max
        self.is_open = False

    def _append(self, part: bytes) -> None:
        self._data += part
        self.size += len(part)
        self.room -= len(part)
