"""Compressed messages: what is agreed on, and the frames that a server sends.

*pure*. Incoming messages are inflated by the `websockets` library, never beyond what a message may have (see
`channels.wire.websocket`). Outgoing ones are compressed each by itself: a server that says
`server_no_context_takeover` may send the same compressed frame to everybody, so a broadcast is compressed once for all
clients with the same window, and no connection keeps a compressor. It costs some of the ratio: messages that resemble
each other are not compressed against each other.

Short messages, and those that compression would make longer, are sent as they are, which RFC 7692 leaves to the sender.

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
    """What was agreed on.

    - `answer`: the value of the header `Sec-WebSocket-Extensions`;
    - `extension`: inflates what one client sends; it may remember earlier messages, so it belongs to one connection;
    - `window_bits`: of what the server sends, 9 to 15.
    """

    answer: str
    extension: PerMessageDeflate
    window_bits: int


def agree_on_deflate(offered: str | None) -> Deflate | None:
    """Take the first offer of a client that can be met; None if there is none.

        >>> agree_on_deflate("permessage-deflate; client_max_window_bits").answer
        'permessage-deflate; server_no_context_takeover'

    Args:
        offered: the header `Sec-WebSocket-Extensions`, None if it was not sent.

    What a client asks of the server is granted: no memory of earlier messages, always, and a window from 9 bits. What
    it offers for its own side is agreed to.

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
                # A parameter that nobody knows, or a window of 8 bits, which zlib cannot do. The next may be simpler.
                continue
            return Deflate(
                answer=build_extension([(name, answer)]),
                extension=extension,
                window_bits=extension.local_max_window_bits,
            )
    return None


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
