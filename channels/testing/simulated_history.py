"""The keys of `SimulatedRedis`, and the script of `RedisStorage` in Python.

The script works step by step as `channels.durable.redis_script.SCRIPT` does, on the same keys. One suite runs over
both, and tests/integration/test_redis_server_contract.py compares their answers to random calls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import trio

__all__ = ["HistoryScript", "Keyspace"]


class Keyspace:
    """The keys of a database, some of which expire."""

    def __init__(self) -> None:
        self._values: dict[bytes, Any] = {}
        self._deadlines: dict[bytes, float] = {}

    def get(self, key: bytes) -> Any:
        """Return the value of a key, or None."""
        if self._deadlines.get(key, math.inf) <= trio.current_time():
            self.delete(key)
        return self._values.get(key)

    def set(self, key: bytes, value: Any) -> Any:
        """Give a key a value, and return it."""
        self._values[key] = value
        return value

    def expire(self, key: bytes, milliseconds: float) -> None:
        """Let a key expire later, if it exists."""
        if self.get(key) is not None:
            self._deadlines[key] = trio.current_time() + milliseconds / 1000

    def delete(self, key: bytes) -> bool:
        """Remove a key. Return True if it existed."""
        self._deadlines.pop(key, None)
        return self._values.pop(key, None) is not None

    def clear(self) -> None:
        """Remove all keys."""
        self._values.clear()
        self._deadlines.clear()


class _Row:
    """The field of a topic in the hash."""

    def __init__(self, last: int) -> None:
        self.last = last
        self.count = self.size = 0


class _Meta:
    """The hash of a history."""

    def __init__(self, epoch: bytes, run: bytes) -> None:
        self.epoch = epoch
        self.run = run
        self.floor = self.bytes = self.messages = self.appends = 0
        self.rows: dict[bytes, _Row] = {}


class _Message:
    """An entry of a stream."""

    def __init__(self, offset: int, at: float, event: bytes, body: bytes) -> None:
        self.offset = offset
        self.at = at
        self.event = event
        self.body = body

    @property
    def size(self) -> int:
        return len(self.event) + len(self.body)


class HistoryScript:
    """One run of the script.

    Args:
        keys: the database of the client.
        publish: takes a channel and a message.
        names: KEYS of the script.
        arguments: ARGV of the script.
    """

    def __init__(
        self,
        keys: Keyspace,
        publish: Callable[[bytes, bytes], Any],
        names: Sequence[bytes],
        arguments: Sequence[bytes],
    ) -> None:
        self._keys = keys
        self._publish = publish
        self._name, self._used_name = names
        self._verb, self._prefix, epoch, run, keeps, ttl, *self._rest = arguments
        meta: _Meta | None = keys.get(self._name)
        used: dict[bytes, int] | None = keys.get(self._used_name)
        known = meta is not None and len(meta.rows) == len(used or ())
        if meta is None or not known or (meta.run != run and keeps != b"1"):
            keys.delete(self._name)
            keys.delete(self._used_name)
            meta, used = keys.set(self._name, _Meta(epoch, run)), None
        meta.run = run
        self._meta = meta
        self._used = {} if used is None else used
        self._ttl = int(ttl)

    def run(self) -> list[Any]:
        """Run it, and return its answer: bytes, whole numbers and lists of them."""
        verbs = {b"append": self._append, b"read": self._read, b"ends": self._ends}
        answer = verbs[self._verb]()
        if self._used:
            self._keys.set(self._used_name, self._used)
        else:
            self._keys.delete(self._used_name)
        self._keys.expire(self._name, self._ttl)
        self._keys.expire(self._used_name, self._ttl)
        return answer

    def _stream(self, topic: bytes) -> bytes:
        return b"%b%b:%b" % (self._prefix, self._meta.epoch, topic)

    def _append(self) -> list[Any]:
        meta = self._meta
        time, kept, max_bytes, age, max_topics, max_total_bytes, channel, *parts = self._rest
        now, max_age = float(time), float(age)
        rows: dict[bytes, _Row] = {}
        offsets = []
        messages = list(zip(parts[::3], parts[1::3], parts[2::3], strict=True))
        for topic, event, body in messages:
            row = rows.get(topic)
            if row is None:
                row = rows[topic] = meta.rows.setdefault(topic, _Row(meta.floor))
                if row.count and self._keys.get(self._stream(topic)) is None:
                    meta.messages -= row.count
                    meta.bytes -= row.size
                    row.count = row.size = 0
            message = _Message(row.last + 1, now, event, body)
            row.last += 1
            row.count += 1
            row.size += message.size
            meta.messages += 1
            meta.bytes += message.size
            meta.appends += 1
            stream: list[_Message] = self._keys.get(self._stream(topic)) or []
            self._keys.set(self._stream(topic), [*stream, message])
            self._used[topic] = meta.appends
            offsets.append(row.last)
        for topic, row in rows.items():
            self._trim(topic, row, int(kept), int(max_bytes), now - max_age)
            self._keys.expire(self._stream(topic), math.ceil(max_age * 1000))
        evicted = self._evict(int(max_topics), int(max_total_bytes))
        for (topic, event, body), offset in zip(messages, offsets, strict=True):
            head = b"%b %d %d %d\n" % (meta.epoch, offset, len(topic), len(event))
            self._publish(channel, head + topic + event + body)
        return [meta.epoch, evicted, len(self._used), meta.messages, meta.bytes, offsets]

    def _trim(self, topic: bytes, row: _Row, kept: int, max_bytes: int, oldest: float) -> None:
        stream: list[_Message] = self._keys.get(self._stream(topic))
        while stream and (row.count > kept or row.size > max_bytes or stream[0].at < oldest):
            message = stream.pop(0)
            row.count -= 1
            row.size -= message.size
            self._meta.messages -= 1
            self._meta.bytes -= message.size

    def _evict(self, max_topics: int, max_total_bytes: int) -> int:
        meta, evicted = self._meta, 0
        while len(self._used) > 1 and (
            len(self._used) > max_topics or meta.bytes > max_total_bytes
        ):
            topic = min(self._used, key=lambda each: self._used[each])
            row = meta.rows.pop(topic)
            self._keys.delete(self._stream(topic))
            del self._used[topic]
            meta.floor = max(meta.floor, row.last)
            meta.messages -= row.count
            meta.bytes -= row.size
            evicted += 1
        return evicted

    def _read(self) -> list[Any]:
        meta = self._meta
        topic, after, limit, oldest = self._rest
        row = meta.rows.get(topic)
        if row is None:
            return [meta.epoch, meta.floor + 1, meta.floor, 0, []]
        stream: list[_Message] = self._keys.get(self._stream(topic)) or []
        first = next((each.offset for each in stream if each.at >= float(oldest)), None)
        if first is None:
            return [meta.epoch, row.last + 1, row.last, 0, []]
        begin = max(first, int(after) + 1)
        found = [each for each in stream if each.offset >= begin][: int(limit)]
        parts = [part for each in found for part in (each.event, each.body)]
        return [meta.epoch, first, row.last, begin, parts]

    def _ends(self) -> list[Any]:
        meta = self._meta
        none = _Row(0)
        offsets = [meta.rows.get(topic, none).last for topic in self._rest]
        return [meta.epoch, len(self._used), meta.messages, meta.bytes, offsets]
