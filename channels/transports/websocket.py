"""WebSocket frames, both ways, without I/O: bytes in, events out.

*pure*. `WebSocketProtocol` is one connection after its upgrade (see
`channels.transports.handshake`), `frame` and `close_frame` build what a server sends.

    for event in protocol.receive(data):
        bytes         a text message, UTF-8, reassembled from its fragments
        BinaryFrame   a binary message, likewise
        Answer        write `event.frame`: the pong for a ping
        Closed        write `event.frame` as the last one and be done: the peer has closed, or has
                      broken the rules. Always the last event; `receive` answers nothing after it

Nearly everything that a channels client sends is one whole, masked, unfragmented data frame. Those
are taken apart here, which takes a tenth of the time of doing it in general. So are close frames,
of which the library takes none in the middle of a fragmented message. Every other frame,
with its rules, goes to the `websockets` library (`ServerProtocol`), one whole frame at a time; a
test feeds both the same bytes and expects the same.

So does a compressed frame, where that was agreed on (`channels.transports.deflate`): the library
inflates it, and no further than to the size that a message may have. Source: RFC 6455, sections 5
to 7; RFC 7692; close codes as Phoenix under Bandit sends them.
"""

from __future__ import annotations

import logging
import struct
from typing import TypeAlias

from attrs import frozen
from websockets.extensions import Extension
from websockets.frames import CloseCode, Opcode
from websockets.frames import Frame as LibraryFrame
from websockets.protocol import State
from websockets.server import ServerProtocol

from channels.messages import BinaryFrame

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform for which the library was not compiled
    from websockets.utils import apply_mask

__all__ = [
    "DEFAULT_MAX_MESSAGE_SIZE",
    "Answer",
    "Closed",
    "WebSocketEvent",
    "WebSocketProtocol",
    "close_frame",
    "frame",
    "frame_header",
    "may_be_received",
]

DEFAULT_MAX_MESSAGE_SIZE = 10_000_000
"""Bytes of a message. What Phoenix allows by default (`max_frame_size` of websock_adapter 0.6)."""

_TEXT = 0x81
_BINARY = 0x82
_CLOSE = 0x88
_EMPTY_CONTINUATION = 0x00
_OPCODES = frozenset(map(int, Opcode))
_WHOLE_MESSAGE = frozenset((_TEXT, _BINARY))
_MAX_CONTROL = 125
_MAX_REASON = 123
_header_16 = struct.Struct("!BBH").pack
_header_64 = struct.Struct("!BBQ").pack
_HEADERS = [bytes((_TEXT, size)) for size in range(126)]

# The library logs every closed connection at level INFO, which is not what a server's operator
# means by INFO. What it says about itself failing still comes through.
_library_logger = logging.getLogger("channels.transports.websocket.library")
_library_logger.setLevel(logging.WARNING)


def frame(data: bytes) -> bytes:
    r"""Build the one WebSocket frame that carries `data` from server to client.

        >>> frame(b"hi")
        b'\x81\x02hi'
        >>> frame(BinaryFrame(b"hi"))
        b'\x82\x02hi'

    - `data`: UTF-8 for a text message, or a `BinaryFrame` for a binary one.

    Returns the whole frame, unmasked and not fragmented, as RFC 6455 section 5.2 has it.
    """
    size = len(data)
    if type(data) is BinaryFrame:
        return frame_header(_BINARY, size) + data
    if size < 126:
        return _HEADERS[size] + data
    return frame_header(_TEXT, size) + data


def frame_header(first: int, size: int) -> bytes:
    r"""Build what stands before the payload of a server's frame.

    >>> frame_header(0x82, 300)
    b'\x82~\x01,'
    """
    if size < 126:
        return bytes((first, size))
    if size < 65536:
        return _header_16(first, 126, size)
    return _header_64(first, 127, size)


