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

import logging
import struct
import sys
import zlib
from collections.abc import Callable
from functools import cache
from typing import TypeAlias

from attrs import frozen
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import CloseCode, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from channels.messages import BinaryFrame
from channels.wire.deflate import Inflater

__all__ = [
    "BINARY_MESSAGE",
    "DEFAULT_MAX_MESSAGE_SIZE",
    "TEXT_MESSAGE",
    "ControlReply",
    "Fragments",
    "MessageTooBig",
    "PeerClosed",
    "WebSocketEvent",
    "WebSocketProtocol",
    "close_frame",
    "deflated_frames",
    "frame",
    "frame_header",
    "may_be_received",
]

TEXT_MESSAGE, BINARY_MESSAGE = 0x81, 0x82
"""The first bytes of frames that are a whole message."""

_FIN = 0x80
_COMPRESSED = 0x40
_BEGINNINGS = frozenset((0x01, 0x02, TEXT_MESSAGE, BINARY_MESSAGE))
_COMPRESSED_BEGINNINGS = frozenset(first | _COMPRESSED for first in _BEGINNINGS)
_CONTINUATIONS = frozenset((0x00, _FIN))


DEFAULT_MAX_MESSAGE_SIZE = 10_000_000
"""Bytes of a message. What Phoenix allows by default (`max_frame_size` of websock_adapter 0.6)."""

_CLOSE = 0x88
_EMPTY_CONTINUATION = 0x00
_PING = 0x89
_PONG = 0x8A
_OPCODES = frozenset(map(int, Opcode))
_WHOLE_MESSAGE = frozenset((TEXT_MESSAGE, BINARY_MESSAGE))
_MAX_CONTROL = 125
# Frames that take as long as a piece of inflated data.
_INFLATION = 32
_MAX_REASON = 123
# Shorter messages are not compressed.
_MIN_COMPRESSED = 128
_COMPRESSED_TEXT, _COMPRESSED_BINARY = 0xC1, 0xC2
# Bytes of 00 00 FF FF, which a sender leaves out (RFC 7692, section 7.2.1).
_SYNC_TAIL = 4
_header_16 = struct.Struct("!BBH").pack
_header_64 = struct.Struct("!BBQ").pack
_HEADERS = [bytes((TEXT_MESSAGE, size)) for size in range(126)]

# The library logs every closed connection at level INFO, which is not what a server's operator
# means by INFO. What it says about itself failing still comes through.
_library_logger = logging.getLogger("channels.wire.websocket.library")
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
        return frame_header(BINARY_MESSAGE, size) + data
    if size < 126:
        return _HEADERS[size] + data
    return frame_header(TEXT_MESSAGE, size) + data


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


@cache
def deflated_frames(window_bits: int) -> Callable[[bytes], bytes]:
    """Give the framing of compressed messages, for a `Codec`: the same function each time, for the same window.

    >>> len(deflated_frames(15)(b"x" * 1000)) < 30
    True
    """

    def deflated_frame(data: bytes) -> bytes:
        if len(data) < _MIN_COMPRESSED:
            return frame(data)
        compressor = zlib.compressobj(wbits=-window_bits)
        packed = compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)
        size = len(packed) - _SYNC_TAIL
        if size >= len(data):
            return frame(data)
        first = _COMPRESSED_BINARY if type(data) is BinaryFrame else _COMPRESSED_TEXT
        return frame_header(first, size) + packed[:size]

    return deflated_frame


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
class ControlReply:
    """A frame that has to be written: the pong for a ping. Field: `frame`."""

    frame: bytes


@frozen(kw_only=True)
class PeerClosed:
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


WebSocketEvent: TypeAlias = bytes | ControlReply | PeerClosed
"""What `WebSocketProtocol.receive` answers; a `BinaryFrame` is a kind of `bytes`."""


