"""Compressed messages: the negotiation of the extension, and the inflation of messages from clients.

*pure*. The server always negotiates `server_no_context_takeover`. It compresses each message separately, so all clients
with the same window share one compressed frame, and no connection keeps a compressor. The price is that the compression
cannot use the similarity between messages. `channels.wire.websocket` builds the frames.

Source: RFC 7692.
"""

from __future__ import annotations

import zlib
from typing import Any

import msgspec
from websockets.exceptions import InvalidHeader, NegotiationError
from websockets.extensions.permessage_deflate import (
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.headers import build_extension, parse_extension

__all__ = ["INFLATED_PIECE", "Deflate", "Inflater", "InvalidOffer", "agree_on_deflate"]

_FACTORY = ServerPerMessageDeflateFactory(server_no_context_takeover=True)


class InvalidOffer(ValueError):
    """A client sent a malformed header `Sec-WebSocket-Extensions`."""


class Deflate(msgspec.Struct, frozen=True, kw_only=True):
    """The negotiated compression.

    Attributes:
        answer: the value of the header `Sec-WebSocket-Extensions`.
        extension: the decompressor of one connection. Its state may depend on earlier messages.
        window_bits: the size of the window for messages from the server, 9 to 15 bits.
    """

    answer: str
    extension: PerMessageDeflate
    window_bits: int


def agree_on_deflate(offered: str | None) -> Deflate | None:
    """Accept the first supported offer of a client. Return None if the server supports none of the offers.

        >>> agree_on_deflate("permessage-deflate; client_max_window_bits").answer
        'permessage-deflate; server_no_context_takeover'

    The server agrees to a smaller window for its own messages, from 9 bits. It never uses earlier messages for
    compression. It accepts the parameters that the client offers for the client's own messages.

    Args:
        offered: the header `Sec-WebSocket-Extensions`, or None.

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
"""The maximum bytes that a call of `inflate` returns."""

# The input bytes for one call of zlib. Few, because zlib copies the input that it has not used.
_INPUT = 4 * 1024
_TAIL = b"\x00\x00\xff\xff"


class Inflater:
    """Inflate the messages of one client, piece by piece.

        inflater.feed(payload, ends=True)       # a frame; `ends` if it is the last of its message
        while inflater.is_busy:
            message += inflater.inflate()       # some bytes, perhaps none

    A kilobyte can inflate to a megabyte, and ten megabytes take a tenth of a second. So `inflate` returns a bounded
    number of bytes, and the next call continues. Source: RFC 7692, section 7.2.2.

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
        """True if `inflate` has not used all input."""

    def feed(self, payload: bytes, *, ends: bool) -> None:
        """Take the payload of a frame. `is_busy` must be False."""
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
        # If the piece is full, zlib may still hold more output, even after it has used all input.
        if not self._rest and self._place >= len(self._input) and len(piece) < INFLATED_PIECE:
            self.is_busy = False
            self._input = b""
            if self._ends and self._forgets:
                self._decoder = None
        return piece