def close_frame(code: int, reason: str = "") -> bytes:
    r"""Build the close frame that a server sends.

        >>> close_frame(1001)
        b'\x88\x02\x03\xe9'

    - `code`: 1000 to 1014 without 1004 to 1006, or 3000 to 4999 (RFC 6455, section 7.4);
    - `reason`: for people who debug a client. Cut off after 123 bytes, all that a frame holds.

    Raises `ValueError` if the code may not travel in a frame.
    """
    if not (1000 <= code <= 1014 and code not in {1004, 1005, 1006}) and not 3000 <= code <= 4999:
        raise ValueError(
            f"{code} may not be sent as a close code: use one of 1000 to 1003, 1007 to 1014, "
            f"or your own from 4000 to 4999"
        )
    text = reason.encode()[:_MAX_REASON]
    text = text.decode(errors="ignore").encode()  # half a character at the cut would be invalid
    return bytes((_CLOSE, 2 + len(text))) + code.to_bytes(2, "big") + text


@frozen
class Answer:
    """A frame that has to be written: the pong for a ping. Field: `frame`."""

    frame: bytes


@frozen(kw_only=True)
class Closed:
    """The last event of a connection.

    - `code`, `reason`: those that the peer gave (1005 if it gave none), or, if it has broken the
      rules, those that it is told: 1002 protocol error, 1007 text that is not UTF-8, 1008 an empty
      continuation that ends nothing, 1009 a message that is too big;
    - `by_peer`: whether the peer has closed. False if it has broken the rules;
    - `frame`: what to write last; empty if a close frame was sent before.
    """

    code: int
    reason: str
    by_peer: bool
    frame: bytes


WebSocketEvent: TypeAlias = bytes | Answer | Closed
"""What `WebSocketProtocol.receive` answers; a `BinaryFrame` is a kind of `bytes`."""


