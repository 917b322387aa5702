"""Frames on the sockets between workers.

*pure*. A frame carries one envelope:

    4 bytes   the number of bytes behind these four, big-endian
    1 byte    the length of the lane
    the lane, in UTF-8, and then the envelope

The first frame on a socket has no envelope. It declares the lane that only its sender reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final

from actors.declared import declared

__all__ = ["MAX_FRAME", "MAX_LANE", "BrokenFrame", "cut", "frame", "unframe"]

MAX_FRAME: Final = 16 * 1024 * 1024
"""The largest frame, in bytes. Envelopes have their own limits."""

MAX_LANE: Final = 255
"""The longest name of a lane, in bytes."""

_HEAD: Final = Struct(">IB")
_LENGTH: Final = 4
_SMALLEST: Final = 1


@declared("a frame cannot have {length} bytes")
class BrokenFrame(Exception):
    """A worker received bytes that are no frame, so the sender is not a worker of this program.

    Attributes:
        length: the length in the head of the bytes.
    """

    length: int


def frame(lane: str, envelope: bytes = b"") -> bytes:
    r"""Return the frame of an envelope.

    >>> frame("0", b"[]")
    b'\x00\x00\x00\x04\x010[]'
    """
    name = lane.encode()
    return _HEAD.pack(_SMALLEST + len(name) + len(envelope), len(name)) + name + envelope


def unframe(data: bytes, ends: list[int]) -> Iterator[tuple[str, bytes]]:
    """Return the lane and the envelope of each of these frames."""
    begin = 0
    for end in ends:
        name = begin + _HEAD.size
        envelope = name + data[name - 1]
        yield data[name:envelope].decode("utf-8", "replace"), data[envelope:end]
        begin = end


def cut(data: bytes) -> list[int]:
    """Return the end of each whole frame at the beginning of some bytes.

    Raises:
        BrokenFrame: the head of a frame contains an invalid length.
    """
    ends: list[int] = []
    position, size = 0, len(data)
    while position + _HEAD.size <= size:
        length, lane = _HEAD.unpack_from(data, position)
        if not _SMALLEST + lane <= length <= MAX_FRAME:
            raise BrokenFrame(length)
        position += _LENGTH + length
        if position > size:
            break
        ends.append(position)
    return ends
