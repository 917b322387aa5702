"""Registries: unique or duplicate keys for processes, with a value for each entry.

    rooms = Registry[str, Topic]("unique", name="rooms")

    async with open_runtime():
        await Room.start_link(name=rooms.via("lobby"))
        await call(rooms.via("lobby"), "who is here?")

A process has at most one plain name (`start_link(name="lobby")`), in one namespace for the whole runtime. Each registry
is a namespace of its own. A process may have any number of keys in a registry, each with a value. A "unique" key
belongs to one process, and a "duplicate" key to any number of processes. The runtime removes the entries of a process
when the process ends, before it delivers any `Down`.

Source: Elixir's Registry. There are two simplifications:

* The entries belong to the runtime and not to processes of the registry. So you need not start a registry, and it
  cannot crash. `start_link` only bounds its lifetime.
* Functions replace Elixir's match specs with guards. All values are in one memory, so calling a function with a value
  is cheap.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Hashable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Generic, Literal, TypeVar, final, overload
from weakref import WeakKeyDictionary

import trio

from actors._kernel.current import require_process, require_runtime
from actors._kernel.runtime import Process, Runtime, acting_process, record_of
from actors.addresses import Via
from actors.arguments import check_whole
from actors.declared import declared
from actors.errors import ActorsError, DeadProcess, InvalidOperation, InvalidOption
from actors.exits import NORMAL, SHUTDOWN, ExitReason
from actors.refs import Pid
from actors.registry._table import Entry, Registered, RegistryTable, Unregistered, strict
from actors.servers.gen_server import GenServer

__all__ = [
    "Entry",
    "KeyLocks",
    "KeyTaken",
    "NotRegistered",
    "Registered",
    "Registry",
    "RegistryClosed",
    "RegistryError",
    "Ticket",
    "Unregistered",
]

K = TypeVar("K")
V = TypeVar("V")


@declared()
class RegistryError(ActorsError):
    """A `Registry` refused an operation. `registry` is the registry."""

    registry: object


@declared("{key!r} in {registry!r} belongs to {pid!r} already")
class KeyTaken(RegistryError):
    """`register` got a `key` that the process `pid` already has. `pid` may be the current process."""

    key: object
    pid: Pid


@declared(
    "{pid!r} does not have {key!r} in {registry!r}; only the process that "
    "registered a key can change its value"
)
class NotRegistered(RegistryError, LookupError):
    """`update_value` got a `key` that the current process, `pid`, does not have."""

    key: object
    pid: Pid


class RegistryClosed(RegistryError, RuntimeError):
    """The process that owned the registry has ended, so the registry has no entries and refuses every operation."""

    def __str__(self) -> str:
        return (
            f"{self.registry!r} has ended with its owner; await its start_link() again, or put "
            "its users after it in the same supervisor, with strategy rest_for_one"
        )


@final
class Registry(Generic[K, V]):
    """A namespace of processes. You may make a registry at the top of a module, and use it in any runtime.

        readers = Registry[str, Tastes]("duplicate", name="readers")

        readers.register("news", tastes)                    # in the process that reads
        for entry in readers.lookup("news"):                # in any task of the runtime
            send(entry.pid, item)

    The object is a handle: each runtime has its own entries. Every task of a runtime may read. Only a process may
    register, and only itself. Only `lock` and `start_link` may wait.

    A registry compares keys strictly: 1, 1.0 and True are three keys, even inside tuples and frozensets.

    Args:
        keys: `"unique"`: a key belongs to one process. `"duplicate"`: a key belongs to any number of processes, and a
            process may have it several times.
        name: The registry's name in messages. The owner that `start_link` starts is registered under the same name.
        partitions: The number of groups into which `dispatch` divides the processes of a key, at least 1. In Elixir,
            partitions also reduce contention. Here all processes share one thread, so there is no contention.
        listeners: Names (or pids) of processes that get `Registered` and `Unregistered` messages. The registry skips a
            listener that does not exist.
        notify_on_exit: Also send `Unregistered` for the entries of a process that ends. By default listeners must
            monitor the processes themselves, as in Elixir.

    Raises:
        ValueError: `keys` or `partitions` has an invalid value.
        TypeError: `listeners` is one name and not a sequence of names.
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
            raise InvalidOption("Registry", "keys", keys, '"unique" or "duplicate"')
        check_whole("Registry", "partitions", partitions)
        if isinstance(listeners, str | bytes):
            raise TypeError(
                f"listeners is {listeners!r}; write a sequence of names: ({listeners!r},)"
            )
        self.unique = keys == "unique"
        self.name = name
        self.partitions = partitions
        self.listeners = tuple(listeners)
        self.notify_on_exit = notify_on_exit
        # Weak, because a registry at the top of a module outlives every runtime.
        self._states: WeakKeyDictionary[Runtime, RegistryState[K, V]] = WeakKeyDictionary()

    def __repr__(self) -> str:
        kind = "unique" if self.unique else "duplicate"
        return f"<{kind} registry>" if self.name is None else f"<{kind} registry {self.name!r}>"

    # Registering the current process

    @overload
    def register(self, key: K) -> None: ...
    @overload
    def register(self, key: K, value: V) -> None: ...
    def register(self, key: K, value: Any = None) -> None:
        """Give the current process `key` with `value`, until the process ends or unregisters the key.

        Raises:
            KeyTaken: Keys are unique, and a process already has the key, possibly the current process.
            NotAProcess: The caller is not a process.
            RegistryClosed: The registry's owner has ended.
        """
        holder = self._add(require_process("Registry.register"), key, value)
        if holder is not None:
            raise KeyTaken(self, key, holder)

    def unregister(self, key: K) -> None:
        """Remove all entries that the current process has for `key`. Does nothing if there are no such entries."""
        self._remove(require_process("Registry.unregister"), key, None)

    def unregister_match(self, key: K, match: Callable[[V], bool]) -> None:
        """Remove the current process's entries for `key` with a value that `match` accepts.

        If `match` raises, no entry is removed.
        """
        self._remove(require_process("Registry.unregister_match"), key, match)

    def update_value(self, key: K, function: Callable[[V], V]) -> tuple[V, V]:
        """Replace the current process's value for `key` with `function(value)`.

        If `function` raises, the value does not change.

        Args:
            key: A key of the current process.
            function: A function of the old value, which returns the new value.

        Returns:
            The new value and the old one.

        Raises:
            NotRegistered: The current process does not have the key, or `function` unregistered it.
            InvalidOperation: Keys are duplicate.
            NotAProcess: The caller is not a process.
            RegistryClosed: The registry's owner has ended.
        """
        self._want_unique("update_value")
        process = require_process("Registry.update_value")
        table = self._state_in(process.runtime).table
        entry = table.first(key)
        if entry is None or entry.pid is not process.pid:
            raise NotRegistered(self, key, process.pid)
        value = function(entry.value)
        if not table.replace(key, process.pid, value):
            # The function unregistered the key.
            raise NotRegistered(self, key, process.pid)
        return value, entry.value

    # Looking

    def lookup(self, key: K) -> list[Entry[K, V]]:
        """Return the entries of `key`, oldest first. Each entry has a `pid` and a `value`.

            for entry in readers.lookup("news"):
                send(entry.pid, item)

        Raises:
            RegistryClosed: The registry's owner has ended.
        """
        return self._here().table.lookup(key)

    def whereis(self, key: K) -> Pid | None:
        """Return the process that has the unique `key`, or None.

        Raises:
            InvalidOperation: Keys are duplicate.
        """
        self._want_unique("whereis")
        entry = self._here().table.first(key)
        return None if entry is None else entry.pid

    def values(self, key: K, pid: Pid) -> list[V]:
        """Return the values that the process `pid` has for `key`, oldest first."""
        return [entry.value for entry in self.lookup(key) if entry.pid is pid]

    def keys(self, pid: Pid) -> list[K]:
        """Return the keys of the process `pid`, oldest first, one for each entry."""
        return self._here().table.keys(pid)

    def count(self) -> int:
        """Return the number of entries."""
        return len(self._here().table)

    def match(self, key: K, match: Callable[[V], bool]) -> list[Entry[K, V]]:
        """Return the entries of `key` with a value that `match` accepts, oldest first.

            rooms.match("lobby", lambda topic: topic.language == "de" and topic.members > 3)

        In Elixir, this call is `match(rooms, "lobby", {:de, :"$1"}, [{:>, :"$1", 3}])`. Here, one function replaces the
        pattern and the guards. In Elixir, a guard that fails counts as false. Here, the caller gets the exception of
        the function.
        """
        return [entry for entry in self.lookup(key) if match(entry.value)]

    def count_match(self, key: K, match: Callable[[V], bool]) -> int:
        """Return the number of entries that the method `match` would return for `key`."""
        return len(self.match(key, match))

    def select(self, where: Callable[[Entry[K, V]], bool] | None = None) -> list[Entry[K, V]]:
        """Return all entries that `where` accepts, grouped by key. None accepts all entries.

            loud = [entry.key for entry in rooms.select(lambda entry: entry.value.members > 100)]

        Unlike the other methods, `select` looks at every entry. For several specs of Elixir's select, write `or`. For
        the body of such a spec, write a comprehension.
        """
        entries = self._here().table.entries()
        return entries if where is None else [entry for entry in entries if where(entry)]

    def entries_in(self, runtime: Runtime) -> list[Entry[K, V]]:
        """Return all entries in `runtime`, for tools outside it. A closed registry has no entries."""
        state = self._states.get(runtime)
        return [] if state is None or state.closed else state.table.entries()

    def count_select(self, where: Callable[[Entry[K, V]], bool]) -> int:
        """Return the number of entries that `select` would return for `where`."""
        return len(self.select(where))

    def dispatch(self, key: K, function: Callable[[list[Entry[K, V]]], object]) -> None:
        """Call `function` with the entries of `key`, once for each partition that has entries.

            def tell(entries):
                for entry in entries:
                    send(entry.pid, item)

            readers.dispatch("news", tell)

        The function runs in the caller and cannot wait. If the function raises, `dispatch` raises the exception and
        skips the remaining partitions. To start work for each entry, use a nursery of your own.
        """
        entries = self.lookup(key)
        if self.unique or self.partitions == 1:
            if entries:
                function(entries)
            return
        groups: dict[int, list[Entry[K, V]]] = {}
        for entry in entries:
            # Use the number and not the hash, so that a program makes the same groups in every run.
            groups.setdefault(entry.pid.number % self.partitions, []).append(entry)
        for partition in sorted(groups):
            function(groups[partition])

    # Addresses

    @overload
    def via(self, key: K) -> Via: ...
    @overload
    def via(self, key: K, value: V) -> Via: ...
    def via(self, key: K, value: Any = None) -> Via:
        """Return an address for the process that has the unique `key`, for `send`, `call`, `monitor` and so on.

            pid = await Room.start_link(name=rooms.via("lobby", topic))
            send(rooms.via("lobby"), "hello")

        If you pass the address as the `name` of a start, the start registers the key with `value` before the first
        step. If the key is taken, the start raises AlreadyStarted. Each use of the address looks the key up again.

        Raises:
            InvalidOperation: Keys are duplicate.
        """
        self._want_unique("via")
        return _RegistryVia(self, key, value)

    # The registry itself

    @property
    def meta(self) -> dict[Any, Any]:
        """Values of the registry itself. Each runtime has its own dict."""
        return self._here().meta

    @asynccontextmanager
    async def lock(self, key: K) -> AsyncIterator[None]:
        """Hold the lock of `key` during a block. Other tasks wait for the lock in the order of their requests.

            async with rooms.lock("lobby"):
                if rooms.whereis("lobby") is None:
                    await start_child(room_supervisor, lobby)

        The lock excludes only tasks that ask for it. Registering and all other operations ignore it. The end of the
        block releases the lock, and so does the end of the process.

        Raises:
            InvalidOperation: The current task already holds the lock.
        """
        locks, tag = self._state_in(require_runtime("Registry.lock")).locks, strict(key)
        if locks.holds(tag):
            raise InvalidOperation(
                "Registry.lock",
                f"this task already holds the lock of {key!r} in {self!r}; take it once, "
                "around all the code that needs it",
            )
        ticket = await locks.acquire(tag)
        try:
            yield
        finally:
            locks.release(ticket)

    # Lifetime

    async def start_link(self) -> Pid:
        """Start a process that owns the registry, and return its pid.

            children = [ChildSpec("rooms", rooms.start_link), room_supervisor]

        The owner gives the registry a place in a supervision tree. Without an owner, a registry lives as long as the
        runtime. With an owner, the registry ends when the owner ends: it removes all entries and empties `meta`, and
        every operation raises RegistryClosed. Other processes can then no longer find the registered processes. So
        these get an exit signal with the owner's exit reason (`SHUTDOWN` in place of `NORMAL`). A restart of the owner
        opens the registry again.

        Raises:
            AlreadyStarted: The registry has an owner, or its name is taken.
        """
        name = self if self.name is None else self.name
        return await _Owner.start_link(self, name=name, label=repr(self))

    # Internals

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
            raise InvalidOperation(
                f"Registry.{operation}",
                f"{self!r} has duplicate keys, so {operation} has no single process "
                'to act on; use lookup() or dispatch(), or a Registry("unique")',
            )

    def _add(self, process: Process, key: K, value: V) -> Pid | None:
        """Register a key for a process. Return the process that has the key, if it is taken."""
        state = self._state_in(process.runtime)
        if self.unique and (holder := state.table.first(key)) is not None:
            return holder.pid
        state.table.add(key, process.pid, value)
        if not process.has_cleanup(state):
            process.add_cleanup(state, partial(self._process_ends, process, state))
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
    """The state of a registry in one runtime."""

    __slots__ = ("closed", "locks", "meta", "table")

    def __init__(self) -> None:
        self.table: RegistryTable[K, V] = RegistryTable()
        self.locks = KeyLocks()
        self.meta: dict[Any, Any] = {}
        self.closed = False

    def forget(self, process: Process) -> None:
        """Remove the clean-up of a process that has no more entries."""
        process.remove_cleanup(self)


