"""A reader that keeps the delivered data, for tests."""

from __future__ import annotations

import trio

__all__ = ["Heard"]


class Heard:
    """A collector of the reports of a reader or a transport, which lets a test wait for them."""

    def __init__(self) -> None:
        self.events: list[object] = []
        self._news = trio.Event()

    def __call__(self, event: object) -> None:
        """Take one event."""
        self.events.append(event)
        self._news.set()

    @property
    def data(self) -> bytes:
        """All bytes so far."""
        return b"".join(event for event in self.events if isinstance(event, bytes))

    @property
    def others(self) -> list[object]:
        """Everything that was not bytes, and the end of the stream."""
        return [event for event in self.events if not isinstance(event, bytes) or not event]

    async def bytes(self, count: int) -> bytes:
        """Wait until so many bytes have come."""
        while len(self.data) < count:
            await self._more()
        return self.data

    async def other(self) -> object:
        """Wait for the first thing that is not bytes, or the end of the stream."""
        while not self.others:
            await self._more()
        return self.others[0]

    async def _more(self) -> None:
        self._news = trio.Event()
        await self._news.wait()