class WebSocketProtocol:
    """One WebSocket connection, seen by the server, from its upgrade on.

        >>> protocol = WebSocketProtocol()
        >>> protocol.receive(bytes.fromhex("818237fa213d5f93"))
        [b'hi']

    - `max_message_size`: bytes of a message, all its fragments taken together, and inflated;
    - `extension`: what was agreed on about compression, if anything was.

    `receive` never raises, whatever a client sends.
    """

    __slots__ = (
        "_closing",
        "_done",
        "_fragments",
        "_kept",
        "_library",
        "_max",
        "_missing",
        "_partial",
        "_rest",
    )

    def __init__(
        self,
        *,
        max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE,
        extension: PerMessageDeflate | None = None,
    ) -> None:
        self._max = max_message_size
        self._fragments = Fragments(max_message_size, extension)
        self._partial: list[bytes] = []  # the beginning of a frame
        self._kept = 0  # bytes of that
        self._missing = 0  # bytes without which it is no use looking at it again
        self._rest = b""  # what there were no steps left for
        self._library: ServerProtocol | None = None  # made when a frame needs it, which is seldom
        self._closing = False
        self._done = False

    @property
    def held(self) -> int:
        """Bytes that are kept of a message that has not arrived whole."""
        return self._kept + self._fragments.size

    @property
    def has_more(self) -> bool:
        """Whether `receive` stopped because its steps were used up. Call it again, with no data."""
        return bool(self._rest) or (self._fragments.is_busy and not self._done)

    def completes(self, size: int) -> bool:
        """Tell whether `size` more bytes may complete a frame."""
        return size >= self._missing or not self._partial

    def forget(self) -> None:
        """Drop what is kept of a message that has not arrived whole. Nothing may be received after it."""
        self._done = True
        self._partial.clear()
        self._fragments.drop()
        self._kept = 0
        self._rest = b""

    def close(self, code: int, reason: str = "") -> bytes:
        """Begin to close: answers the frame to write.

        From now on messages are dropped, and `receive` only looks out for the peer's own close
        frame, which it reports as `PeerClosed`. Call it once; takes what `close_frame` takes.
        """
        closing = close_frame(code, reason)
        self._closing = True
        return closing

    def receive(self, data: bytes, steps: int = sys.maxsize) -> list[WebSocketEvent]:
        """Take what has arrived, and answer what that means, in order.

        - `data`: cut anywhere;
        - `steps`: how many frames to look at; a piece of a compressed message counts as 32.

        Answers an empty list after `PeerClosed`.
        """
        if self._rest:
            data, self._rest = self._rest + data, b""
        elif self._partial:
            self._partial.append(data)
            self._kept += len(data)
            self._missing -= len(data)
            if self._missing > 0:
                return []
            data = b"".join(self._partial)
            self._partial.clear()
            self._kept = 0
        events: list[WebSocketEvent] = []
        fragments = self._fragments
        start, size = 0, len(data)
        is_short = 6 < size < 132 and size == data[1] - 122 and data[0] == TEXT_MESSAGE
        if is_short and not (fragments.is_open or self._done):
            # Nearly every read is this: a masked text of up to 125 bytes, and nothing behind it.
            self._whole(TEXT_MESSAGE, apply_mask(data[6:], data[2:6]), events)
            return events
        while not self._done:
            is_busy = fragments.is_busy
            if start >= size and not is_busy:
                break
            if not steps:
                self._rest = data[start:]
                break
            if is_busy:
                steps = max(0, steps - _INFLATION)
                self._inflate(events)
            else:
                steps -= 1
                start = self._next_frame(data, start, events)
        return events

    def _next_frame(self, data: bytes, start: int, events: list[WebSocketEvent]) -> int:
        """Take apart the frame that begins at `start`, and answer where the next one begins."""
        size = len(data)
        if size - start < 2:
            return self._wait(data, start, 1)
        first = data[start]
        length = data[start + 1] - 128  # negative for a frame that is not masked
        body = start + 6
        if length >= 126:
            width = 2 if length == 126 else 8
            body += width
            length_end = body - 4
            if length_end > size:
                return self._wait(data, start, length_end - size)
            length = int.from_bytes(data[start + 2 : start + 2 + width], "big")
        fragments = self._fragments
        if not 0 <= length <= fragments.room or first & 0x0F not in _OPCODES:
            # The header alone is against the rules, so there is no waiting for the rest.
            if length > fragments.room < self._max:
                self._too_big(events)  # the library does not know of the fragments before
            else:
                self._leave_to_library(data[start:], events)
            return size
        end = body + length
        if end > size:
            return self._wait(data, start, end - size)
        if first in _WHOLE_MESSAGE and not fragments.is_open:
            self._whole(first, apply_mask(data[body:end], data[body - 4 : body]), events)
        else:
            self._other_frame(first, data[start:end], body - start, events)
        return end

    def _other_frame(
        self, first: int, data: bytes, body: int, events: list[WebSocketEvent]
    ) -> None:
        """Take apart a whole frame, `data`, that is not a message by itself; its payload begins at `body`."""
        fragments = self._fragments
        if first in (_PING, _PONG) and len(data) - body <= _MAX_CONTROL:
            if first == _PING and not self._closing:
                payload = apply_mask(data[body:], data[body - 4 : body])
                events.append(ControlReply(bytes((_PONG, len(payload))) + payload))
        elif first == _CLOSE and len(data) - body <= _MAX_CONTROL:
            self._close_frame(apply_mask(data[body:], data[body - 4 : body]), events)
        elif first == _EMPTY_CONTINUATION and len(data) == body and fragments.is_open:
            # The rules allow it, and it costs its sender next to nothing. Bandit closes on it too.
            self._fail(1008, "an empty continuation", events)
        elif fragments.may_follow(first) or (not fragments.is_open and fragments.may_begin(first)):
            fragments.add(first, apply_mask(data[body:], data[body - 4 : body]))
            if fragments.is_complete:
                self._whole(*fragments.take(), events)
        elif fragments.may_begin(first):
            self._fail(CloseCode.PROTOCOL_ERROR, "expected a continuation frame", events)
        else:
            self._leave_to_library(data, events)

    def _wait(self, data: bytes, start: int, missing: int) -> int:
        rest = data[start:]
        self._partial.append(rest)
        self._kept = len(rest)
        self._missing = missing
        return len(data)

    def _whole(self, first: int, payload: bytes, events: list[WebSocketEvent]) -> None:
        if self._closing:
            return
        if first == BINARY_MESSAGE:
            events.append(BinaryFrame(payload))
        elif payload.isascii() or _is_utf8(payload):
            events.append(payload)
        else:
            self._fail(1007, "", events)

    def _fail(self, code: int, reason: str, events: list[WebSocketEvent]) -> None:
        self._done = True
        last = b"" if self._closing else close_frame(code, reason)
        events.append(PeerClosed(code=code, reason=reason, by_peer=False, frame=last))

    def _too_big(self, events: list[WebSocketEvent]) -> None:
        self._fail(CloseCode.MESSAGE_TOO_BIG, f"a message of more than {self._max} bytes", events)

    def _inflate(self, events: list[WebSocketEvent]) -> None:
        fragments = self._fragments
        try:
            fragments.inflate()
        except zlib.error:
            self._fail(CloseCode.PROTOCOL_ERROR, "decompression failed", events)
        except MessageTooBig:
            self._too_big(events)
        else:
            if fragments.is_complete:
                self._whole(*fragments.take(), events)

    # All other frames

    def _leave_to_library(self, data: bytes, events: list[WebSocketEvent]) -> None:
        """Have one whole frame, or the beginning of a wrong one, looked at in general."""
        library = self._library
        if library is None:
            library = self._library = ServerProtocol(
                state=State.OPEN, max_size=self._max, logger=_library_logger
            )
        library.receive_data(data)
        if library.parser_exc is not None and not self._done:
            failure = library.close_sent
            assert failure is not None  # for the end of the stream is never reported to it
            self._fail(failure.code, failure.reason, events)

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
        events.append(PeerClosed(code=code, reason=reason, by_peer=True, frame=last))


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


try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform for which the library was not compiled
    from websockets.utils import apply_mask
