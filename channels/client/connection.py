"""One connection of a client: open it, write the waiting frames, read, and close it in order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import trio

from channels.client.transports.contract import Link, LinkFailed, LinkLost
from channels.client.wire import Frame

__all__ = ["CLOSE_TIMEOUT", "Connection", "End", "OpenLink"]

CLOSE_TIMEOUT: Final = 2.0
"""Seconds to write what waits and to exchange close frames, before the connection is cut."""

OpenLink: TypeAlias = Callable[[trio.Nursery], Awaitable[Link]]
End: TypeAlias = LinkFailed | LinkLost


class Connection:
    """One attempt to connect, and the resulting connection.

    Args:
        open_link: opens the link, with a nursery for its tasks.
        on_open: called when it is open.
        on_frame: called with every frame of the server.
        on_end: called at the end, unless `close` was called before.

    Attributes:
        waiting: frames that are not written yet.
    """

    def __init__(
        self,
        open_link: OpenLink,
        *,
        on_open: Callable[[], object],
        on_frame: Callable[[Frame], object],
        on_end: Callable[[End], object],
    ) -> None:
        self.waiting: list[Frame] = []
        self._open_link = open_link
        self._on_open = on_open
        self._on_frame = on_frame
        self._on_end = on_end
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
            self._on_end(end)

    async def _run(self, nursery: trio.Nursery) -> End | None:
        link: Link | None = None
        try:
            link = await self._open_link(nursery)
            self._link = link
            self._on_open()
            while True:
                frame = await link.receive()
                if self._closing is None:
                    self._on_frame(frame)
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
        # A task only while there is something to write: most clients are quiet, and an idle task takes 2 KB.
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
            # The reader reports it. `_is_writing` stays True: nothing can be written any more.
            if self._closing is not None:
                scope.cancel()


async def _cut(link: Link) -> None:
    """Release what a link holds, without waiting for the server."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await link.aclose(1000, "")
