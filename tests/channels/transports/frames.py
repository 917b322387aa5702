"""Frames as a client sends them, for tests: valid ones, and with any part of them wrong."""

from __future__ import annotations

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA
_MASK = b"\x11\x22\x33\x44"


def client_frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True
) -> bytes:
    """Build one frame; masked unless the client is meant to be wrong."""
    size = len(payload)
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    bit = 0x80 if masked else 0
    if size < 126:
        head = bytes((first, bit | size))
    elif size < 65536:
        head = bytes((first, bit | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, bit | 127)) + size.to_bytes(8, "big")
    if not masked:
        return head + payload
    return head + _MASK + _masked(payload)


def _masked(payload: bytes) -> bytes:
    # As one number, because a loop over megabytes takes seconds.
    size = len(payload)
    mask = (_MASK * (size // 4 + 1))[:size]
    number = int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")
    return number.to_bytes(size, "big")


def client_close(code: int | None = None, reason: bytes = b"") -> bytes:
    """Build a close frame, with any code."""
    return client_frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason)
