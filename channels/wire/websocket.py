"""A parser for the WebSocket frames of clients, and builders for the frames of the server.

*pure*. `WebSocketProtocol` is one connection after its upgrade (see `channels.wire.handshake`). `frame`,
`deflated_frames` and `close_frame` build frames of the server.

    for event in protocol.receive(data):
        bytes         a text message in UTF-8, joined from its fragments
        BinaryFrame   a binary message, joined from its fragments
        ControlReply  the client sent a ping; write `event.frame`, the pong
        PeerClosed    the last event: the client closed, or violated the protocol; write `event.frame` as the last frame

This module parses valid frames itself, ten times as fast as a general parser. It passes an invalid frame to the
`websockets` library (`ServerProtocol`). A test feeds both parsers the same bytes and expects the same events.

`channels.wire.fragments` joins a message of several frames. It inflates a compressed message in pieces, up to the
maximum size of a message.

A client may send ten thousand frames in one read, or a message that inflates to ten megabytes. So `receive` takes a
maximum number of steps. If `has_more` is True afterwards, call `receive` again.

Source: RFC 6455, sections 5 to 7; RFC 7692; close codes as Phoenix under Bandit sends them.
"""

from __future__ import annotations

import logging
import struct
import sys
import zlib
from collections.abc import Callable
from functools import cache
from typing import TypeAlias

import msgspec
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import CloseCode, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from channels.messages import BinaryFrame
from channels.wire.fragments import (
    BINARY_MESSAGE,
    PIECE_OVERHEAD,
    TEXT_MESSAGE,
    Fragments,
    MessageTooBig,
    no_fragments,
)

__all__ = [
    "DEFAULT_MAX_MESSAGE_SIZE",
    "SHORT_MESSAGE",
    "ControlReply",
    "PeerClosed",
    "WebSocketEvent",
    "WebSocketProtocol",
    "close_frame",
    "deflated_frames",
    "frame",
    "frame_header",
    "may_be_received",
]


DEFAULT_MAX_MESSAGE_SIZE = 10_000_000
"""The default maximum bytes of a message, as in Phoenix (`max_frame_size` of websock_adapter 0.6)."""

SHORT_MESSAGE = 512
"""The maximum bytes of a message that `WebSocketProtocol.receive_short` returns."""

_CLOSE = 0x88
_EMPTY_CONTINUATION = 0x00
_PING = 0x89
_PONG = 0x8A
_OPCODES = frozenset(map(int, Opcode))
_WHOLE_MESSAGE = frozenset((TEXT_MESSAGE, BINARY_MESSAGE))
_MAX_CONTROL = 125
# The longest frame of a client whose length fits into the second byte: a header of six bytes, and 125 bytes.
_MAX_COMMON = 131
# The number of frames that take as long as one call of `inflate`.
_INFLATION = 32
_MAX_REASON = 123
# Messages with fewer bytes are not compressed, because compression does not make them smaller.
_MIN_COMPRESSED = 128
_COMPRESSED_TEXT, _COMPRESSED_BINARY = 0xC1, 0xC2
# The length of 00 00 FF FF, which a sender leaves out (RFC 7692, section 7.2.1).
_SYNC_TAIL = 4
_header_16 = struct.Struct("!BBH").pack
_header_64 = struct.Struct("!BBQ").pack
_HEADERS = [bytes((TEXT_MESSAGE, size)) for size in range(126)]

# The library logs each closed connection at level INFO, which is too much. So log only its warnings and errors.
_library_logger = logging.getLogger("channels.wire.websocket.library")
_library_logger.setLevel(logging.WARNING)


def frame(data: bytes) -> bytes:
    r"""Build the server's WebSocket frame for a message.

        >>> frame(b"hi")
        b'\x81\x02hi'
        >>> frame(BinaryFrame(b"hi"))
        b'\x82\x02hi'

    Args:
        data: UTF-8 for a text message, or a `BinaryFrame` for a binary one.

    Returns:
        The whole frame, unmasked and not fragmented (RFC 6455, section 5.2).
    """
    size = len(data)
    if type(data) is BinaryFrame:
        return frame_header(BINARY_MESSAGE, size) + data
    if size < 126:
        return _HEADERS[size] + data
    return frame_header(TEXT_MESSAGE, size) + data


