"""The entries of one registry, as a value: which process has which key, with which value.

*pure*: no task, clock or runtime; pids are only compared. Everything is in the order in which it was registered.

Keys are compared strictly, as `===` of Elixir does: 1, 1.0 and True are three keys, which a dict would take for one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from attrs import define, evolve, frozen

from actors.refs import Pid

__all__ = ["Entry", "Registered", "RegistryTable", "Unregistered", "strict"]

K = TypeVar("K")
V = TypeVar("V")


@frozen
class Entry(Generic[K, V]):
    """One registration: a process has a key, with a value."""

    key: K
    pid: Pid
    value: V


@define
class Registered:
    """To a listener: a process registered a key."""

    registry: Any
    """The `Registry`."""
    key: Any
    pid: Pid
    value: Any


@define
class Unregistered:
    """To a listener: a process has a key no longer. One message for each entry that was removed."""

    registry: Any
    """The `Registry`."""
    key: Any
    pid: Pid
    value: Any


def strict(key: object) -> Hashable:
    """A stand-in for a key, which is equal to that of another key only if their types are equal too.

        strict(1) == strict(1.0)            # False
        strict((1, "a")) == strict((True, "a"))    # False: tuples and frozensets, at every depth

    What is inside other values is compared as they compare it.

    Raises:
        TypeError: the key is not hashable.
    """
    kind = type(key)
    if kind is str:
        return key  # most keys are; and nothing below is a plain string
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
    """Entries by key and by process. Registering, and finding a key or a process, takes constant time."""

    __slots__ = ("_by_key", "_by_pid", "_count", "_serial")

    def __init__(self) -> None:
        self._by_key: dict[Hashable, dict[int, Entry[K, V]]] = {}
        self._by_pid: dict[Pid, dict[int, Hashable]] = {}
        self._serial = 0
        self._count = 0

    def __len__(self) -> int:
        """How many entries there are."""
        return self._count

    def add(self, key: K, pid: Pid, value: V) -> None:
        """Add an entry, beside those that the key has."""
        tag = strict(key)
        self._serial = serial = self._serial + 1
        self._by_key.setdefault(tag, {})[serial] = Entry(key, pid, value)
        self._by_pid.setdefault(pid, {})[serial] = tag
        self._count += 1

    def lookup(self, key: K) -> list[Entry[K, V]]:
        """The entries of a key."""
        entries = self._by_key.get(strict(key))
        return list(entries.values()) if entries is not None else []

    def first(self, key: K) -> Entry[K, V] | None:
        """The oldest entry of a key: the only one, where keys are unique."""
        entries = self._by_key.get(strict(key))
        return next(iter(entries.values())) if entries is not None else None

    def entries(self) -> list[Entry[K, V]]:
        """All entries, those of one key together."""
        return [entry for entries in self._by_key.values() for entry in entries.values()]

    def keys(self, pid: Pid) -> list[K]:
        """The keys of a process, each as often as it is registered."""
        tags = self._by_pid.get(pid, {})
        return [self._by_key[tag][serial].key for serial, tag in tags.items()]

    def pids(self) -> list[Pid]:
        """The processes that have an entry."""
        return list(self._by_pid)

    def has(self, pid: Pid) -> bool:
        """Whether a process has an entry."""
        return pid in self._by_pid

    def replace(self, key: K, pid: Pid, value: V) -> bool:
        """Give the entry that a process has for a key another value. False if it has none."""
        entries = self._by_key.get(strict(key), {})
        for serial, entry in entries.items():
            if entry.pid is pid:
                entries[serial] = evolve(entry, value=value)
                return True
        return False

    def remove(
        self, key: K, pid: Pid, match: Callable[[V], bool] | None = None
    ) -> list[Entry[K, V]]:
        """Remove the entries that a process has for a key and whose value matches. Returns them."""
        tag = strict(key)
        # All are looked at before one is removed: if `match` raises, nothing has happened.
        found = [
            serial
            for serial, entry in list(self._by_key.get(tag, {}).items())
            if entry.pid is pid and (match is None or match(entry.value))
        ]
        return [
            self._remove(serial, tag, pid)
            for serial in found
            if serial in self._by_key.get(tag, {})  # `match` may have done something here, too
        ]

    def remove_process(self, pid: Pid) -> list[Entry[K, V]]:
        """Remove all entries of a process. Returns them."""
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
