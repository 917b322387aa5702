"""The scripts of the Redis arbiter in Python, for `SimulatedRedis`.

They have the same steps and the same keys as the scripts of `channels.entities.arbiters.redis_scripts`. A test compares
their answers to random calls with those of a real server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from channels.entities.arbiters import redis_scripts
from channels.laboratory.keyspace import Script, ScriptCall

__all__ = ["ARBITER_SCRIPTS"]


class _Record(NamedTuple):
    fence: int
    arrived: int
    number: bytes
    node: bytes


class _Run:
    """One run of a script: the common beginning, and one method for each script."""

    def __init__(self, call: ScriptCall) -> None:
        run, lease, self.prefix, self.node, self.number, *self.rest = call.arguments
        self.run, self.lease, self.keys = run, int(lease), call.keys
        self.meta_name, self.owners_name, self.alarms_name = call.names
        self.now = int(call.now() * 1_000_000)
        self.meta: dict[str, Any] = self.hash(self.meta_name)
        if self.meta.get("run") != run or self.meta["quiet"] - self.now > self.lease * 1000:
            self.meta |= {"run": run, "quiet": self.now + self.lease * 1000}
        self.wait: int = self.meta["quiet"] - self.now

    def hash(self, name: bytes) -> dict[Any, Any]:
        """Return a hash or a sorted set, to read and to change it."""
        found: dict[Any, Any] | None = self.keys.get(name)
        return self.keys.set(name, {}) if found is None else found

    @property
    def owners(self) -> dict[bytes, _Record]:
        return self.hash(self.owners_name)

    @property
    def alarms(self) -> dict[bytes, float]:
        return self.hash(self.alarms_name)

    def lives(self, node: bytes, number: bytes) -> bool:
        return bool(self.keys.get(self.prefix + node) == number)

    def set_session(self) -> None:
        self.keys.set(self.prefix + self.node, self.number)
        self.keys.expire(self.prefix + self.node, self.lease)

    def grant(self, key: bytes, at_least: int, arrived: int, number: bytes, node: bytes) -> Any:
        fence = max(self.now, self.meta.get("last", 0) + 1, at_least)
        self.meta["last"] = fence
        self.owners[key] = _Record(fence, arrived, number, node)
        return [1, fence, arrived]

    def refusal(self, key: bytes, fence: bytes) -> Any:
        record, lives = self.owners.get(key), self.lives(self.node, self.number)
        mine = record is not None and (record.node, record.number) == (self.node, self.number)
        if record is not None and mine and lives and record.fence == int(fence):
            return None
        if self.wait > 0:
            return [3, self.wait]
        return [2] if lives else [0]

    # The scripts

    def open(self) -> Any:
        held = self.keys.get(self.prefix + self.node)
        if held is not None and int(held) >= int(self.number):
            return [0]
        self.set_session()
        return [1]

    def close(self) -> Any:
        if self.lives(self.node, self.number):
            self.keys.delete(self.prefix + self.node)
        return [1]

    def renew(self) -> Any:
        restored, cursor, count, ttl = self.rest
        lives = self.lives(self.node, self.number)
        if restored != self.run or (self.wait > 0 and not lives):
            return [3, 0]
        if not lives:
            return [0]
        self.keys.expire(self.prefix + self.node, self.lease)
        self.keys.expire(self.meta_name, int(ttl))
        self.keys.expire(self.owners_name, int(ttl))
        if self.wait > 0:
            return [1, 0]
        begin, end = int(cursor), int(cursor) + int(count)
        records = list(self.owners.items())
        for key, record in records[begin:end]:
            if not self.lives(record.node, record.number):
                del self.owners[key]
        return [1, end if end < len(records) else 0]

    def restore(self) -> Any:
        held = self.keys.get(self.prefix + self.node)
        if self.wait <= 0 or held not in (None, self.number):
            return [0]
        last = self.meta.get("last", 0)
        for key, text, arrived in zip(*[iter(self.rest)] * 3, strict=True):
            fence, theirs = int(text), self.owners.get(key)
            if theirs is not None and theirs.fence >= fence:
                if (theirs.node, theirs.number) != (self.node, self.number):
                    return [0]
            else:
                self.owners[key] = _Record(fence, int(arrived), self.number, self.node)
                last = max(last, fence)
        self.meta["last"] = last
        self.set_session()
        return [1]

    def acquire(self) -> Any:
        if self.wait > 0:
            return [3, self.wait]
        if not self.lives(self.node, self.number):
            return [0]
        key, at_least = self.rest[0], int(self.rest[1])
        record = self.owners.get(key)
        if record is not None:
            if (record.node, record.number) == (self.node, self.number):
                if record.fence >= at_least:
                    return [1, record.fence, record.arrived]
            elif self.lives(record.node, record.number):
                return [2, record.node]
        return self.grant(key, at_least, 0, self.number, self.node)

    def release(self) -> Any:
        key, fence = self.rest
        answer = self.refusal(key, fence)
        if answer is not None:
            return answer
        del self.owners[key]
        return [1]

    def transfer(self) -> Any:
        key, fence, to = self.rest
        answer = self.refusal(key, fence)
        if answer is not None:
            return answer
        number = self.keys.get(self.prefix + to)
        if number is None and self.wait > 0:
            return [3, self.wait]
        if number is None or to == self.node:
            return [2]
        return self.grant(key, 0, 1, number, to)

    def set_alarm(self) -> Any:
        key, fence, at = self.rest
        answer = self.refusal(key, fence)
        if answer is not None:
            return answer
        self.alarms.pop(key, None)
        if at:
            self.alarms[key] = float(at)
        return [1]

    def due_alarms(self) -> Any:
        until, limit = float(self.rest[0]), int(self.rest[1])
        due = sorted((at, key) for key, at in self.alarms.items() if at <= until)
        return [1, [part for at, key in due[:limit] for part in (key, b"%.17g" % at)]]

    def clear_alarm(self) -> Any:
        key, at = self.rest
        if self.alarms.get(key) == float(at):
            del self.alarms[key]
        return [1]

    def owner(self) -> Any:
        record = self.owners.get(self.rest[0])
        if record is not None and self.lives(record.node, record.number):
            return [1, record.node]
        return [3, self.wait] if self.wait > 0 else [2]


def _runner(method: Callable[[_Run], Any]) -> Script:
    def run(call: ScriptCall) -> Any:
        answer = method(_Run(call))
        for name in call.names:
            # An empty hash or sorted set does not exist.
            if not call.keys.get(name):
                call.keys.delete(name)
        return answer

    return run


ARBITER_SCRIPTS: Mapping[bytes, Script] = {
    script.text.encode(): _runner(method)
    for script, method in (
        (redis_scripts.OPEN, _Run.open),
        (redis_scripts.CLOSE, _Run.close),
        (redis_scripts.RENEW, _Run.renew),
        (redis_scripts.RESTORE, _Run.restore),
        (redis_scripts.ACQUIRE, _Run.acquire),
        (redis_scripts.RELEASE, _Run.release),
        (redis_scripts.TRANSFER, _Run.transfer),
        (redis_scripts.SET_ALARM, _Run.set_alarm),
        (redis_scripts.DUE_ALARMS, _Run.due_alarms),
        (redis_scripts.CLEAR_ALARM, _Run.clear_alarm),
        (redis_scripts.OWNER, _Run.owner),
    )
}
"""For the text of each script of the Redis arbiter, its function in Python."""
