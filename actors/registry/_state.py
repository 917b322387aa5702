"""What a registry has in one runtime, and the end of it."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from actors._kernel.process import Process
from actors._kernel.runtime import Runtime
from actors.exits import NORMAL, SHUTDOWN, ExitReason
from actors.refs import Pid
from actors.registry._key_locks import KeyLocks
from actors.registry._table import RegistryTable

__all__ = ["CloseWithOwner", "Shelf"]

K = TypeVar("K")
V = TypeVar("V")


class Shelf(Generic[K, V]):
    """What a registry has in one runtime."""

    __slots__ = ("closed", "locks", "meta", "table")

    def __init__(self) -> None:
        self.table: RegistryTable[K, V] = RegistryTable()
        self.locks = KeyLocks()
        self.meta: dict[Any, Any] = {}
        self.closed = False

    def forget(self, process: Process) -> None:
        """A process has no entry any more, so its end does not matter here."""
        if process.cleanups is not None:
            process.cleanups.pop(self, None)


class CloseWithOwner:
    """Closes a registry inside the end of its owner."""

    __slots__ = ("registry", "runtime", "shelf")

    def __init__(self, registry: object, shelf: Shelf[Any, Any], runtime: Runtime) -> None:
        self.registry = registry
        self.shelf = shelf
        self.runtime = runtime

    def down(self, pid: Pid, reason: ExitReason) -> None:
        shelf, table = self.shelf, self.shelf.table
        registrants = table.pids()
        shelf.closed = True
        shelf.table = RegistryTable()
        shelf.meta = {}
        for instrument in self.runtime.instruments:
            instrument.registry_closed(self.registry)
        for registrant in registrants:
            self.runtime.signal(
                pid, registrant, SHUTDOWN if reason is NORMAL else reason, linked=True
            )
