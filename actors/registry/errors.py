"""What can go wrong with a registry.

RegistryError
├── KeyTaken         your register() found the key in use
├── NotRegistered    you changed a value that your process does not have
├── NeedsUniqueKeys  you asked a registry of duplicate keys who has a key
├── RegistryClosed   the registry's owner has ended
└── LockReentered    you waited for a lock that you hold
"""

from __future__ import annotations

from actors.errors import ActorsError
from actors.refs import Pid

__all__ = [
    "KeyTaken",
    "LockReentered",
    "NeedsUniqueKeys",
    "NotRegistered",
    "RegistryClosed",
    "RegistryError",
]


class RegistryError(ActorsError):
    """Something that a `Registry` refuses. `registry` is the registry that did."""

    def __init__(self, registry: object, *details: object) -> None:
        super().__init__(registry, *details)
        self.registry = registry


class KeyTaken(RegistryError):
    """`register` was given a key that a process has already, maybe the current one; `pid` says which."""

    def __init__(self, registry: object, key: object, pid: Pid) -> None:
        super().__init__(registry, key, pid)
        self.key = key
        self.pid = pid

    def __str__(self) -> str:
        return f"{self.key!r} in {self.registry!r} belongs to {self.pid!r} already"


class NotRegistered(RegistryError, LookupError):
    """`update_value` was given a key that the current process does not have."""

    def __init__(self, registry: object, key: object, pid: Pid) -> None:
        super().__init__(registry, key, pid)
        self.key = key
        self.pid = pid

    def __str__(self) -> str:
        return (
            f"{self.pid!r} does not have {self.key!r} in {self.registry!r}; only the process that "
            "registered a key can change its value"
        )


class NeedsUniqueKeys(RegistryError, TypeError):
    """What was asked for makes sense only where a key belongs to one process; `operation` is its name."""

    def __init__(self, registry: object, operation: str) -> None:
        super().__init__(registry, operation)
        self.operation = operation

    def __str__(self) -> str:
        return (
            f"{self.registry!r} has duplicate keys, so {self.operation} cannot say which process "
            'it means; use lookup() or dispatch(), or a Registry("unique")'
        )


class RegistryClosed(RegistryError, RuntimeError):
    """The process that owned the registry has ended, and with it every entry."""

    def __str__(self) -> str:
        return (
            f"{self.registry!r} has ended with its owner; await its start_link() again, or put "
            "whatever uses it after it in the same supervisor, with strategy rest_for_one"
        )


class LockReentered(RegistryError, RuntimeError):
    """A task that holds the lock of a key wanted it once more, and would have waited for itself."""

    def __init__(self, registry: object, key: object) -> None:
        super().__init__(registry, key)
        self.key = key

    def __str__(self) -> str:
        return (
            f"this task holds the lock of {self.key!r} in {self.registry!r} already; take it once, "
            "around everything that needs it"
        )
