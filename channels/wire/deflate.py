r"""Compressed messages: what is agreed on, and the frames that a server sends.

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
from collections.abc import Callable
from functools import cache

from attrs import frozen
from websockets.exceptions import InvalidHeader, NegotiationError
from websockets.extensions.permessage_deflate import (
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.headers import build_extension, parse_extension

from channels.messages import BinaryFrame
from channels.wire.websocket import frame, frame_header

__all__ = ["Deflate", "InvalidOffer", "agree_on_deflate", "deflated_frames"]

_TEXT, _BINARY = 0xC1, 0xC2
_TAIL = b"\x00\x00\xff\xff"
_MIN_SIZE = 128
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


@cache
def deflated_frames(window_bits: int) -> Callable[[bytes], bytes]:
    """Give the framing of compressed messages, for a `Codec`: the same function each time, for the same window.

    >>> len(deflated_frames(15)(b"x" * 1000)) < 30
    True
    """

    def deflated_frame(data: bytes) -> bytes:
        if len(data) < _MIN_SIZE:
            return frame(data)
        compressor = zlib.compressobj(wbits=-window_bits)
        packed = compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)
        size = len(packed) - len(_TAIL)
        if size >= len(data):
            return frame(data)
        first = _BINARY if type(data) is BinaryFrame else _TEXT
        return frame_header(first, size) + packed[:size]

    return deflated_frame
