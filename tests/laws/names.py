"""The invariant `names`: every entry of names and registries refers to the living process that registered it."""

from __future__ import annotations

from typing import Any, ClassVar, TypeAlias

from actors.exits import ExitReason
from actors.refs import Pid
from actors.registry.registry import Registry
from supervision.laboratory.chaos.invariants.base import Invariant

__all__ = ["Names"]

AnyRegistry: TypeAlias = Registry[Any, Any]


def _tag(key: object) -> object:
    """Return a stand-in for a key that also tells 1, 1.0 and True apart, even within tuples and sets.

    A registry treats them as three keys.
    """
    if isinstance(key, tuple):
        return type(key), tuple(map(_tag, key))
    if isinstance(key, frozenset):
        return type(key), frozenset(map(_tag, key))
    return type(key), key


class Names(Invariant):
    """Every name and registry key refers to the living process that registered it.

    The invariant keeps its own table of entries. It compares this table with the runtime's tables when no task can run.
    """

    name: ClassVar[str] = "names"

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[object, Pid] = {}
        # The keys of each process in each registry, with their tags.
        self._keys: dict[AnyRegistry, dict[Pid, list[tuple[object, object]]]] = {}
        # The holders of unique keys, by tag.
        self._holders: dict[AnyRegistry, dict[object, Pid]] = {}
        # The entries of each process.
        self._names_of: dict[Pid, dict[object, None]] = {}
        self._registries_of: dict[Pid, dict[AnyRegistry, None]] = {}
        # The tables with changes since the last check.
        self._names_changed = False
        self._changed: dict[AnyRegistry, None] = {}

    # Events

    def registered(self, pid: Pid, key: object, registry: object) -> None:
        if isinstance(registry, Registry):
            self._key_given(pid, key, registry)
            return
        self._taken_already(self._names.get(key), pid, f"the name {key!r}")
        self._names[key] = pid
        self._names_of.setdefault(pid, {})[key] = None
        self._names_changed = True

    def _key_given(self, pid: Pid, key: object, registry: AnyRegistry) -> None:
        tag = _tag(key)
        if registry.unique:
            holders = self._holders.setdefault(registry, {})
            self._taken_already(holders.get(tag), pid, f"the key {key!r} of {registry!r}")
            holders[tag] = pid
        self._keys.setdefault(registry, {}).setdefault(pid, []).append((tag, key))
        self._registries_of.setdefault(pid, {})[registry] = None
        self._changed[registry] = None

    def _taken_already(self, holder: Pid | None, pid: Pid, what: str) -> None:
        if holder is not None:
            self.violated(f"{self.who(pid)} got {what}, which {self.who(holder)} already has")

    def unregistered(self, pid: Pid, key: object, registry: object) -> None:
        if isinstance(registry, Registry):
            tag, entries = _tag(key), self._keys.get(registry, {}).get(pid, [])
            for index, (other, _) in enumerate(entries):
                if other == tag:
                    del entries[index]
                    break
            self._holders.get(registry, {}).pop(tag, None)
            self._changed[registry] = None
            return
        self._names.pop(key, None)
        self._names_of.get(pid, {}).pop(key, None)
        self._names_changed = True

    def registry_closed(self, registry: object) -> None:
        if isinstance(registry, Registry):
            self._keys.pop(registry, None)
            self._holders.pop(registry, None)
            self._changed[registry] = None

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        for name in self._names_of.pop(pid, ()):
            self._names.pop(name, None)
            self._names_changed = True
        for registry in self._registries_of.pop(pid, ()):
            for tag, _ in self._keys.get(registry, {}).pop(pid, ()):
                self._holders.get(registry, {}).pop(tag, None)
            self._changed[registry] = None

    # At rest

    def at_rest(self) -> str | None:
        problem = None
        if self._names_changed:
            self._names_changed = False
            problem = self._wrong_name()
        while self._changed and problem is None:
            problem = self._wrong_key(self._changed.popitem()[0])
        return problem

    def _wrong_name(self) -> str | None:
        runtime = self.runtime
        for name, pid in self._names.items():
            found = runtime.names.get(name)
            if found is None or found.pid is not pid:
                leads = "no process" if found is None else self.who(found.pid)
                return f"{self.who(pid)} lives and has the name {name!r}, but the name leads to {leads}"
        for name, process in runtime.names.items():
            if name not in self._names:
                return f"the name {name!r} leads to {self.who(process.pid)}, which has ended or never had it"
        return None

    def _wrong_key(self, registry: AnyRegistry) -> str | None:
        found: dict[Pid, list[tuple[object, object]]] = {}
        for entry in registry.entries_in(self.runtime):
            found.setdefault(entry.pid, []).append((_tag(entry.key), entry.key))
        expected = self._keys.get(registry, {})
        for pid, entries in expected.items():
            there = [tag for tag, _ in found.get(pid, ())]
            missing = [key for tag, key in entries if tag not in there]
            if missing:
                return (
                    f"{self.who(pid)} lives and has registered {missing[0]!r} in {registry!r}, "
                    "but is not found under that key"
                )
        for pid, entries in found.items():
            mine = [tag for tag, _ in expected.get(pid, ())]
            left = [key for tag, key in entries if tag not in mine]
            if left or len(entries) != len(mine):
                key = left[0] if left else entries[0][1]
                return f"{key!r} in {registry!r} leads to {self.who(pid)}, which has ended or no longer has it"
        return None