def _short_messages(data: bytes, frames: int, max_size: int) -> tuple[list[bytes], int]:
    """Return the messages at the beginning of `data` that are whole and short, and the end of the last one.

    Most data consists of such messages, so this loop calls few functions.
    """
    max_size = min(max_size, SHORT_MESSAGE)
    messages: list[bytes] = []
    start, size = 0, len(data)
    for _ in range(frames):
        body = start + 6
        if body > size:
            break
        length = data[start + 1] - 128  # negative if the mask bit is not set
        if length > 125:
            if length != 126:
                break
            length = data[start + 2] << 8 | data[start + 3]
            body += 2
        end = body + length
        if not 0 <= length <= max_size or end > size:
            break
        first = data[start]
        if first not in _WHOLE_MESSAGE:
            break
        payload = apply_mask(data[body:end], data[body - 4 : body])
        if first == BINARY_MESSAGE:
            payload = BinaryFrame(payload)
        elif not (payload.isascii() or _is_utf8(payload)):
            break
        messages.append(payload)
        start = end
    return messages, start


def frame_header(first: int, size: int) -> bytes:
    r"""Build the header of a server's frame.

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
    """Return the framing of a `Codec` for compressed messages. Calls with the same window return the same function.

    >>> len(deflated_frames(15)(b"x" * 1000)) < 30
    True

    The function compresses each message separately, so all clients with the same window share the frames of a
    broadcast. It does not compress short messages, or messages that would become longer, which RFC 7692 allows.
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
    r"""Build the close frame of a server.

        >>> close_frame(1001)
        b'\x88\x02\x03\xe9'

    Args:
        code: 1000 to 1014 without 1004 to 1006, or 3000 to 4999 (RFC 6455, section 7.4).
        reason: a text for people who debug a client. This cuts it to 123 bytes, the maximum of a close frame.

    Raises:
        ValueError: a close frame must not contain this code.
    """
    if not (1000 <= code <= 1014 and code not in {1004, 1005, 1006}) and not 3000 <= code <= 4999:
        raise ValueError(
            f"{code} is not valid as a close code; use 1000 to 1003, 1007 to 1014, or your own code from 4000 to 4999"
        )
    text = reason.encode()[:_MAX_REASON]
    text = text.decode(errors="ignore").encode()  # drop half a character at the cut
    return bytes((_CLOSE, 2 + len(text))) + code.to_bytes(2, "big") + text


class ControlReply(msgspec.Struct, frozen=True):
    """A reply to a control frame, the pong for a ping.

    Attributes:
        frame: the frame.
    """

    frame: bytes


class PeerClosed(msgspec.Struct, frozen=True, kw_only=True):
    """The last event of a connection.

    Attributes:
        code: the code that the peer sent; 1005 if it sent none. If the peer violated the protocol, this is 1002 for a
            protocol error, 1007 for text that is not UTF-8, 1008 for an empty continuation that does not end the
            message, or 1009 for a message that is too big.
        reason: the text for that code.
        by_peer: True if the peer closed, False if it violated the protocol.
        frame: the last frame to write. It is empty if the server has already sent a close frame.
    """

    code: int
    reason: str
    by_peer: bool
    frame: bytes


WebSocketEvent: TypeAlias = bytes | ControlReply | PeerClosed
"""A result of `WebSocketProtocol.receive`. A `BinaryFrame` is a subclass of `bytes`."""


