"""The storage in memory: a restart of the server loses the history, and begins a new epoch."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import dropwhile, islice

import trio

from channels.durable.storage import Appended, Ends, NewMessage, Receiver
from channels.durable.stream import Entry, Limits, Slice
from supervision.child_spec import ChildSpec

__all__ = ["MemoryStorage"]


class _Stream:
    __slots__ = ("bytes", "last", "messages")

    def __init__(self, last: int) -> None:
        self.last = last
        # Oldest first, without a gap: the time of day, the size, and the entry.
        self.messages: deque[tuple[float, int, Entry]] = deque()
        self.bytes = 0

    def drop_oldest(self) -> int:
        _, size, _ = self.messages.popleft()
        self.bytes -= size
        return size


class MemoryStorage:
    """A history in the memory of this process.

        History(MemoryStorage())

    Clients recover from lost connections and crashed channels. After a restart of the server they get
    `epoch_changed`. It does not work with several nodes.
    """

    name = "memory"
    is_shared = False
    publishes = False

    def __init__(self) -> None:
        self._limits = Limits()
        self._epoch = ""
        # The topic that had no message for the longest time is the first.
        self._streams: dict[str, _Stream] = {}
        self._floor = 0
        self._bytes = 0

    async def open(self, limits: Limits, *, fresh_epoch: str) -> None:
        """Begin a new epoch, without messages."""
        self._limits, self._epoch = limits, fresh_epoch
        self.close()
        await trio.lowlevel.checkpoint()

    def processes(self, receiver: Receiver) -> Sequence[ChildSpec]:
        """Return nothing, because this storage has no process."""
        return ()

    def close(self) -> None:
        """Forget everything."""
        self._streams = {}
        self._floor = self._bytes = 0

    async def append(self, batch: Sequence[NewMessage], *, now: float) -> Appended:
        """Keep messages in this order."""
        offsets = [self._keep(message, now) for message in batch]
        evicted = self._evict()
        await trio.lowlevel.checkpoint()
        return Appended(self._epoch, offsets, evicted)

    def _keep(self, message: NewMessage, now: float) -> int:
        stream = self._streams.pop(message.topic, None) or _Stream(self._floor)
        self._streams[message.topic] = stream
        stream.last += 1
        entry = Entry(self._epoch, stream.last, message.event, message.body)
        stream.messages.append((now, message.size, entry))
        stream.bytes += message.size
        self._bytes += message.size
        limits = self._limits
        while stream.messages and (
            len(stream.messages) > limits.kept
            or stream.bytes > limits.max_bytes
            or stream.messages[0][0] < now - limits.max_age
        ):
            self._bytes -= stream.drop_oldest()
        return stream.last

    def _evict(self) -> int:
        evicted = 0
        limits = self._limits
        while len(self._streams) > 1 and (
            len(self._streams) > limits.max_topics or self._bytes > limits.max_total_bytes
        ):
            stream = self._streams.pop(next(iter(self._streams)))
            self._floor = max(self._floor, stream.last)
            self._bytes -= stream.bytes
            evicted += 1
        return evicted

    async def read(self, topic: str, *, after: int, limit: int, now: float) -> Slice:
        """Read a stream."""
        await trio.lowlevel.checkpoint()
        stream = self._streams.get(topic)
        if stream is None:
            return Slice(self._epoch, self._floor + 1, self._floor)
        oldest = now - self._limits.max_age
        # Not a filter, because the time of day can be set back, and the messages must have no gap.
        kept = [each[2] for each in dropwhile(lambda each: each[0] < oldest, stream.messages)]
        first = kept[0].offset if kept else stream.last + 1
        entries = tuple(islice((each for each in kept if each.offset > after), limit))
        return Slice(self._epoch, first, stream.last, entries)

    async def ends(self, topics: Sequence[str]) -> Ends:
        """Read the last offset of each kept topic."""
        await trio.lowlevel.checkpoint()
        streams = self._streams
        return Ends(
            self._epoch, {topic: streams[topic].last for topic in topics if topic in streams}
        )

    def statistics(self) -> dict[str, int]:
        """Return what is kept."""
        messages = sum(len(stream.messages) for stream in self._streams.values())
        return {"topics": len(self._streams), "messages": messages, "bytes": self._bytes}
