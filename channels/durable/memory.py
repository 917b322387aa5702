"""The storage in memory. A restart of the server loses the history, and begins a new epoch."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import dropwhile, islice

import trio

from channels.durable.storage import Appended, Claimed, Ends, NewAnswer, NewMessage, Receiver
from channels.durable.stream import Entry, Limits, Slice
from supervision.child_spec import ChildSpec

__all__ = ["MemoryStorage"]


class _Stream:
    __slots__ = ("bytes", "last", "messages")

    def __init__(self, last: int) -> None:
        self.last = last
        # The time of day, the size, and the entry of each message: oldest first, without a gap.
        self.messages: deque[tuple[float, int, Entry]] = deque()
        self.bytes = 0

    def drop_oldest(self) -> int:
        _, size, _ = self.messages.popleft()
        self.bytes -= size
        return size


class _Keys:
    """The remembered keys with their values, oldest first."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._values: dict[str, tuple[float, bytes]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: str, now: float) -> bytes | None:
        at, value = self._values.get(key, (now, None))
        return value if at >= now - self._limits.max_answer_age else None

    def put(self, key: str, value: bytes, now: float) -> None:
        self._drop(key)
        self._values[key] = now, value
        self._bytes += len(key) + len(value)

    def _drop(self, key: str) -> None:
        dropped = self._values.pop(key, None)
        if dropped is not None:
            self._bytes -= len(key) + len(dropped[1])

    def trim(self, now: float) -> int:
        """Drop the oldest keys that are beyond a limit. Return how many of them were not too old."""
        limits, forgotten = self._limits, 0
        while self._values:
            key, (at, _) = next(iter(self._values.items()))
            if at >= now - limits.max_answer_age:
                if (
                    len(self._values) <= limits.max_answers
                    and self._bytes <= limits.max_answer_bytes
                ):
                    break
                forgotten += 1
            self._drop(key)
        return forgotten


class MemoryStorage:
    """A history in the memory of this process.

        History(MemoryStorage())

    Clients recover from lost connections and crashed channels. After a restart of the server they get
    `epoch_changed`. This storage does not work with several nodes.
    """

    name = "memory"
    is_shared = False
    publishes = False

    def __init__(self) -> None:
        self._limits = Limits()
        self._epoch = ""
        # The first topic is the one that had no message for the longest time.
        self._streams: dict[str, _Stream] = {}
        self._keys = _Keys(self._limits)
        self._floor = 0
        self._bytes = 0
        # By topic, the oldest claim first.
        self._fences: dict[str, int] = {}
        self._fence_floor = 0

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
        self._keys = _Keys(self._limits)
        self._floor = self._bytes = 0
        self._fences = {}
        self._fence_floor = 0

    async def append(
        self, batch: Sequence[NewMessage], *, now: float, answers: Sequence[NewAnswer] = ()
    ) -> Appended:
        """Keep the messages in this order, and the answers."""
        fences = self._fences
        refused = {
            place: fences.get(message.topic, 0)
            for place, message in enumerate(batch)
            if fences.get(message.topic) != message.fence
        }
        if refused:
            await trio.lowlevel.checkpoint()
            return Appended(self._epoch, (), refused=refused)
        offsets: list[int] = []
        repeated: list[int] = []
        for place, message in enumerate(batch):
            known = None if message.key is None else self._keys.get(message.key, now)
            if known is None:
                offsets.append(self._keep(message, now))
            else:
                offsets.append(int(known))
                repeated.append(place)
        kept = [self._remember(answer, now) for answer in answers]
        evicted, forgotten = self._evict(), self._keys.trim(now)
        await trio.lowlevel.checkpoint()
        return Appended(self._epoch, offsets, evicted, repeated, kept, forgotten)

    def _remember(self, answer: NewAnswer, now: float) -> bytes:
        first = self._keys.get(answer.key, now)
        if first is None:
            self._keys.put(answer.key, answer.body, now)
        return answer.body if first is None else first

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
        if message.key is not None:
            self._keys.put(message.key, b"%d" % stream.last, now)
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

    async def claim(self, topic: str, fence: int) -> Claimed:
        """Claim a topic."""
        await trio.lowlevel.checkpoint()
        claimed = self._fences.get(topic, self._fence_floor)
        if fence <= claimed:
            return Claimed(claimed)
        self._fences.pop(topic, None)
        self._fences[topic] = fence
        forgotten = 0
        while len(self._fences) > self._limits.max_fences:
            oldest = self._fences.pop(next(iter(self._fences)))
            self._fence_floor = max(self._fence_floor, oldest)
            forgotten += 1
        return Claimed(forgotten=forgotten)

    async def recall(self, key: str, *, now: float) -> bytes | None:
        """Return a remembered answer."""
        await trio.lowlevel.checkpoint()
        return self._keys.get(key, now)

    async def read(self, topic: str, *, after: int, limit: int, now: float) -> Slice:
        """Read a stream."""
        await trio.lowlevel.checkpoint()
        stream = self._streams.get(topic)
        if stream is None:
            return Slice(self._epoch, self._floor + 1, self._floor)
        oldest = now - self._limits.max_age
        # Do not filter by time: if the time of day was set back, a filter would leave a gap.
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
        """Return the numbers of kept topics, messages and bytes."""
        messages = sum(len(stream.messages) for stream in self._streams.values())
        return {
            "topics": len(self._streams),
            "messages": messages,
            "bytes": self._bytes,
            "keys": len(self._keys),
            "fences": len(self._fences),
        }
