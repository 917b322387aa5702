"""The client's half of the WebSocket protocol, as bytes. *pure*.

All frames have a mask of zeros, which RFC 6455 permits. So the load generator can build a frame once and send it many
times. Servers unmask these frames like any others.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = [
    "CLOSE",
    "PING",
    "PONG",
    "TEXT",
    "WireError",
    "client_frame",
    "frames_in",
    "numbered",
    "only_text_in",
    "request",
    "response_end",
]

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
PLACEHOLDER = "@NUMBER@"
"""Marks the place of the eight-digit number in a text for `numbered`."""

_KEY = "dGhlIHNhbXBsZSBub25jZQ=="


class WireError(Exception):
    """The server sent bytes that the generator does not understand."""


def request(host: str, path: str) -> bytes:
    """Return the request that asks for a WebSocket, without extensions."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {_KEY}\r\n\r\n"
    ).encode()


def response_end(data: bytes) -> int:
    """Return the index at which the answer to the request ends, or 0 if the answer is incomplete.

    Raises:
        WireError: the server refused the request.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return 0
    status = data[:end].partition(b"\r\n")[0]
    if b" 101" not in status:
        raise WireError(f"the server answered the upgrade with {status!r} instead of 101")
    return end + 4


def client_frame(opcode: int, payload: bytes) -> bytes:
    """Return one final frame with a mask of zeros."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 65536:
        head = bytes((0x80 | opcode, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 0xFF)) + size.to_bytes(8, "big")
    return head + bytes(4) + payload


def numbered(text: str) -> tuple[bytes, bytes]:
    """Return the bytes of a text frame before and after its eight-digit number."""
    before, _, after = client_frame(TEXT, text.encode()).partition(PLACEHOLDER.encode())
    return before, after


def only_text_in(data: bytes) -> bytes | None:
    """Return the text if the server's data is one whole text frame of less than 64 KiB, or else None.

    This is `frames_in` for most reads. It takes a third of the time, so the generator is less often the limit.
    """
    size = len(data)
    if size < 4 or data[0] != 0x80 | TEXT:
        return None
    length = data[1]
    if length == size - 2 < 126:
        return data[2:]
    if length == 126 and (data[2] << 8 | data[3]) == size - 4:
        return data[4:]
    return None


def frames_in(data: bytes, start: int = 0) -> Iterator[tuple[int, bytes, int]]:
    """Yield the opcode, the payload and the end index of each complete frame in the server's data.

    Raises:
        WireError: a frame is fragmented, compressed or masked. The generator asks for none of these.
    """
    size = len(data)
    while size - start >= 2:
        first, length = data[start], data[start + 1]
        if first & 0xF0 != 0x80 or not first & 0x0F or length & 0x80:
            raise WireError(f"the server sent a frame that begins with {first:#04x} {length:#04x}")
        body = start + 2
        if length > 125:
            width = 2 if length == 126 else 8
            if size - body < width:
                return
            length = int.from_bytes(data[body : body + width], "big")
            body += width
        end = body + length
        if end > size:
            return
        yield first & 0x0F, data[body:end], end
        start = end
