"""Frames on the sockets between workers and their hub.

*pure*. A frame carries one envelope. The hub reads its head only:

    4 bytes   the number of bytes behind these four, big-endian
    2 bytes   the id of the worker that gets it, big-endian; 0 is all others
    1 byte    the length of the lane
    the lane, in UTF-8, and then the envelope
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from struct import Struct
from typing import Final

from attrs import frozen

__all__ = [
    "EVERYBODY",
    "MAX_FRAME",
    "BrokenFrame",
    "Cut",
    "cut",
    "ends_that_fit",
    "frame",
    "unframe",
]

EVERYBODY: Final = 0
"""The recipient of a frame for all other workers."""

MAX_FRAME: Final = 16 * 1024 * 1024
"""The largest frame that a hub passes on, in bytes. The envelopes in them have limits of their own."""

_HEAD: Final = Struct(">IH")
_LENGTH: Final = 4
_SMALLEST: Final = 3


class BrokenFrame(Exception):
    """Bytes that are no frame. Their sender is not a worker of this program.

    Field: `length`, as the head gives it.
    """

    def __init__(self, length: int) -> None:
        super().__init__(f"a frame cannot have {length} bytes")
        self.length = length


def frame(lane: str, envelope: bytes, *, to: int = EVERYBODY) -> bytes:
    r"""Return the frame of an envelope.

    >>> frame("0", b"[]")
    b'\x00\x00\x00\x06\x00\x00\x010[]'
    """
    name = lane.encode()
    return b"%b%c%b%b" % (_HEAD.pack(3 + len(name) + len(envelope), to), len(name), name, envelope)


def unframe(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Return the lane and the envelope of each of these whole frames."""
    position = 0
    while position < len(data):
        length, _ = _HEAD.unpack_from(data, position)
        end = position + _LENGTH + length
        name = position + _LENGTH + _SMALLEST
        envelope = name + data[name - 1]
        yield data[name:envelope].decode("utf-8", "replace"), data[envelope:end]
        position = end


@frozen
class Cut:
    """The whole frames at the beginning of some bytes.

    Attributes:
        ends: the end of each frame.
        direct: the recipients of the frames, if one of them is not for everybody; otherwise None.
    """

    ends: list[int]
    direct: list[int] | None

    @property
    def end(self) -> int:
        """The end of the last whole frame."""
        return self.ends[-1] if self.ends else 0


def cut(data: bytes) -> Cut:
    """Find the whole frames.

    Raises:
        BrokenFrame: the head of a frame is impossible.
    """
    ends: list[int] = []
    recipients: list[int] = []
    is_direct = 0
    position, size = 0, len(data)
    while position + _HEAD.size <= size:
        length, to = _HEAD.unpack_from(data, position)
        if not _SMALLEST <= length <= MAX_FRAME:
            raise BrokenFrame(length)
        position += _LENGTH + length
        if position > size:
            break
        ends.append(position)
        recipients.append(to)
        is_direct |= to
    return Cut(ends, recipients if is_direct else None)


def ends_that_fit(ends: list[int], sent: int, room: int) -> int:
    """Return how many of these frames to keep, when `sent` bytes are on their way and there is room for some more.

    A frame that is on its way in part must be kept, even if there is no room for it.
    """
    done = bisect_right(ends, sent)
    begun = done + (sent > (ends[done - 1] if done else 0))
    return max(begun, bisect_right(ends, sent + room))