class _CloseWithOwner:
    """A watcher that closes a registry during the end of its owner."""

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
    """The address that `Registry.via` makes. Two addresses are equal if they have the same key and registry."""

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
    """The owner of a registry. Its end closes the registry; it has no other work."""

    async def init(self, registry: Registry[Any, Any]) -> None:
        registry._open(require_process("Registry.start_link"))


# Locks for keys. The first task that wants a lock makes it, and the last task that leaves the lock's queue removes it.
# A task releases its ticket at the end of its block. The end of the process also releases the ticket, because a process
# that swallows its cancellation never leaves the block.


class Ticket:
    """A place in the queue for one lock. The first ticket holds the lock."""

    __slots__ = ("process", "tag", "task", "turn")

    def __init__(self, tag: Hashable) -> None:
        self.tag = tag
        self.process = acting_process()
        self.task = trio.lowlevel.current_task()
        self.turn = trio.Event()


class KeyLocks:
    """The locks of one registry. A key without a holder takes no memory."""

    __slots__ = ("_queues",)

    def __init__(self) -> None:
        # Ordered dicts, because after many deletions the first key of a plain dict is slow to find.
        self._queues: dict[Hashable, OrderedDict[Ticket, None]] = {}

    def __len__(self) -> int:
        """Return the number of locks that are held."""
        return len(self._queues)

    def holds(self, tag: Hashable) -> bool:
        """Return True if the current task has the lock."""
        queue = self._queues.get(tag)
        return queue is not None and next(iter(queue)).task is trio.lowlevel.current_task()

    async def acquire(self, tag: Hashable) -> Ticket:
        """Wait for the lock. Always a checkpoint. If this raises, the caller has no ticket to release."""
        ticket = Ticket(tag)
        process = ticket.process
        self._queues.setdefault(tag, OrderedDict())[ticket] = None
        if process is not None:
            process.add_cleanup(ticket, lambda: self._leave(ticket))
        try:
            if next(iter(self._queues[tag])) is ticket:
                await trio.lowlevel.checkpoint()
            else:
                await ticket.turn.wait()
            if process is not None:
                # If the process gets the lock and is killed in the same turn, the kill wins.
                process.check()
        except BaseException:
            self.release(ticket)
            raise
        return ticket

    def release(self, ticket: Ticket) -> None:
        """Release the lock, or the place in its queue."""
        process = ticket.process
        if process is not None:
            process.remove_cleanup(ticket)
        self._leave(ticket)

    def _leave(self, ticket: Ticket) -> None:
        queue = self._queues.get(ticket.tag)
        if queue is None or ticket not in queue:
            return
        del queue[ticket]
        if queue:
            # If the released ticket was not the first, the first already has its turn, and this changes nothing.
            next(iter(queue)).turn.set()
        else:
            del self._queues[ticket.tag]
