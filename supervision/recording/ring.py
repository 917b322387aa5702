"""Bounded rings. A ring keeps the newest records within a limit of records and a limit of bytes.

*pure*: a record is any object, and the caller estimates its size. Only `ContentRing` reads records.

    ring = Ring(max_records=1000, max_bytes=1_000_000)
    ring.append(("exited", 4), 200)
    ring.dropped                            # 0

To make room for a new record, the ring drops the oldest records. A record larger than the whole ring empties the ring,
and the ring drops that record too.

Records of messages are frequent and have about the same size. So a `MessageRing` only counts its records:

    ring = MessageRing(max_records=1000, max_bytes=1_000_000)
    ring.append((0, 1.5, "sent", 3, 4))
    len(ring), ring.bytes                   # (1, 328)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from sys import getsizeof
from typing import Any, Final, Generic, TypeVar

__all__ = ["MESSAGE_BYTES", "ContentRing", "MessageRing", "Ring"]

R = TypeVar("R")

MESSAGE_BYTES: Final = 328
"""The size in bytes of the largest record about messages, without contents. It holds three writes. Most records have
about 200 bytes."""


class Ring(Generic[R]):
    """A queue of records that drops the oldest records when it is full.

    Args:
        max_records: the number of records to keep.
        max_bytes: the bytes of records to keep, as the caller estimates them.

    Attributes:
        bytes: the estimated bytes of the records.
        dropped: the number of records that the ring has dropped.
        last: the newest record, even if the ring has dropped it because of its size; None if there was none.
    """

    __slots__ = ("_max_bytes", "_max_records", "_records", "_sizes", "bytes", "dropped", "last")

    def __init__(self, *, max_records: int, max_bytes: int) -> None:
        self._records: deque[R] = deque()
        self._sizes: deque[int] = deque()
        self._max_records = max_records
        self._max_bytes = max_bytes
        self.bytes = 0
        self.dropped = 0
        self.last: R | None = None

    def __len__(self) -> int:
        return len(self._records)

    def append(self, record: R, size: int) -> None:
        """Append a record, and drop the oldest records that no longer fit."""
        self.last = record
        self._records.append(record)
        self._sizes.append(size)
        self.bytes += size
        while self.bytes > self._max_bytes or len(self._records) > self._max_records:
            self._records.popleft()
            self.bytes -= self._sizes.popleft()
            self.dropped += 1

    @property
    def first(self) -> R | None:
        """The oldest record; None if there is none."""
        return self._records[0] if self._records else None

    def copy(self) -> list[R]:
        """Return the records, oldest first. Any thread may call this, because the interpreter copies in one step."""
        return list(self._records)


class MessageRing:
    """The ring of records about messages. These have about the same size, so a limit of records also limits the bytes.

    Attributes:
        append: the function that appends a record. It is the C function of a deque, for speed.
    """

    def __init__(self, max_records: int, max_bytes: int) -> None:
        self._records: deque[tuple[Any, ...]] = deque(
            maxlen=max(1, min(max_records, max_bytes // MESSAGE_BYTES))
        )
        self.append: Callable[[tuple[Any, ...]], None] = self._records.append

    def __len__(self) -> int:
        return len(self._records)

    @property
    def bytes(self) -> int:
        """The estimated bytes of the records."""
        return MESSAGE_BYTES * len(self)

    @property
    def last(self) -> tuple[Any, ...] | None:
        """The newest record; None if there is none."""
        return self._records[-1] if self._records else None

    def copy(self) -> list[tuple[Any, ...]]:
        """Return the records, oldest first. Any thread may call this, because the interpreter copies in one step."""
        return list(self._records)


class ContentRing(Ring[tuple[Any, ...]]):
    """The ring of records about messages with contents.

    The content is the last item of a record. The last item of a `frame` is a dict with the payload.
    """

    def append(self, record: tuple[Any, ...], size: int = MESSAGE_BYTES) -> None:
        """Append a record. Add the memory of its content to the size."""
        content = record[-1] if record[2] in {"sent", "call_ended"} else None
        if record[2] == "frame":
            size += getsizeof(record[-1])
            content = record[-1].get("payload")
        # Outside ASCII, a character takes up to four bytes, so the length is not enough.
        super().append(record, size if content is None else size + getsizeof(content))
