"""The hub: it passes envelopes on between the workers of one machine.

    hub = Hub()
    link = hub.attach(worker.id, sock)      # the parent's end of a socket pair
    await link.main()                       # until the worker closes its end

The hub reads the head of each frame (`channels.pubsub.workers.frames`), never an envelope. It sends the frames of one
read in one write to each other worker. For a worker that does not read, it has a bounded buffer. If the buffer is full,
the hub drops and counts frames for this worker alone. The worker notices the gap in the numbers of the envelopes.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable

import trio

from channels.pubsub.workers.frames import (
    EVERYBODY,
    ONE,
    BrokenFrame,
    Cut,
    cut,
    ends_that_fit,
    lane_in,
)

__all__ = ["MAX_BUFFERED_BYTES", "Hub", "Link"]

MAX_BUFFERED_BYTES = 8 * 1024 * 1024
"""Bytes that can wait for one worker, unless the hub sets another limit."""

_CHUNK = 256 * 1024
# Pieces in one write. Linux allows 1024.
_PIECES = 64


class Hub:
    """The links to all workers.

    Args:
        max_buffered_bytes: bytes that can wait for one worker.
        on_dropped: called with the id of a worker and the number of frames that it lost. Must not block or raise.
    """

    def __init__(
        self,
        *,
        max_buffered_bytes: int = MAX_BUFFERED_BYTES,
        on_dropped: Callable[[int, int], None] | None = None,
    ) -> None:
        # Dicts, not sets: the workers get envelopes in the order of their starts.
        self._links: dict[Link, None] = {}
        self._readers: dict[bytes, Link] = {}
        self.max_buffered_bytes = max_buffered_bytes
        self.on_dropped = on_dropped

    def attach(self, worker: int, sock: socket.socket) -> Link:
        """Connect a worker, with the parent's end of a socket pair. The link closes it."""
        link = Link(self, worker, sock)
        self._links[link] = None
        return link

    def detach(self, link: Link) -> None:
        """Disconnect a worker. May be called twice."""
        self._links.pop(link, None)
        if self._readers.get(link.lane) is link:
            del self._readers[link.lane]

    def pass_on(self, sender: Link, data: bytes, found: Cut) -> None:
        """Pass whole frames on to the workers that they are for."""
        if found.kinds is None:
            self._to_others(sender, data, found.ends)
            return
        begin = 0
        for end, kind in zip(found.ends, found.kinds, strict=True):
            part = data[begin:end]
            begin = end
            if kind == EVERYBODY:
                self._to_others(sender, part, [len(part)])
            elif kind == ONE:
                reader = self._readers.get(lane_in(part))
                if reader is not None:
                    reader.offer(part, [len(part)])
            else:
                sender.lane = lane_in(part)
                self._readers[sender.lane] = sender

    def _to_others(self, sender: Link, data: bytes, ends: list[int]) -> None:
        for link in list(self._links):
            if link is not sender:
                link.offer(data, ends)


class Link:
    """The connection of one worker to the hub.

    Attributes:
        worker: the id of the worker.
        lane: the lane that only this worker reads; empty if it has declared none.
        received: frames that the worker sent.
        passed: frames that were passed on to the worker.
        dropped: frames for the worker that were dropped.
        buffered_bytes: bytes that wait for the worker.
    """

    def __init__(self, hub: Hub, worker: int, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.worker = worker
        self.lane = b""
        self.received = self.passed = self.dropped = self.buffered_bytes = 0
        self._hub = hub
        self._socket = sock
        self._waiting: deque[memoryview] = deque()
        self._news = trio.Event()
        self._closed = False

    async def main(self) -> None:
        """Serve the worker until it closes its end, or sends bytes that are no frame."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                await self._read()
                nursery.cancel_scope.cancel()
        finally:
            self.close()

    def close(self) -> None:
        """Disconnect the worker. May be called twice."""
        if not self._closed:
            self._closed = True
            self._hub.detach(self)
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
            self._waiting.clear()
            self.buffered_bytes = 0

    async def _read(self) -> None:
        rest = b""
        while not self._closed:
            try:
                await trio.lowlevel.wait_readable(self._socket)
                chunk = self._socket.recv(_CHUNK)
            except BlockingIOError:
                continue
            except (OSError, trio.ClosedResourceError):
                # The worker has ended, or `close` was called.
                return
            if not chunk:
                return
            data = rest + chunk if rest else chunk
            try:
                found = cut(data)
            except BrokenFrame:
                return
            end = found.end
            rest = data[end:]
            if end:
                self.received += len(found.ends)
                self._hub.pass_on(self, data[:end] if rest else data, found)

    def offer(self, data: bytes, ends: list[int]) -> None:
        """Send frames to the worker, or keep them for later, or drop them. Never blocks."""
        sent = 0
        if not self._waiting:
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                pass
            except OSError:
                # The worker has ended. Its reader will notice.
                self._drop(len(ends))
                return
        if sent == len(data):
            self.passed += len(ends)
            return
        kept = ends_that_fit(ends, sent, self._hub.max_buffered_bytes - self.buffered_bytes)
        self.passed += kept
        if kept < len(ends):
            self._drop(len(ends) - kept)
        if kept and ends[kept - 1] > sent:
            self._waiting.append(memoryview(data)[sent : ends[kept - 1]])
            self.buffered_bytes += ends[kept - 1] - sent
            self._news.set()

    def _drop(self, frames: int) -> None:
        self.dropped += frames
        if self._hub.on_dropped is not None:
            self._hub.on_dropped(self.worker, frames)

    async def _write(self) -> None:
        while True:
            if not self._waiting:
                self._news = trio.Event()
                await self._news.wait()
            try:
                await trio.lowlevel.wait_writable(self._socket)
                self._flush()
            except BlockingIOError:
                continue
            except (OSError, trio.ClosedResourceError):
                # `_read` gets the same error, and ends this task.
                return

    def _flush(self) -> None:
        while self._waiting:
            pieces = [self._waiting[index] for index in range(min(len(self._waiting), _PIECES))]
            sent = self._socket.sendmsg(pieces)
            self.buffered_bytes -= sent
            while sent:
                piece = self._waiting[0]
                if sent < len(piece):
                    self._waiting[0] = piece[sent:]
                    break
                sent -= len(piece)
                self._waiting.popleft()
