r"""Inflation of one client's compressed messages, piece by piece.

*pure*. A kilobyte can inflate to a megabyte, and ten megabytes take a tenth of a second. So `inflate` stops after a
bounded number of bytes, and goes on where it stopped when it is called again.

    inflater.feed(payload, ends=True)       # of a frame; `ends` if the message ends with it
    while inflater.is_busy:
        message += inflater.inflate()       # some bytes, perhaps none

Source: RFC 7692, section 7.2.2.
"""

from __future__ import annotations

import zlib
from typing import Any

from websockets.extensions.permessage_deflate import PerMessageDeflate

__all__ = ["INFLATED_PIECE", "Inflater"]

INFLATED_PIECE = 16 * 1024
"""Bytes that one call of `inflate` returns at most."""

# Input that zlib gets at a time. It gives back what it has not used, which is copied each time.
_INPUT = 4 * 1024
_TAIL = b"\x00\x00\xff\xff"


class Inflater:
    """Inflates what one client sends.

    Args:
        extension: what was agreed on about compression.
    """

    __slots__ = (
        "_decoder",
        "_ends",
        "_forgets",
        "_input",
        "_place",
        "_rest",
        "_window_bits",
        "is_busy",
    )

    def __init__(self, extension: PerMessageDeflate) -> None:
        self._window_bits = extension.remote_max_window_bits
        self._forgets = extension.remote_no_context_takeover
        self._decoder: Any = None
        self._input = b""
        self._place = 0
        self._rest = b""
        self._ends = False
        self.is_busy = False
        """Whether a part of what was fed has not been inflated."""

    def feed(self, payload: bytes, *, ends: bool) -> None:
        """Take the payload of a frame. Nothing may be left of the one before."""
        if self._decoder is None:
            self._decoder = zlib.decompressobj(wbits=-self._window_bits)
        self._input = payload + _TAIL if ends else payload
        self._place = 0
        self._ends = ends
        self.is_busy = True

    def inflate(self) -> bytes:
        """Inflate a piece of what was fed.

        Returns:
            At most `INFLATED_PIECE` bytes. There may be none, even while `is_busy`.

        Raises:
            zlib.error: the data is damaged.
        """
        data = self._rest
        if not data:
            place = self._place
            data = self._input[place : place + _INPUT]
            self._place = place + len(data)
        piece: bytes = self._decoder.decompress(data, INFLATED_PIECE)
        self._rest = self._decoder.unconsumed_tail
        # A full piece may have more behind it, though all input is used.
        if not self._rest and self._place >= len(self._input) and len(piece) < INFLATED_PIECE:
            self.is_busy = False
            self._input = b""
            if self._ends and self._forgets:
                self._decoder = None
        return piece
