"""The address of whoever has a key of a registry."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, final

from actors.addresses import Via
from actors.errors import DeadProcess
from actors.refs import Pid
from actors.registry._table import strict

if TYPE_CHECKING:
    from actors.registry.registry import Registry
    from actors.runtime import Runtime

__all__ = ["RegistryVia"]


@final
class RegistryVia(Via):
    """The address that `Registry.via` makes. Two are equal if they mean the same key of the same registry."""

    __slots__ = ("key", "registry", "value")

    def __init__(self, registry: Registry[Any, Any], key: Any, value: Any) -> None:
        self.registry = registry
        self.key = key
        self.value = value

    def __repr__(self) -> str:
        return f"<{self.key!r} in {self.registry!r}>"

    def _identity(self) -> tuple[Registry[Any, Any], Hashable]:
        return self.registry, strict(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RegistryVia) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def whereis(self, runtime: Runtime) -> Pid | None:
        shelf = self.registry._shelf(runtime, closed_too=True)
        entry = shelf.table.first(self.key)
        return None if entry is None else entry.pid

    def register(self, pid: Pid) -> Pid | None:
        process = pid._process
        if process is None:
            raise DeadProcess(pid)
        return self.registry._add(process, self.key, self.value)

    def unregister(self, runtime: Runtime) -> None:
        shelf = self.registry._shelf(runtime, closed_too=True)
        entry = shelf.table.first(self.key)
        if entry is not None and entry.pid._process is not None:
            self.registry._remove(entry.pid._process, self.key, None)