class WebSocketProtocol:
    """One WebSocket connection, seen by the server, from its upgrade on.

        >>> protocol = WebSocketProtocol()
        >>> protocol.receive(bytes.fromhex("818237fa213d5f93"))
        [b'hi']

    - `max_message_size`: bytes of a message, all its fragments taken together, and inflated;
    - `extension`: what inflates messages, if that was agreed on.

    `receive` never raises, whatever a client sends.
    """

    __slots__ = (
        "_closing",
        "_done",
        "_extension",
        "_fragments",
        "_is_text",
        "_kept",
        "_library",
        "_max",
        "_missing",
        "_partial",
        "_room",
    )

    def __init__(
        self,
        *,
        max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE,
        extension: Extension | None = None,
    ) -> None:
        self._max = max_message_size
        self._extension = extension
        self._room = max_message_size  # what the fragments so far leave of that
        self._partial: list[bytes] = []  # the beginning of a frame
        self._kept = 0  # bytes of that
        self._missing = 0  # bytes without which it is no use looking at it again
        self._fragments: bytearray | None = None  # of a message that has not ended
        self._is_text = False  # whether that is a text message
        self._library: ServerProtocol | None = None  # made when a frame needs it, which is seldom
        self._closing = False
        self._done = False

    @property
    def held(self) -> int:
        """Bytes that are kept of a message that has not arrived whole."""
        return self._kept + len(self._fragments or b"")

    def forget(self) -> None:
        """Drop what is kept of a message that has not arrived whole. Nothing may be received after it."""
        self._done = True
        self._partial.clear()
        self._fragments = None
        self._kept = 0

    def close(self, code: int, reason: str = "") -> bytes:
        """Begin to close: answers the frame to write.

        From now on messages are dropped, and `receive` only looks out for the peer's own close
        frame, which it reports as `Closed`. Call it once; takes what `close_frame` takes.
        """
        closing = close_frame(code, reason)
        self._closing = True
        return closing

    def receive(self, data: bytes) -> list[WebSocketEvent]:
        """Take what has arrived, and answer what that means, in order.

        `data` is cut anywhere. Answers an empty list after `Closed`.
        """
        if self._partial:
            self._partial.append(data)
            self._kept += len(data)
            self._missing -= len(data)
            if self._missing > 0:
                return []
            data = b"".join(self._partial)
            self._partial.clear()
            self._kept = 0
        events: list[WebSocketEvent] = []
        start, size = 0, len(data)
        while start < size and not self._done:
            if size - start < 2:
                self._wait(data[start:], 1)
                break
            first = data[start]
            length = data[start + 1] - 128  # negative for a frame that is not masked
            body = start + 6
            if length >= 126:
                width = 2 if length == 126 else 8
                body += width
                length_end = body - 4
                if length_end > size:
                    self._wait(data[start:], length_end - size)
                    break
                length = int.from_bytes(data[start + 2 : start + 2 + width], "big")
            if not 0 <= length <= self._room or first & 0x0F not in _OPCODES:
                # The header alone is against the rules, so there is no waiting for the rest.
                self._leave_to_library(data[start:], events)
                break
            end = body + length
            if end > size:
                self._wait(data[start:], end - size)
                break
            if first in _WHOLE_MESSAGE and self._fragments is None:
                self._whole(first, apply_mask(data[body:end], data[body - 4 : body]), events)
            elif first == _CLOSE and length <= _MAX_CONTROL:
                self._close_frame(apply_mask(data[body:end], data[body - 4 : body]), events)
            elif first == _EMPTY_CONTINUATION and not length and self._fragments is not None:
                # The rules allow it, and it costs its sender next to nothing. Bandit closes on it too.
                self._fail(1008, "an empty continuation", events)
            else:
                self._leave_to_library(data[start:end], events)
            start = end
        return events

    def _wait(self, data: bytes, missing: int) -> None:
        self._partial.append(data)
        self._kept = len(data)
        self._missing = missing

    def _whole(self, first: int, payload: bytes, events: list[WebSocketEvent]) -> None:
        if self._closing:
            return
        if first == _BINARY:
            events.append(BinaryFrame(payload))
        elif payload.isascii() or _is_utf8(payload):
            events.append(payload)
        else:
            self._fail(1007, "", events)

    def _fail(self, code: int, reason: str, events: list[WebSocketEvent]) -> None:
        self._done = True
        last = b"" if self._closing else close_frame(code, reason)
        events.append(Closed(code=code, reason=reason, by_peer=False, frame=last))

    def _leave_to_library(self, data: bytes, events: list[WebSocketEvent]) -> None:
        """Have one whole frame, or the beginning of a wrong one, looked at in general."""
        library = self._library
        if library is None:
            library = self._library = ServerProtocol(
                state=State.OPEN, max_size=self._max, logger=_library_logger
            )
            if self._extension is not None:
                library.extensions = [self._extension]
        library.receive_data(data)
        for event in library.events_received():
            assert isinstance(event, LibraryFrame)  # requests come before the upgrade only
            self._take_frame(event, b"".join(library.data_to_send()), events)
        if library.parser_exc is not None and not self._done:
            failure = library.close_sent
            assert failure is not None  # for the end of the stream is never reported to it
            self._fail(failure.code, failure.reason, events)

    def _take_frame(
        self, library_frame: LibraryFrame, answer: bytes, events: list[WebSocketEvent]
    ) -> None:
        opcode = library_frame.opcode
        if opcode is Opcode.PING:
            if not self._closing:
                events.append(Answer(answer))
        elif opcode is not Opcode.PONG:
            self._take_fragment(library_frame, events)

    def _close_frame(self, payload: bytes, events: list[WebSocketEvent]) -> None:
        code, reason = CloseCode.NO_STATUS_RCVD.value, ""
        if payload:
            code = int.from_bytes(payload[:2], "big")
            try:
                reason = payload[2:].decode()
            except UnicodeDecodeError:
                self._fail(1002, "the reason of a close is not UTF-8", events)
                return
            # A client that answers our own close repeats our code, whichever that is.
            if len(payload) < 2 or not (self._closing or may_be_received(code)):
                self._fail(1002, "a close with a code that may not be sent", events)
                return
        self._done = True
        # Always 1000, whatever the client's own code: this is what Phoenix answers under Bandit.
        last = b"" if self._closing else close_frame(CloseCode.NORMAL_CLOSURE)
        events.append(Closed(code=code, reason=reason, by_peer=True, frame=last))

    def _take_fragment(self, part: LibraryFrame, events: list[WebSocketEvent]) -> None:
        if self._fragments is None:
            self._fragments = bytearray()
            self._is_text = part.opcode is Opcode.TEXT
        self._fragments += part.data
        self._room -= len(part.data)
        if part.fin:
            whole, self._fragments = bytes(self._fragments), None
            self._room = self._max
            self._whole(_TEXT if self._is_text else _BINARY, whole, events)


def may_be_received(code: int) -> bool:
    """Tell whether a client may close with a code.

    As in Bandit: 1012 to 1014 are for servers, and the private codes have no end.
    """
    return 1000 <= code <= 1003 or 1007 <= code <= 1011 or code >= 3000


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
