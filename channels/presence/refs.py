"""References of metadata: text that ascends with the time at which a presence was tracked.

*pure*. Every meta has a `phx_ref`, as in Phoenix, where it also begins with the time. Refs serve two purposes: they
identify a meta, and they give the metas of a key an order that all nodes share.
"""

from __future__ import annotations

import base64

__all__ = ["RefClock"]

# The digits of base64, and 64 characters of JSON and of URLs in the order of their code points. With these, the order
# of two texts is the order of their bytes, in every language.
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_ASCENDING = b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
_TRANSLATION = bytes.maketrans(_BASE64, _ASCENDING)
_TIME_BYTES = 7


class RefClock:
    """A source of refs for one node.

        >>> clock = RefClock()
        >>> first, second = (
        ...     clock.next(1_700_000_000.0, b"12345"),
        ...     clock.next(1_600_000_000.0, b"12345"),
        ... )
        >>> len(first), first < second
        (16, True)

    The refs of one clock ascend, even if the time of day goes back. The refs of two nodes ascend as far as their times
    of day agree.
    """

    __slots__ = ("_latest",)

    def __init__(self) -> None:
        self._latest = 0

    def next(self, now: float, noise: bytes) -> str:
        """Return a new ref of 16 characters.

        Args:
            now: the time of day, in seconds since the epoch.
            noise: 5 random bytes. They keep apart two nodes that track at the same time.
        """
        self._latest = max(self._latest + 1, int(now * 1e6))
        raw = self._latest.to_bytes(_TIME_BYTES, "big") + noise
        return base64.b64encode(raw).translate(_TRANSLATION).decode()
