"""Compressed messages: the negotiation of the extension, and the inflation of what a client sends.

*pure*. The server always negotiates `server_no_context_takeover`: it compresses each message on its own, so one
compressed frame serves all clients with the same window, and no connection keeps a compressor. This costs some
compression: similar messages are not compressed against each other. `channels.wire.websocket` builds these frames.

Source: RFC 7692.
"""

from __future__ import annotations

import zlib
from typing import Any

from attrs import frozen
from websockets.exceptions import InvalidHeader, NegotiationError
from websockets.extensions.permessage_deflate import (
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.headers import build_extension, parse_extension

__all__ = ["INFLATED_PIECE", "Deflate", "Inflater", "InvalidOffer", "agree_on_deflate"]

_FACTORY = ServerPerMessageDeflateFactory(server_no_context_takeover=True)


class InvalidOffer(ValueError):
    """The header `Sec-WebSocket-Extensions` is malformed. The client is at fault; the text says where."""


@frozen(kw_only=True)
class Deflate:
    """The negotiated compression.

    Attributes:
        answer: the value of the header `Sec-WebSocket-Extensions`.
        extension: inflates what one client sends. It may keep earlier messages, so it belongs to one connection.
        window_bits: of what the server sends, 9 to 15.
    """

    answer: str
    extension: PerMessageDeflate
    window_bits: int


def agree_on_deflate(offered: str | None) -> Deflate | None:
    """Accept the first offer of a client that the server supports; return None if there is none.

        >>> agree_on_deflate("permessage-deflate; client_max_window_bits").answer
        'permessage-deflate; server_no_context_takeover'

    The server grants what the client asks of it: no memory of earlier messages, always, and a window of 9 bits or more.
    It accepts what the client offers for its own side.

    Args:
        offered: the header `Sec-WebSocket-Extensions`, or None if it was not sent.

    Raises:
        InvalidOffer: the header is malformed.
    """
    if offered is None:
        return None
    try:
        offers = parse_extension(offered)
    except InvalidHeader as error:
        raise InvalidOffer(f"'sec-websocket-extensions' header is malformed: {error}") from None
    for name, parameters in offers:
        if name == _FACTORY.name:
            try:
                answer, extension = _FACTORY.process_request_params(parameters, [])
            except NegotiationError:
                # An unknown parameter, or a window of 8 bits, which zlib does not support. Try the next offer.
                continue
            return Deflate(
                answer=build_extension([(name, answer)]),
                extension=extension,
                window_bits=extension.local_max_window_bits,
            )
    return None


INFLATED_PIECE = 16 * 1024
"""The most bytes that one call of `inflate` returns."""

# Input for one call of zlib, which returns a copy of what it has not used.
_INPUT = 4 * 1024
_TAIL = b"\x00\x00\xff\xff"


class Inflater:
    """Inflate the messages of one client, piece by piece.

        inflater.feed(payload, ends=True)       # a frame; `ends` if it is the last of its message
        while inflater.is_busy:
            message += inflater.inflate()       # some bytes, perhaps none

    A kilobyte can inflate to a megabyte, and ten megabytes take a tenth of a second. So `inflate` returns after a
    bounded number of bytes, and continues there in the next call. Source: RFC 7692, section 7.2.2.

    Args:
        extension: the negotiated compression.
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
        """True if some of the input has not been inflated."""

    def feed(self, payload: bytes, *, ends: bool) -> None:
        """Take the payload of a frame. Nothing of the previous frame may be left."""
        if self._decoder is None:
            self._decoder = zlib.decompressobj(wbits=-self._window_bits)
        self._input = payload + _TAIL if ends else payload
        self._place = 0
        self._ends = ends
        self.is_busy = True

    def inflate(self) -> bytes:
        """Inflate a piece of the input.

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
        # After a full piece zlib may hold more, though all input is used.
        if not self._rest and self._place >= len(self._input) and len(piece) < INFLATED_PIECE:
            self.is_busy = False
            self._input = b""
            if self._ends and self._forgets:
                self._decoder = None
        return piece
