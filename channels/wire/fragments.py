"""The message of a client that arrives in several frames, or is compressed. *pure*.

Source: RFC 6455, section 5.4, and RFC 7692.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from channels.wire.deflate import Inflater

if TYPE_CHECKING:
    from websockets.extensions.permessage_deflate import PerMessageDeflate

__all__ = [
    "BINARY_MESSAGE",
    "PIECE_OVERHEAD",
    "TEXT_MESSAGE",
    "Fragments",
    "MessageTooBig",
    "no_fragments",
]

TEXT_MESSAGE, BINARY_MESSAGE = 0x81, 0x82
"""The first bytes of frames with a whole message."""

PIECE_OVERHEAD = 64
"""The bytes that each piece of an incomplete message counts in addition to its size.

A client may send its message in pieces of one byte, and Python needs about this much memory for each piece.
"""

_FIN = 0x80
_COMPRESSED = 0x40
_BEGINNINGS = frozenset((0x01, 0x02, TEXT_MESSAGE, BINARY_MESSAGE))
_COMPRESSED_BEGINNINGS = frozenset(first | _COMPRESSED for first in _BEGINNINGS)
_CONTINUATIONS = frozenset((0x00, _FIN))


class MessageTooBig(ValueError):
    """An inflated message from a client exceeds the maximum size."""


class Fragments:
    """A message that arrives in several frames, or is compressed, or both.

        fragments.add(first, payload)           # for each frame, in order
        while fragments.is_busy:
            fragments.inflate()
        if fragments.is_complete:
            first, message = fragments.take()

    The caller must check the order of the frames, with `may_begin` and `may_follow`.

    Args:
        max_size: the maximum bytes of a message, after inflation.
        extension: the negotiated compression, if any.

    Attributes:
        size: the bytes of the message so far.
        room: the bytes that the message may still have.
        is_open: True if a message has begun.
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
        """Return True if a frame with this first byte begins a message."""
        return first in self._beginnings

    def may_follow(self, first: int) -> bool:
        """Return True if a frame with this first byte continues the current message."""
        return self.is_open and first in _CONTINUATIONS

    @property
    def is_busy(self) -> bool:
        """True if `inflate` must be called before the next `add`."""
        return self._inflater is not None and self._inflater.is_busy

    @property
    def is_complete(self) -> bool:
        """True if the message is whole."""
        return self.is_open and self._is_last and not self.is_busy

    def add(self, first: int, payload: bytes) -> None:
        """Add a frame to the current message, or begin one. The payload must not exceed `room`."""
        if not self.is_open:
            self.is_open = True
            self._first = first
        self._is_last = bool(first & _FIN)
        if self._first & _COMPRESSED and self._inflater is not None:
            self._inflater.feed(payload, ends=self._is_last)
        else:
            self._append(payload)

    def inflate(self) -> None:
        """Inflate a piece of the latest frame.

        Raises:
            zlib.error: the data is damaged.
            MessageTooBig: the message exceeds the maximum size.
        """
        assert self._inflater is not None  # is_busy implies an inflater
        piece = self._inflater.inflate()
        if len(piece) > self.room:
            raise MessageTooBig
        self._append(piece)

    def take(self) -> tuple[int, bytes]:
        """Return the first byte that a single frame with this message would have, and the data of the message."""
        message = bytes(self._data)
        first = TEXT_MESSAGE if self._first & 0x0F == TEXT_MESSAGE & 0x0F else BINARY_MESSAGE
        self.drop()
        return first, message

    def drop(self) -> None:
        """Forget the current message."""
        self._data = bytearray()
        self.size = 0
        self.room = self._max
        self.is_open = False

    def _append(self, part: bytes) -> None:
        self._data += part
        self.size += len(part)
        self.room -= len(part)


@cache
def no_fragments(max_size: int) -> Fragments:
    """Return the empty `Fragments` that connections share until their first fragment. Never call its `add`."""
    return Fragments(max_size, None)
