"""Values that a newer value replaces while they wait in an out-buffer: positions, cursors, prices.

*pure*. The values of a client that is behind stand among its other frames, in the order of sending. `LatestValues`
knows their places in that list. A newer value with the same key leaves a gap in the place of the older one, and goes to
the end. So the client gets a part of what was sent, in the order in which it was sent.
"""

from __future__ import annotations

from itertools import takewhile

import msgspec

from channels.transports.contract import LatestKey

__all__ = ["LatestStatistics", "LatestTotals", "LatestValues"]

# The list of frames is rebuilt without gaps when it has more gaps than this, and more gaps than frames.
_GAPS = 64


class LatestStatistics(msgspec.Struct, frozen=True):
    """A snapshot of the counters of all clients.

    Attributes:
        replaced: values that a newer value has replaced.
        dropped: values that did not fit into the bounds.
    """

    replaced: int
    dropped: int


class LatestTotals:
    """The bounds on the waiting values of each client, and the counters of all clients.

    Args:
        max_values: values that may wait for one client.
        max_bytes: bytes that these values may have. A single value may have any size.
    """

    __slots__ = ("dropped", "max_bytes", "max_values", "replaced")

    def __init__(self, *, max_values: int, max_bytes: int) -> None:
        self.max_values = max_values
        self.max_bytes = max_bytes
        self.replaced = self.dropped = 0

    def statistics(self) -> LatestStatistics:
        """Return a snapshot of the counters."""
        return LatestStatistics(self.replaced, self.dropped)


class LatestValues:
    """The places of the values that wait for one client.

        >>> frames, values = [b"one"], LatestValues(LatestTotals(max_values=9, max_bytes=99))
        >>> values.append(frames, ("map", "position", "bus"), b"here")
        >>> frames.append(b"two")
        >>> values.append(frames, ("map", "position", "bus"), b"there")
        >>> frames
        [b'one', b'', b'two', b'there']

    Attributes:
        places: the place of each value, in the order of the list of frames. A place counts also the frames that have
            left the list before.
        gaps: the number of empty frames that stand for replaced values.
        bytes: the size of all values.
        reported: True if a value was dropped since the client was last up to date.
    """

    __slots__ = ("_left", "_totals", "bytes", "gaps", "places", "reported")

    def __init__(self, totals: LatestTotals) -> None:
        self._totals = totals
        self.clear()

    def clear(self) -> None:
        """Forget all values, because their frames have left the list, or must not be replaced any more."""
        self.places: dict[LatestKey, int] = {}
        self._left = self.gaps = self.bytes = 0
        self.reported = False

    def room_for(self, frames: list[bytes], key: LatestKey, size: int) -> int | None:
        """Return the bytes that a value of this size would free in the list. None means that it does not fit."""
        totals, place = self._totals, self.places.get(key)
        freed = 0 if place is None else len(frames[place - self._left])
        others = self.bytes - freed
        if (place is None and len(self.places) >= totals.max_values) or (
            others and others + size > totals.max_bytes
        ):
            return None
        return freed

    def append(self, frames: list[bytes], key: LatestKey, frame: bytes) -> None:
        """Append a value, in place of the waiting value with the same key."""
        place = self.places.pop(key, None)
        if place is not None:
            index = place - self._left
            self.bytes -= len(frames[index])
            frames[index] = b""
            self.gaps += 1
            self._totals.replaced += 1
            if self.gaps > _GAPS and self.gaps * 2 > len(frames):
                self.close_gaps(frames)
        self.places[key] = self._left + len(frames)
        self.bytes += len(frame)
        frames.append(frame)

    def refuse(self) -> bool:
        """Count a value that does not fit. Return True for the first one since the client was last up to date."""
        is_first, self.reported = not self.reported, True
        self._totals.dropped += 1
        return is_first

    def close_gaps(self, frames: list[bytes]) -> None:
        """Remove the gaps from the list."""
        taken = [place for place, frame in enumerate(frames, self._left) if frame]
        index_of = {place: index for index, place in enumerate(taken)}
        self.places = {key: index_of[place] for key, place in self.places.items()}
        frames[:] = filter(None, frames)
        self._left = self.gaps = 0

    def leave(self, frames: list[bytes], count: int) -> int:
        """Note that the oldest `count` frames are about to leave the list. Return the number of gaps among them."""
        left = self._left
        end = self._left = left + count
        gone = list(takewhile(lambda item: item[1] < end, self.places.items()))
        for key, place in gone:
            del self.places[key]
            self.bytes -= len(frames[place - left])
        gaps = frames[:count].count(b"")
        self.gaps -= gaps
        if not self.places:
            self._left = self.gaps = self.bytes = 0
            self.reported = self.reported and count < len(frames)
        return gaps
