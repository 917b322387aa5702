"""One connection of a client: open it, write the waiting frames, read, and close it in order."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, Protocol, TypeAlias

import trio

from channels.client.transports.contract import Link, LinkFailed, LinkLost
from channels.client.wire import Frame, TransportName

__all__ = ["CLOSE_TIMEOUT", "ClientConnection", "End", "Owner"]

CLOSE_TIMEOUT: Final = 2.0
"""Seconds to write the waiting frames and to exchange close frames. After that, the client cuts the connection."""

End: TypeAlias = LinkFailed | LinkLost


class Owner(Protocol):
    """The socket of a connection. It opens the link, and gets the events of the connection."""

    def open_link(self, transport: TransportName, nursery: trio.Nursery) -> Awaitable[Link]:
        """Open a link, with a nursery for its tasks."""
        ...

    def opened(self) -> None:
        """The link is open."""
        ...

    def received(self, frame: Frame) -> None:
        """The server has sent a frame."""
        ...

    def ended(self, end: End) -> None:
        """The connection has ended, and `close` was not called before."""
        ...


class ClientConnection:
    """One attempt to connect, and the resulting connection.

    Args:
        owner: opens the link, and gets the events.
        transport: the transport of the link.

    Attributes:
        waiting: frames that the connection has not written yet.
    """

    # Slots, here and in the other classes of a client: a program may hold ten thousand clients.
    __slots__ = (
        "_closing",
        "_is_writing",
        "_link",
        "_nursery",
        "_owner",
        "_transport",
        "waiting",
    )

    def __init__(self, owner: Owner, transport: TransportName) -> None:
        self.waiting: list[Frame] = []
        self._owner = owner
        self._transport = transport
        self._nursery: trio.Nursery | None = None
        self._link: Link | None = None
        self._is_writing = False
        self._closing: tuple[int, str] | None = None

    def send_nowait(self, frame: Frame) -> None:
        """Write a frame as soon as possible."""
        self.waiting.append(frame)
        self._wake_writer()

    def close(self, code: int, reason: str) -> None:
        """Write the waiting frames, close the connection, and report no more events. Do not wait for this."""
        self._closing = code, reason
        if self._nursery is None:
            return
        if self._link is not None:
            self._nursery.cancel_scope.deadline = trio.current_time() + CLOSE_TIMEOUT
            self._wake_writer()
        else:
            self._nursery.cancel_scope.cancel()

    async def main(self) -> None:
        """Run until the connection has ended."""
        end: End | None = None
        if self._closing is None:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                end = await self._run(nursery)
                nursery.cancel_scope.cancel()
        if end is not None and self._closing is None:
            self._owner.ended(end)

    async def _run(self, nursery: trio.Nursery) -> End | None:
        link: Link | None = None
        try:
            link = await self._owner.open_link(self._transport, nursery)
            self._link = link
            self._owner.opened()
            while True:
                frame = await link.receive()
                if self._closing is None:
                    self._owner.received(frame)
        except (LinkFailed, LinkLost) as end:
            if self._closing is not None and link is not None:
                # The writer exchanges close frames, within its deadline.
                await trio.sleep_forever()
            return end
        finally:
            self._link = None
            if link is not None:
                await _cut(link)

    def _wake_writer(self) -> None:
        # Run a task only while there is something to write: most clients are quiet, and an idle task takes 2 KB.
        if not self._is_writing and self._link is not None and self._nursery is not None:
            self._is_writing = True
            self._nursery.start_soon(self._write, self._link, self._nursery.cancel_scope)

    async def _write(self, link: Link, scope: trio.CancelScope) -> None:
        try:
            while self.waiting:
                frames, self.waiting = self.waiting, []
                await link.send(frames)
            if self._closing is None:
                self._is_writing = False
                return
            await link.aclose(*self._closing)
            scope.cancel()
        except LinkLost:
            # The reader reports the loss. `_is_writing` stays True, so that no further writer starts.
            if self._closing is not None:
                scope.cancel()


async def _cut(link: Link) -> None:
    """Release the resources of a link, without waiting for the server."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await link.aclose(1000, "")
