"""The keys of `SimulatedRedis`, and the calls of scripts that read and write them.

A script of a real server is text in Lua. `SimulatedRedis` runs a function in Python in its place: see `SCRIPTS` in
`channels.laboratory.simulated_redis`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from attrs import frozen

__all__ = ["Keyspace", "Script", "ScriptCall"]


class Keyspace:
    """The keys of a database, some of which expire.

    Args:
        now: returns the time of day of the server, in seconds. A real server expires keys by it too.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._values: dict[bytes, Any] = {}
        self._deadlines: dict[bytes, float] = {}

    def get(self, key: bytes) -> Any:
        """Return the value of a key, or None."""
        if self._deadlines.get(key, math.inf) <= self._now():
            self.delete(key)
        return self._values.get(key)

    def set(self, key: bytes, value: Any) -> Any:
        """Give a key a value, and return it. The key expires when it would have expired before."""
        self._values[key] = value
        return value

    def expire(self, key: bytes, milliseconds: float) -> None:
        """Set the time until a key expires, if the key exists."""
        if self.get(key) is not None:
            self._deadlines[key] = self._now() + milliseconds / 1000

    def delete(self, key: bytes) -> bool:
        """Remove a key. Return True if it existed."""
        self._deadlines.pop(key, None)
        return self._values.pop(key, None) is not None


@frozen
class ScriptCall:
    """A call of a script.

    Attributes:
        keys: the database of the client.
        publish: takes a channel and a message, and returns the number of subscribers, as PUBLISH does.
        now: returns the time of day of the server in seconds, as TIME does.
        names: KEYS of the script.
        arguments: ARGV of the script.
    """

    keys: Keyspace
    publish: Callable[[bytes, bytes], int]
    now: Callable[[], float]
    names: Sequence[bytes]
    arguments: Sequence[bytes]


Script: TypeAlias = Callable[[ScriptCall], Any]
"""Runs a call in one step. Returns the answer: bytes, whole numbers, None, and lists of these."""
