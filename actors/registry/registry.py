"""Registries: which process has which key, and what it says about it.

    rooms = Registry[str, Topic]("unique", name="rooms")

    async with open_runtime():
        await Room.start_link(name=rooms.via("lobby"))
        await call(rooms.via("lobby"), "who is here?")

A plain name (`start_link(name="lobby")`) is one name for each process, in one namespace for the whole runtime. A
registry is a namespace of its own: a process may have any number of keys, each with a value; with "unique" keys each
belongs to one process, with "duplicate" keys to as many as like it. Entries vanish inside the end of their process,
before anybody can learn of the end: whoever has received the `Down` finds the key free.

Made after Elixir's Registry. Two things are simpler here. The entries belong to the runtime and not to processes of
the registry's own, so a registry needs no start, and cannot crash; `start_link` is for giving it a lifetime. And what
is written in Elixir as a match spec with guards is a function here, because a Python function that is handed the value
costs nothing: everything is in one memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Generic, Literal, TypeVar, final
from weakref import WeakKeyDictionary

from actors._kernel.current import require_process, require_runtime
from actors._kernel.runtime import Process, Runtime, record_of
from actors.addresses import Via
from actors.errors import ActorsError, DeadProcess
from actors.exits import NORMAL, SHUTDOWN, ExitReason
from actors.refs import Pid
from actors.registry._key_locks import KeyLocks
from actors.registry._table import Entry, Registered, RegistryTable, Unregistered, strict
from actors.servers.gen_server import GenServer

__all__ = [
    "Entry",
    "KeyTaken",
    "LockReentered",
    "NeedsUniqueKeys",
    "NotRegistered",
    "Registered",
    "Registry",
    "RegistryClosed",
    "RegistryError",
    "Unregistered",
]

K = TypeVar("K")
V = TypeVar("V")


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


@final
class Registry(Generic[K, V]):
    """A namespace of processes. Make one, at the top of a module or anywhere else, and use it in any runtime.

        readers = Registry[str, Tastes]("duplicate", name="readers")

        readers.register("news", tastes)                    # in the process that reads
        for entry in readers.lookup("news"):                # in any task of the runtime
            send(entry.pid, item)

    The object is a handle: each runtime has entries of its own under it. Reading works in every task of a runtime,
    registering only in a process, and for that process. Nothing here waits but `lock` and `start_link`.

    Keys are compared strictly: 1, 1.0 and True are three keys, inside tuples and frozensets too.

    Args:
        keys: `"unique"`: a key belongs to one process. `"duplicate"`: to any number, and to one process several
            times.
        name: for messages, and the registered name of the owner that `start_link` starts.
        partitions: into how many groups `dispatch` divides the processes of a key, at least 1. In Elixir it also
            spreads contention, which one thread does not have.
        listeners: names (or pids) of processes that get `Registered` and `Unregistered` messages. One that does not
            exist is passed over.
        notify_on_exit: tell the listeners of the entries that vanish with their process, too. By default they are
            told of calls alone, as in Elixir, and monitor what they care for.

    Raises:
        ValueError: `keys` or `partitions` is something else.
        TypeError: `listeners` is one name and not a sequence of them.
    """

    def __init__(
        self,
        keys: Literal["unique", "duplicate"],
        *,
        name: object = None,
        partitions: int = 1,
        listeners: Iterable[object] = (),
        notify_on_exit: bool = False,
    ) -> None:
        if keys not in ("unique", "duplicate"):
            raise ValueError(f'keys is {keys!r}; write Registry("unique") or Registry("duplicate")')
        if not isinstance(partitions, int) or isinstance(partitions, bool) or partitions < 1:
            raise ValueError(f"partitions is {partitions!r}; write a whole number from 1")
        if isinstance(listeners, str | bytes):
            raise TypeError(
                f"listeners is {listeners!r}; write a sequence of names: ({listeners!r},)"
            )
        self.unique = keys == "unique"
        self.name = name
        self.partitions = partitions
        self.listeners = tuple(listeners)
        self.notify_on_exit = notify_on_exit
        # Weak: a registry at the top of a module outlives every runtime.
        self._states: WeakKeyDictionary[Runtime, RegistryState[K, V]] = WeakKeyDictionary()

    def __repr__(self) -> str:
        kind = "unique" if self.unique else "duplicate"
        return f"<{kind} registry>" if self.name is None else f"<{kind} registry {self.name!r}>"

    # Registering: the current process, for itself

    def register(self, key: K, value: V = None) -> None:  # type: ignore[assignment] # without one V is None
        """Give the current process a key, until it ends or unregisters it.

        Raises:
            KeyTaken: keys are unique and a process has it, even if that is this one.
            NotAProcess: the caller is not a process.
            RegistryClosed: the registry's owner has ended.
        """
        holder = self._add(require_process("Registry.register"), key, value)
        if holder is not None:
            raise KeyTaken(self, key, holder)

    def unregister(self, key: K) -> None:
        """Take a key away from the current process, every entry that it has for it. Having none is no error."""
        self._remove(require_process("Registry.unregister"), key, None)

    def unregister_match(self, key: K, match: Callable[[V], bool]) -> None:
        """Like `unregister`, but only entries for whose value `match` is true. If it raises, nothing is removed."""
        self._remove(require_process("Registry.unregister_match"), key, match)

    def update_value(self, key: K, function: Callable[[V], V]) -> tuple[V, V]:
        """Change the value that the current process has for a key to what `function` makes of it.

        Returns:
            The new value and the old one.

        Raises:
            NotRegistered: the current process does not have the key.
            NeedsUniqueKeys: keys are duplicate.
        """
        self._want_unique("update_value")
        process = require_process("Registry.update_value")
        table = self._state_in(process.runtime).table
        entry = table.first(key)
        if entry is None or entry.pid is not process.pid:
            raise NotRegistered(self, key, process.pid)
        value = function(entry.value)
        if not table.replace(key, process.pid, value):
            # The function itself has unregistered it.
            raise NotRegistered(self, key, process.pid)
        return value, entry.value

    # Looking

    def lookup(self, key: K) -> list[Entry[K, V]]:
        """The entries of a key, oldest first."""
        return self._here().table.lookup(key)

    def whereis(self, key: K) -> Pid | None:
        """The process that has a unique key, or None; NeedsUniqueKeys if keys are duplicate."""
        self._want_unique("whereis")
        entry = self._here().table.first(key)
        return None if entry is None else entry.pid

    def values(self, key: K, pid: Pid) -> list[V]:
        """The values that one process has for a key, oldest first."""
        return [entry.value for entry in self.lookup(key) if entry.pid is pid]

    def keys(self, pid: Pid) -> list[K]:
        """The keys of a process, oldest first, each as often as it is registered."""
        return self._here().table.keys(pid)

    def count(self) -> int:
        """How many entries there are."""
        return len(self._here().table)

    def match(self, key: K, match: Callable[[V], bool]) -> list[Entry[K, V]]:
        """The entries of a key for whose value `match` is true, oldest first.

            rooms.match("lobby", lambda topic: topic.language == "de" and topic.members > 3)

        Elixir's `match(rooms, "lobby", {:de, :"$1"}, [{:>, :"$1", 3}])`: pattern and guards are one function here. A
        guard that fails is false there; an exception of `match` is raised here.
        """
        return [entry for entry in self.lookup(key) if match(entry.value)]

    def count_match(self, key: K, match: Callable[[V], bool]) -> int:
        """How many entries `match` would return."""
        return len(self.match(key, match))

    def select(self, where: Callable[[Entry[K, V]], bool] | None = None) -> list[Entry[K, V]]:
        """All entries for which `where` is true, those of one key together; all there are, if it is None.

            loud = [entry.key for entry in rooms.select(lambda entry: entry.value.members > 100)]

        It looks at every entry, unlike everything else here. Where Elixir's select has several specs, write `or`;
        where it has a body, write a comprehension.
        """
        entries = self._here().table.entries()
        return entries if where is None else [entry for entry in entries if where(entry)]

    def entries_in(self, runtime: Runtime) -> list[Entry[K, V]]:
        """All entries in one runtime, for tools that look at it from outside; none if the registry is closed there."""
        state = self._states.get(runtime)
        return [] if state is None or state.closed else state.table.entries()

    def count_select(self, where: Callable[[Entry[K, V]], bool]) -> int:
        """How many entries `select` would return."""
        return len(self.select(where))

    def dispatch(self, key: K, function: Callable[[list[Entry[K, V]]], object]) -> None:
        """Call `function` with the entries of a key: once for each partition that has any, not at all without.

            def tell(entries):
                for entry in entries:
                    send(entry.pid, item)

            readers.dispatch("news", tell)

        It runs here, in the caller, and what it raises is raised here; partitions after that are not called. It
        cannot wait; to start work for each entry, use a nursery of your own in it.
        """
        entries = self.lookup(key)
        if self.unique or self.partitions == 1:
            if entries:
                function(entries)
            return
        groups: dict[int, list[Entry[K, V]]] = {}
        for entry in entries:
            # By the number, not the hash: the same program makes the same groups, run after run.
            groups.setdefault(entry.pid.number % self.partitions, []).append(entry)
        for partition in sorted(groups):
            function(groups[partition])

    # Addresses

    def via(self, key: K, value: V = None) -> Via:  # type: ignore[assignment] # without one V is None
        """An address for the process that has a unique key: for `send`, `call`, `monitor` and the like.

            pid = await Room.start_link(name=rooms.via("lobby", topic))
            send(rooms.via("lobby"), "hello")

        As the name of a process that is started, it registers the key for it, with `value`, before its first step;
        if the key is taken the start raises AlreadyStarted. It is looked up anew each time it is used.

        Raises:
            NeedsUniqueKeys: keys are duplicate.
        """
        self._want_unique("via")
        return _RegistryVia(self, key, value)

    # What belongs to the registry and not to a process

    @property
    def meta(self) -> dict[Any, Any]:
        """Values of the registry itself, for whoever uses it: an ordinary dict, one for each runtime."""
        return self._here().meta

    @asynccontextmanager
    async def lock(self, key: K) -> AsyncIterator[None]:
        """Hold the lock of a key for the length of a block; others who want it wait, first come, first served.

            async with rooms.lock("lobby"):
                if rooms.whereis("lobby") is None:
                    await start_child(room_supervisor, lobby)

        It locks out only those who ask for it: registering, and everything else here, does not. It is released when
        the block is left, however that happens, and with the process that holds it or waits for it.

        Raises:
            LockReentered: this task holds it already.
        """
        locks, tag = self._state_in(require_runtime("Registry.lock")).locks, strict(key)
        if locks.holds(tag):
            raise LockReentered(self, key)
        ticket = await locks.acquire(tag)
        try:
            yield
        finally:
            locks.release(ticket)

    # Lifetime

    async def start_link(self) -> Pid:
        """Start a process that owns the registry, so that the registry has a place in a supervision tree.

            children = [ChildSpec("rooms", rooms.start_link), room_supervisor]

        Without an owner, a registry is simply there, for as long as the runtime. With one, it ends with it: every
        entry is gone, `meta` is empty, everything here raises RegistryClosed, and the processes that were registered
        get the owner's exit signal (`SHUTDOWN` if it ended `NORMAL`), so that none of them goes on believing that it
        can be found. A restart of the owner opens it again.

        Raises:
            AlreadyStarted: it has an owner, or its name is taken.
        """
        name = self if self.name is None else self.name
        return await _Owner.start_link(self, name=name, label=repr(self))

    # How it is done

    def _here(self) -> RegistryState[K, V]:
        return self._state_in(require_runtime())

    def _state_in(self, runtime: Runtime, *, closed_too: bool = False) -> RegistryState[K, V]:
        state = self._states.get(runtime)
        if state is None:
            state = self._states[runtime] = RegistryState()
        if state.closed and not closed_too:
            raise RegistryClosed(self)
        return state

    def _want_unique(self, operation: str) -> None:
        if not self.unique:
            raise NeedsUniqueKeys(self, operation)

    def _add(self, process: Process, key: K, value: V) -> Pid | None:
        """Register a key for a process. Returns who has it, if that is why it was not done."""
        state = self._state_in(process.runtime)
        if self.unique and (holder := state.table.first(key)) is not None:
            return holder.pid
        state.table.add(key, process.pid, value)
        if process.cleanups is None:
            process.cleanups = {}
        if state not in process.cleanups:
            process.cleanups[state] = partial(self._process_ends, process, state)
        for instrument in process.runtime.instruments:
            instrument.registered(process.pid, key, self)
        self._tell(process.runtime, Registered(self, key, process.pid, value))
        return None

    def _remove(self, process: Process, key: K, match: Callable[[V], bool] | None) -> None:
        state = self._state_in(process.runtime)
        removed = state.table.remove(key, process.pid, match)
        if not state.table.has(process.pid):
            state.forget(process)
        for entry in removed:
            for instrument in process.runtime.instruments:
                instrument.unregistered(process.pid, entry.key, self)
            self._tell(process.runtime, Unregistered(self, entry.key, entry.pid, entry.value))

    def _process_ends(self, process: Process, state: RegistryState[K, V]) -> None:
        for entry in state.table.remove_process(process.pid):
            if self.notify_on_exit:
                self._tell(process.runtime, Unregistered(self, entry.key, entry.pid, entry.value))

    def _tell(self, runtime: Runtime, message: Registered | Unregistered) -> None:
        for listener in self.listeners:
            process = runtime.resolve(listener)
            if process is not None and (not runtime.guarded or runtime.admit(process.pid, message)):
                process.mailbox.put(message)

    def _open(self, owner: Process) -> None:
        state = self._state_in(owner.runtime, closed_too=True)
        state.closed = False
        owner.runtime.graph.watch(owner.pid, _CloseWithOwner(self, state, owner.runtime))


class RegistryState(Generic[K, V]):
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


class _CloseWithOwner:
    """Closes a registry inside the end of its owner."""

    __slots__ = ("registry", "runtime", "state")

    def __init__(self, registry: object, state: RegistryState[Any, Any], runtime: Runtime) -> None:
        self.registry = registry
        self.state = state
        self.runtime = runtime

    def down(self, pid: Pid, reason: ExitReason) -> None:
        state, table = self.state, self.state.table
        registrants = table.pids()
        state.closed = True
        state.table = RegistryTable()
        state.meta = {}
        for instrument in self.runtime.instruments:
            instrument.registry_closed(self.registry)
        for registrant in registrants:
            self.runtime.signal(
                pid, registrant, SHUTDOWN if reason is NORMAL else reason, linked=True
            )


@final
class _RegistryVia(Via):
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
        return isinstance(other, _RegistryVia) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def whereis(self, runtime: Runtime) -> Pid | None:
        state = self.registry._state_in(runtime, closed_too=True)
        entry = state.table.first(self.key)
        return None if entry is None else entry.pid

    def register(self, pid: Pid) -> Pid | None:
        process = record_of(pid)
        if process is None:
            raise DeadProcess(pid)
        return self.registry._add(process, self.key, self.value)

    def unregister(self, runtime: Runtime) -> None:
        state = self.registry._state_in(runtime, closed_too=True)
        entry = state.table.first(self.key)
        process = None if entry is None else record_of(entry.pid)
        if process is not None:
            self.registry._remove(process, self.key, None)


class _Owner(GenServer[None]):
    """Does nothing but live."""

    async def init(self, registry: Registry[Any, Any]) -> None:
        registry._open(require_process("Registry.start_link"))
