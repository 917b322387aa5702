"""The entries of one registry, as a value: keys, processes and values.

*pure*: the table uses no task, clock or runtime, and only compares pids. It keeps the order of registration.

The table compares keys strictly, as Elixir's `===` does: 1, 1.0 and True are three keys. A dict would treat them as one
key.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

import msgspec

from actors.refs import Pid

__all__ = ["Entry", "Registered", "RegistryTable", "Unregistered", "strict"]

K = TypeVar("K")
V = TypeVar("V")


class Entry(msgspec.Struct, Generic[K, V], frozen=True):
    """One registration: a process has a key, with a value."""

    key: K
    pid: Pid
    value: V


class Registered(msgspec.Struct, frozen=True):
    """A message to a listener: a process registered a key."""

    registry: Any
    """The `Registry`."""
    key: Any
    pid: Pid
    value: Any


class Unregistered(msgspec.Struct, frozen=True):
    """A message to a listener: a process lost an entry. The listener gets one message for each lost entry."""

    registry: Any
    """The `Registry`."""
    key: Any
    pid: Pid
    value: Any


def strict(key: object) -> Hashable:
    """Return a stand-in for a key. Two stand-ins are equal only if the types of the keys are equal too.

        strict(1) == strict(1.0)            # False
        strict((1, "a")) == strict((True, "a"))    # False: tuples and frozensets, at every depth

    Other values use their own `==` for their contents.

    Raises:
        TypeError: The key is not hashable.
    """
    kind = type(key)
    if kind is str:
        return key  # the common case; no stand-in below is a plain string
    if isinstance(key, tuple):
        return kind, tuple(map(strict, key))
    if isinstance(key, frozenset):
        return kind, frozenset(map(strict, key))
    try:
        hash(key)
    except TypeError:
        raise TypeError(
            f"the key {key!r} is not hashable, so it could change while it is registered; "
            "write a string, a number or a tuple"
        ) from None
    return kind, key


class RegistryTable(Generic[K, V]):
    """Entries by key and by process. Registering takes constant time, and so does finding a key or a process."""

    __slots__ = ("_by_key", "_by_pid", "_count", "_serial")

    def __init__(self) -> None:
        self._by_key: dict[Hashable, dict[int, Entry[K, V]]] = {}
        self._by_pid: dict[Pid, dict[int, Hashable]] = {}
        self._serial = 0
        self._count = 0

    def __len__(self) -> int:
        """Return the number of entries."""
        return self._count

    def add(self, key: K, pid: Pid, value: V) -> None:
        """Add an entry. The key may have other entries."""
        tag = strict(key)
        self._serial = serial = self._serial + 1
        self._by_key.setdefault(tag, {})[serial] = Entry(key, pid, value)
        self._by_pid.setdefault(pid, {})[serial] = tag
        self._count += 1

    def lookup(self, key: K) -> list[Entry[K, V]]:
        """Return the entries of a key."""
        entries = self._by_key.get(strict(key))
        return list(entries.values()) if entries is not None else []

    def first(self, key: K) -> Entry[K, V] | None:
        """Return the oldest entry of a key, or None. A unique key has only one entry."""
        entries = self._by_key.get(strict(key))
        return next(iter(entries.values())) if entries is not None else None

    def entries(self) -> list[Entry[K, V]]:
        """Return all entries, grouped by key."""
        return [entry for entries in self._by_key.values() for entry in entries.values()]

    def keys(self, pid: Pid) -> list[K]:
        """Return the keys of a process, one for each entry."""
        tags = self._by_pid.get(pid, {})
        return [self._by_key[tag][serial].key for serial, tag in tags.items()]

    def pids(self) -> list[Pid]:
        """Return the processes that have an entry."""
        return list(self._by_pid)

    def has(self, pid: Pid) -> bool:
        """Return True if a process has an entry."""
        return pid in self._by_pid

    def replace(self, key: K, pid: Pid, value: V) -> bool:
        """Replace the value of a process's entry for a key. Return False if the process has no such entry."""
        entries = self._by_key.get(strict(key), {})
        for serial, entry in entries.items():
            if entry.pid is pid:
                entries[serial] = msgspec.structs.replace(entry, value=value)
                return True
        return False

    def remove(
        self, key: K, pid: Pid, match: Callable[[V], bool] | None = None
    ) -> list[Entry[K, V]]:
        """Remove and return the entries of a process for a key whose value matches."""
        tag = strict(key)
        # Match all entries before the first removal, so that nothing has changed if `match` raises.
        found = [
            serial
            for serial, entry in list(self._by_key.get(tag, {}).items())
            if entry.pid is pid and (match is None or match(entry.value))
        ]
        return [
            self._remove(serial, tag, pid)
            for serial in found
            if serial in self._by_key.get(tag, {})  # `match` may have removed entries itself
        ]

    def remove_process(self, pid: Pid) -> list[Entry[K, V]]:
        """Remove and return all entries of a process."""
        tags = self._by_pid.get(pid, {})
        return [self._remove(serial, tag, pid) for serial, tag in list(tags.items())]

    def _remove(self, serial: int, tag: Hashable, pid: Pid) -> Entry[K, V]:
        entries, tags = self._by_key[tag], self._by_pid[pid]
        entry = entries.pop(serial)
        del tags[serial]
        if not entries:
            del self._by_key[tag]
        if not tags:
            del self._by_pid[pid]
        self._count -= 1
        return entry
