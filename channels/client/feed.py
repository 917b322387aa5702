"""Two ways to wait: a `Feed` iterates over arriving items, and a `Change` wakes tasks without an item."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, Self, TypeVar

import trio

from channels.client.errors import MessagesDropped

__all__ = ["Change", "Feed"]

T = TypeVar("T")


class Change:
    """Tasks that wait for the next change. At a change, all waiting tasks continue.

    while not ready():
        await change.wait()

    `trio.lowlevel.ParkingLot` does the same, and takes 300 bytes when it is empty. A program with ten thousand clients
    has thirty thousand changes.
    """

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event: trio.Event | None = None

    async def wait(self) -> None:
        """Wait for the next change."""
        if self._event is None:
            self._event = trio.Event()
        await self._event.wait()

    def notify(self) -> None:
        """Wake all waiting tasks."""
        if self._event is not None:
            self._event.set()
            self._event = None


class Feed(Generic[T]):
    """An iterator over items as they arrive, for `async for`.

        with channel.on("new_msg") as messages:
            async for payload in messages:
                print(payload["body"])

    A feed keeps a bounded number of unread items. If more arrive, it drops the oldest, and the next read raises
    `MessagesDropped`. Iterate again to go on. If your program has never read the feed when it overflows, the feed drops
    all items, and keeps none until the first read.

    The iteration ends when you call `close`, or when the channel or the socket ends in order. It raises if the socket
    ended because of an error. Several tasks may read. Each item goes to one task.

    Attributes:
        dropped: the number of items that the feed has dropped so far.
    """

    __slots__ = (
        "_error",
        "_is_closed",
        "_items",
        "_limit",
        "_missed",
        "_name",
        "_on_close",
        "_readers",
        "_was_read",
        "dropped",
    )

    def __init__(
        self, name: str, limit: int, *, on_close: Callable[[Feed[T]], object] | None = None
    ) -> None:
        self.dropped = 0
        self._name = name
        self._limit = limit
        self._on_close = on_close
        # Create the deque with the first item: an empty deque has room for 64 items, and most feeds of a quiet client
        # stay empty.
        self._items: deque[T] | None = None
        self._missed = 0
        self._was_read = False
        self._is_closed = False
        self._error: Exception | None = None
        self._readers = Change()

    def __len__(self) -> int:
        return len(self._items or ())

    def put(self, item: T) -> bool:
        """Add an item. Return True if this drops an item for the first time since the last read."""
        items = self._items
        if items is None:
            items = self._items = deque()
        is_first = False
        if len(items) >= self._limit or (self._missed and not self._was_read):
            is_first = self._missed == 0
            if self._was_read and items:
                items.popleft()
                lost = 1
            else:
                lost = len(items) + 1
                items.clear()
            self._missed += lost
            self.dropped += lost
            if not self._was_read:
                return is_first
        items.append(item)
        self._readers.notify()
        return is_first

    def end(self, error: Exception | None = None) -> None:
        """End the iterations, or raise `error` in them, after the readers have taken the remaining items."""
        if not self._is_closed:
            self._is_closed = True
            self._error = error
            self._readers.notify()

    def close(self) -> None:
        """Stop getting items, and end the iterations."""
        self._items = None
        self._missed = 0
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close(self)
        self.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        await trio.lowlevel.checkpoint()
        while True:
            self._was_read = True
            if self._missed:
                missed, self._missed = self._missed, 0
                raise MessagesDropped(self._name, missed)
            if self._items:
                return self._items.popleft()
            if self._is_closed:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            await self._readers.wait()
