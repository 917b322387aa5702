"""The script of `RedisStorage` in Python, for `SimulatedRedis`.

This script has the same steps and the same keys as `channels.durable.redis_script.SCRIPT`. One suite tests both
scripts, and tests/integration/test_redis_server_contract.py compares their answers to random calls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from channels.laboratory.keyspace import ScriptCall

__all__ = ["run_history_script"]


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
        self.floor = self.bytes = self.messages = self.appends = self.key_bytes = 0
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


class _Value:
    """The value of a remembered key."""

    def __init__(self, number: int, at: float, value: bytes) -> None:
        self.number = number
        self.at = at
        self.value = value


def run_history_script(call: ScriptCall) -> list[Any]:
    """Run the script, and return its answer."""
    return _Run(call).answer()


class _Run:
    """One run of the script."""

    def __init__(self, call: ScriptCall) -> None:
        keys, names = call.keys, call.names
        self._keys = keys
        self._publish = call.publish
        self._names = tuple(names)
        self._verb, self._prefix, epoch, run, keeps, ttl, *self._rest = call.arguments
        meta_name, used_name, values_name, order_name, self._fences_name = names
        meta: _Meta | None = keys.get(meta_name)
        used: dict[bytes, int] = keys.get(used_name) or {}
        whole = meta is not None and len(meta.rows) == len(used)
        if meta is None or not whole or (meta.run != run and keeps != b"1"):
            for name in names:
                keys.delete(name)
            meta, used = keys.set(meta_name, _Meta(epoch, run)), {}
        meta.run = run
        self._meta = meta
        # Copy them, so that an empty copy does not become a key.
        self._used = dict(used)
        self._values: dict[bytes, _Value] = dict(keys.get(values_name) or {})
        self._order: dict[bytes, int] = dict(keys.get(order_name) or {})
        self._ttl = int(ttl)

    def answer(self) -> list[Any]:
        verbs = {
            b"append": self._append,
            b"claim": self._claim,
            b"recall": self._recall,
            b"read": self._read,
            b"ends": self._ends,
        }
        answer = verbs[self._verb]()
        meta_name, used_name, values_name, order_name, fences_name = self._names
        self._store(used_name, self._used)
        self._store(values_name, self._values)
        self._store(order_name, self._order)
        self._keys.expire(meta_name, self._ttl)
        self._keys.expire(used_name, self._ttl)
        self._keys.expire(fences_name, self._ttl)
        return answer

    def _store(self, name: bytes, value: dict[bytes, Any]) -> None:
        if value:
            self._keys.set(name, value)
        else:
            self._keys.delete(name)

    def _stream(self, topic: bytes) -> bytes:
        return b"%b%b:%b" % (self._prefix, self._meta.epoch, topic)

    # Remembered keys

    def _recalled(self, key: bytes, oldest: float) -> bytes | None:
        found = self._values.get(key)
        return found.value if found is not None and found.at >= oldest else None

    def _forget(self, key: bytes) -> None:
        found = self._values.pop(key, None)
        if found is not None:
            self._meta.key_bytes -= len(key) + len(found.value)
            del self._order[key]

    def _remember(self, key: bytes, value: bytes, now: float) -> None:
        self._forget(key)
        self._meta.appends += 1
        self._meta.key_bytes += len(key) + len(value)
        self._values[key] = _Value(self._meta.appends, now, value)
        self._order[key] = self._meta.appends

    def _trim_keys(self, max_keys: int, max_bytes: int, oldest: float) -> int:
        forgotten = 0
        while self._order:
            key = min(self._order, key=lambda each: self._order[each])
            if self._values[key].at >= oldest:
                if len(self._order) <= max_keys and self._meta.key_bytes <= max_bytes:
                    break
                forgotten += 1
            self._forget(key)
        return forgotten

    # Verbs

    def _append(self) -> list[Any]:
        meta, rest = self._meta, self._rest
        now, max_age, max_key_age = float(rest[0]), float(rest[3]), float(rest[8])
        channel, first_answer = rest[9], 11 + 5 * int(rest[10])
        parts, pairs = rest[11:first_answer], rest[first_answer:]
        refused = self._refused(parts[::5], parts[4::5])
        if refused:
            return [meta.epoch, self._size(), [], 0, [], [], 0, refused]
        if len(self._values) != len(self._order):
            self._values, self._order = {}, {}
        if not self._values:
            meta.key_bytes = 0
        rows: dict[bytes, _Row] = {}
        offsets: list[int] = []
        repeated: list[int] = []
        news: list[bytes] = []
        has_keys = bool(pairs)
        batch = zip(parts[::5], parts[1::5], parts[2::5], parts[3::5], strict=True)
        for topic, event, body, key in batch:
            first = self._recalled(key, now - max_key_age) if key else None
            if first is not None:
                repeated.append(len(offsets))
                offsets.append(int(first))
                continue
            last = self._add(rows, topic, _Message(0, now, event, body))
            offsets.append(last)
            head = b"%b %d %d %d\n" % (meta.epoch, last, len(topic), len(event))
            news.append(head + topic + event + body)
            if key:
                has_keys = True
                self._remember(key, b"%d" % last, now)
        for topic, row in rows.items():
            self._trim(topic, row, int(rest[1]), int(rest[2]), now - max_age)
            self._keys.expire(self._stream(topic), math.ceil(max_age * 1000))
        evicted = self._evict(int(rest[4]), int(rest[5]))
        answers = [
            self._answer(key, body, now, max_key_age)
            for key, body in zip(pairs[::2], pairs[1::2], strict=True)
        ]
        forgotten = 0
        if has_keys:
            forgotten = self._trim_keys(int(rest[6]), int(rest[7]), now - max_key_age)
            self._expire_keys(math.ceil(max_key_age * 1000))
        for text in news:
            self._publish(channel, text)
        return [meta.epoch, self._size(), offsets, evicted, repeated, answers, forgotten, []]

    def _refused(self, topics: Sequence[bytes], fences: Sequence[bytes]) -> list[int]:
        """Return the index and the claimed fence of each message with a wrong fence."""
        claims: dict[bytes, int] = self._keys.get(self._fences_name) or {}
        refused: list[int] = []
        for place, (topic, fence) in enumerate(zip(topics, fences, strict=True)):
            claimed = claims.get(b"t:" + topic)
            if claimed != (int(fence) if fence else None):
                refused += (place, claimed or 0)
        return refused

    def _claim(self) -> list[Any]:
        topic, fence, max_fences, id, milliseconds = self._rest
        # Copy it, so that a refused claim does not create the key.
        claims: dict[bytes, int] = dict(self._keys.get(self._fences_name) or {b"floor": 0})
        member, number, mine = b"t:" + topic, int(fence), b"%bclaim:%b" % (self._prefix, id)
        claimed = claims.get(member, claims[b"floor"])
        if number == claimed and self._keys.get(mine) is not None:
            return [self._meta.epoch, self._size(), [], 0]
        if number <= claimed:
            return [self._meta.epoch, self._size(), [claimed], 0]
        claims[member] = number
        self._keys.set(mine, b"")
        self._keys.expire(mine, int(milliseconds))
        forgotten = max(0, len(claims) - 1 - int(max_fences))
        for _ in range(forgotten):
            rest = (each for each in claims if each != b"floor")
            oldest = min(rest, key=lambda each: (claims[each], each))
            claims[b"floor"] = claims.pop(oldest)
        self._keys.set(self._fences_name, claims)
        return [self._meta.epoch, self._size(), [], forgotten]

    def _add(self, rows: dict[bytes, _Row], topic: bytes, message: _Message) -> int:
        """Add a message to its stream. Return its offset."""
        meta, name = self._meta, self._stream(topic)
        row = rows.get(topic)
        if row is None:
            row = rows[topic] = meta.rows.setdefault(topic, _Row(meta.floor))
            if row.count and self._keys.get(name) is None:
                meta.messages -= row.count
                meta.bytes -= row.size
                row.count = row.size = 0
        row.last += 1
        row.count += 1
        row.size += message.size
        meta.messages += 1
        meta.bytes += message.size
        meta.appends += 1
        message.offset = row.last
        stream: list[_Message] = self._keys.get(name) or []
        self._keys.set(name, [*stream, message])
        self._used[topic] = meta.appends
        return row.last

    def _answer(self, key: bytes, body: bytes, now: float, max_age: float) -> bytes:
        first = self._recalled(key, now - max_age)
        if first is None:
            self._remember(key, body, now)
        return body if first is None else first

    def _expire_keys(self, milliseconds: int) -> None:
        _, _, values_name, order_name, _ = self._names
        self._store(values_name, self._values)
        self._store(order_name, self._order)
        self._keys.expire(values_name, milliseconds)
        self._keys.expire(order_name, milliseconds)

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

    def _size(self) -> list[int]:
        meta = self._meta
        claims = max(0, len(self._keys.get(self._fences_name) or ()) - 1)
        return [len(self._used), meta.messages, meta.bytes, len(self._values), meta.appends, claims]

    def _recall(self) -> list[Any]:
        key, oldest = self._rest
        found = self._recalled(key, float(oldest))
        return [self._meta.epoch, [] if found is None else [found]]

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
        rows = self._meta.rows
        none = _Row(0)
        return [self._meta.epoch, self._size(), [rows.get(each, none).last for each in self._rest]]