class WebSocketProtocol:
    """The server side of one WebSocket connection after its upgrade.

        >>> protocol = WebSocketProtocol()
        >>> protocol.receive(bytes.fromhex("818237fa213d5f93"))
        [b'hi']

    Args:
        max_message_size: the maximum bytes of a message, all fragments together, after inflation.
        extension: the negotiated compression, if any.
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
        # Most clients never send a fragment. Their connections share one object, to save memory.
        self._fragments = (
            no_fragments(max_message_size)
            if extension is None
            else Fragments(max_message_size, extension)
        )
        self._partial: list[bytes] | None = None  # the beginning of a frame
        self._kept = 0  # the bytes in _partial, and the overhead of its pieces
        self._missing = 0  # bytes needed before the frame can be parsed
        self._rest = b""  # data that `receive` had no steps left to parse
        self._library: ServerProtocol | None = None  # created when a frame needs it, which is rare
        self._closing = False
        self._done = False

    @property
    def held(self) -> int:
        """The bytes of memory that this needs for an incomplete message."""
        return self._kept + self._fragments.size

    @property
    def has_more(self) -> bool:
        """True if `receive` used up its steps. Then call `receive` again, with empty data."""
        return bool(self._rest) or (self._fragments.is_busy and not self._done)

    def completes(self, size: int) -> bool:
        """Return True if the next `size` bytes may complete a frame."""
        return size >= self._missing or self._partial is None

    def forget(self) -> None:
        """Drop an incomplete message. Do not call `receive` after this."""
        self._done = True
        self._partial = None
        self._fragments.drop()
        self._kept = 0
        self._rest = b""

    def close(self, code: int, reason: str = "") -> bytes:
        """Start to close, and return the frame to write.

        After this, `receive` drops messages, and reports only the close frame of the peer, as `PeerClosed`. Call this
        once. It takes the same arguments as `close_frame`.
        """
        closing = close_frame(code, reason)
        self._closing = True
        return closing

    def receive(self, data: bytes, steps: int = sys.maxsize) -> list[WebSocketEvent]:
        """Parse bytes from the client, and return their events in order. Never raises.

        Args:
            data: the next bytes.
            steps: the maximum number of frames to parse. A piece of a compressed message counts as 32.

        Returns:
            The events; an empty list after `PeerClosed`.
        """
        if self._rest:
            data, self._rest = self._rest + data, b""
        elif self._partial is not None:
            self._partial.append(data)
            self._kept += len(data) + PIECE_OVERHEAD
            self._missing -= len(data)
            if self._missing > 0:
                return []
            data = b"".join(self._partial)
            self._partial = None
            self._kept = 0
        events: list[WebSocketEvent] = []
        fragments = self._fragments
        start, size = 0, len(data)
        if not (fragments.is_open or self._closing or self._done):
            messages, start = _short_messages(data, steps, self._max)
            events += messages
            steps -= len(messages)
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

    def receive_short(self, data: bytes, frames: int) -> list[bytes] | None:
        """Parse bytes that are nothing but whole short messages. This is faster than `receive`. Never raises.

        Args:
            data: the next bytes; at least one.
            frames: the maximum number of messages.

        Returns:
            The messages, each of at most `SHORT_MESSAGE` bytes. None if the bytes are anything else, if they continue
            a message, or after the end of the connection. Then nothing has changed, and `receive` takes the same bytes.
        """
        if (
            self._partial is not None
            or self._rest
            or self._fragments.is_open
            or self._closing
            or self._done
        ):
            return None
        size = len(data)
        if 6 <= size <= _MAX_COMMON and data[0] == TEXT_MESSAGE and data[1] == size + 122:
            # One text whose length fits into the second byte: 128 for the mask, plus the size without the header.
            payload = apply_mask(data[6:], data[2:6])
            is_valid = (payload.isascii() or _is_utf8(payload)) and size - 6 <= self._max
            return [payload] if is_valid else None
        messages, end = _short_messages(data, frames, self._max)
        return messages if end == size else None

    def _next_frame(self, data: bytes, start: int, events: list[WebSocketEvent]) -> int:
        """Parse the frame that begins at `start`, and return the start of the next one."""
        size = len(data)
        if size - start < 2:
            return self._wait(data, start, 1)
        first = data[start]
        length = data[start + 1] - 128  # negative if the mask bit is not set
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
            # The header is invalid, so do not wait for the rest of the frame.
            if length > fragments.room < self._max:
                self._too_big(events)  # the library does not know the earlier fragments
            else:
                self._leave_to_library(data[start:], events)
            return size
        end = body + length
        if end > size:
            return self._wait(data, start, end - size)
        if first in _WHOLE_MESSAGE and not fragments.is_open:
            # A view, because copying ten megabytes takes milliseconds.
            masked = data[body:end] if length < 65536 else memoryview(data)[body:end]
            self._whole(first, apply_mask(masked, data[body - 4 : body]), events)
        else:
            self._other_frame(first, data[start:end], body - start, events)
        return end

    def _other_frame(
        self, first: int, data: bytes, body: int, events: list[WebSocketEvent]
    ) -> None:
        """Parse a frame that is not a whole message. Its payload begins at `body`."""
        fragments = self._fragments
        if first in (_PING, _PONG) and len(data) - body <= _MAX_CONTROL:
            if first == _PING and not self._closing:
                payload = apply_mask(data[body:], data[body - 4 : body])
                events.append(ControlReply(bytes((_PONG, len(payload))) + payload))
        elif first == _CLOSE and len(data) - body <= _MAX_CONTROL:
            self._close_frame(apply_mask(data[body:], data[body - 4 : body]), events)
        elif first == _EMPTY_CONTINUATION and len(data) == body and fragments.is_open:
            # The RFC allows an empty continuation. But it costs a client almost nothing, and causes work. Bandit also
            # closes the connection.
            self._fail(1008, "an empty continuation", events)
        elif fragments.may_follow(first) or (not fragments.is_open and fragments.may_begin(first)):
            if fragments is no_fragments(self._max):
                fragments = self._fragments = Fragments(self._max, None)
            fragments.add(first, apply_mask(data[body:], data[body - 4 : body]))
            if fragments.is_complete:
                self._whole(*fragments.take(), events)
        elif fragments.may_begin(first):
            self._fail(CloseCode.PROTOCOL_ERROR, "expected a continuation frame", events)
        else:
            self._leave_to_library(data, events)

    def _wait(self, data: bytes, start: int, missing: int) -> int:
        rest = data[start:]
        self._partial = [rest]
        self._kept = len(rest) + PIECE_OVERHEAD
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
        last = b"" if self._closing else close_frame(code)  # without the reason, as in Phoenix
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

    # Control frames, and invalid frames

    def _leave_to_library(self, data: bytes, events: list[WebSocketEvent]) -> None:
        """Pass a whole frame, or the beginning of an invalid frame, to the library."""
        library = self._library
        if library is None:
            library = self._library = ServerProtocol(
                state=State.OPEN, max_size=self._max, logger=_library_logger
            )
        library.receive_data(data)
        if library.parser_exc is not None and not self._done:
            # The library keeps this error, and the error's traceback refers to the library. Break this cycle.
            library.parser_exc.with_traceback(None)
            failure = library.close_sent
            assert failure is not None  # the end of the stream is never reported to the library
            self._fail(failure.code, failure.reason, events)

    def _close_frame(self, payload: bytes, events: list[WebSocketEvent]) -> None:
        code, reason = CloseCode.NO_STATUS_RCVD.value, ""
        if payload:
            code = int.from_bytes(payload[:2], "big")
            try:
                reason = payload[2:].decode()
            except UnicodeDecodeError:
                self._fail(1002, "the reason of a close frame is not UTF-8", events)
                return
            # In its answer to a close frame of the server, a client may repeat any code.
            if len(payload) < 2 or not (self._closing or may_be_received(code)):
                self._fail(1002, "a close frame with an invalid code", events)
                return
        self._done = True
        # The answer has the code 1000 for every code of the client, as in Phoenix and Bandit.
        last = b"" if self._closing else close_frame(CloseCode.NORMAL_CLOSURE)
        events.append(PeerClosed(code=code, reason=reason, by_peer=True, frame=last))


def may_be_received(code: int) -> bool:
    """Return True if a client may close with this code.

    As in Bandit, a client may not use 1012 to 1014, and private codes have no upper bound.
    """
    return 1000 <= code <= 1003 or 1007 <= code <= 1011 or code >= 3000


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


try:
    from websockets.speedups import apply_mask
except ImportError:  # on platforms without a compiled wheel of the library
    from websockets.utils import apply_mask
