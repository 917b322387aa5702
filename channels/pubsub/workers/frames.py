"""Frames on the sockets between workers and their hub.

*pure*. A frame carries one envelope. The hub reads the head of the frame, and never the envelope:

    4 bytes   the number of bytes behind these four, big-endian
    1 byte    the kind: 0 for all other workers, 1 for the one that reads the lane, 2 to declare a lane
    1 byte    the length of the lane
    the lane, in UTF-8, and then the envelope

When a worker starts, it sends a frame without an envelope to declare its own lane.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from struct import Struct
from typing import Final

from attrs import frozen

from actors.declared import declared

__all__ = [
    "DECLARE",
    "EVERYBODY",
    "MAX_FRAME",
    "MAX_LANE",
    "ONE",
    "BrokenFrame",
    "Cut",
    "cut",
    "ends_that_fit",
    "frame",
    "lane_in",
    "unframe",
]

EVERYBODY: Final = 0
"""The kind of frames for all other workers."""

ONE: Final = 1
"""The kind of frames for the worker that has declared the lane."""

DECLARE: Final = 2
"""The kind of frames that declare a lane."""

MAX_FRAME: Final = 16 * 1024 * 1024
"""The largest frame that a hub passes on, in bytes. Envelopes have their own limits."""

MAX_LANE: Final = 255
"""The longest name of a lane, in bytes."""

_HEAD: Final = Struct(">IBB")
_LENGTH: Final = 4
_SMALLEST: Final = 2


@declared("a frame cannot have {length} bytes")
class BrokenFrame(Exception):
    """The hub or a worker received bytes that are no frame, so the sender is not a worker of this program.

    Attributes:
        length: the length in the head of the bytes.
    """

    length: int


def frame(lane: str, envelope: bytes = b"", *, kind: int = EVERYBODY) -> bytes:
    r"""Return the frame of an envelope.

    >>> frame("0", b"[]")
    b'\x00\x00\x00\x05\x00\x010[]'
    """
    name = lane.encode()
    return _HEAD.pack(_SMALLEST + len(name) + len(envelope), kind, len(name)) + name + envelope


def lane_in(data: bytes) -> bytes:
    """Return the lane of the first frame."""
    return data[_HEAD.size : _HEAD.size + data[_HEAD.size - 1]]


def unframe(data: bytes, ends: list[int]) -> Iterator[tuple[str, bytes]]:
    """Return the lane and the envelope of each of these frames."""
    begin = 0
    for end in ends:
        name = begin + _HEAD.size
        envelope = name + data[name - 1]
        yield data[name:envelope].decode("utf-8", "replace"), data[envelope:end]
        begin = end


@frozen
class Cut:
    """The whole frames at the beginning of some bytes.

    Attributes:
        ends: the end of each frame.
        kinds: the kind of each frame; None if every frame is for all other workers.
    """

    ends: list[int]
    kinds: list[int] | None

    @property
    def end(self) -> int:
        """The end of the last whole frame."""
        return self.ends[-1] if self.ends else 0


def cut(data: bytes) -> Cut:
    """Find the whole frames.

    Raises:
        BrokenFrame: the head of a frame contains an invalid length or kind.
    """
    ends: list[int] = []
    kinds: list[int] = []
    others = 0
    position, size = 0, len(data)
    while position + _HEAD.size <= size:
        length, kind, lane = _HEAD.unpack_from(data, position)
        if not _SMALLEST + lane <= length <= MAX_FRAME or kind > DECLARE:
            raise BrokenFrame(length)
        position += _LENGTH + length
        if position > size:
            break
        ends.append(position)
        kinds.append(kind)
        others |= kind
    return Cut(ends, kinds if others else None)


def ends_that_fit(ends: list[int], sent: int, room: int) -> int:
    """Return the number of frames to keep, given `sent` bytes already sent and room for `room` more.

    Always keep a frame that is partly sent, even if it does not fit.
    """
    done = bisect_right(ends, sent)
    begun = done + (sent > (ends[done - 1] if done else 0))
    return max(begun, bisect_right(ends, sent + room))
