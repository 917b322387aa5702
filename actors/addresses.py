"""Addresses other than pids: names, aliases, and addresses that your own code looks up.

    register("logger", pid)
    send("logger", "hello")

`send`, `call`, `cast`, `monitor` and `send_after` take any address. `start_link(name=...)` takes a name or a `Via`.

A *name* outlives the processes that have it. A process has at most one name, and a name belongs to at most one process.
The runtime looks the name up for each message. So after a supervised restart, messages reach the new process. The
runtime frees the name of a process that ends before it notifies other processes.

An *alias* is an address that its process can revoke. After that, the runtime drops messages to the alias, as it drops
messages to a dead process. If you send a pid instead of an alias, a late answer still arrives:

    reply_to = alias(once=True)
    send(server, ("please answer", reply_to))
    try:
        answer = await receive(timeout=1)
    except trio.TooSlowError:
        unalias(reply_to)                     # drops a later answer

`call` needs no alias, because it drops late answers itself. Source: Erlang's process aliases. `once` is Erlang's
`reply` alias.

A `Via` is an address that your own code looks up. Most programs only need the addresses that `Registry.via` makes.

A `RemoteAddress` is an address whose process may run on another node. It carries out the verbs itself.
"""

from __future__ import annotations

from typing import Any, ClassVar, final

from actors._kernel.current import RemoteMonitor, require_process, require_runtime
from actors._kernel.runtime import Process, Runtime, record_of
from actors.arguments import check_pid
from actors.errors import DeadProcess
from actors.refs import Address, Pid, Ref, RuntimeLike

__all__ = [
    "Alias",
    "RemoteAddress",
    "RemoteMonitor",
    "Via",
    "alias",
    "register",
    "send_unattended",
    "unalias",
    "unregister",
    "whereis",
]


def register(name: object, pid: Pid | None = None) -> None:
    """Give a process a name, until it ends. `send`, `call`, `monitor` and `whereis` understand the name.

        register("logger")
        register("cache", pid)

    Args:
        name: Any hashable value but None. A process may have a plain name and also be registered at `Via` addresses.
        pid: The process; by default the current one.

    Raises:
        NameTaken: The name belongs to a living process, or the process already has a name.
        DeadProcess: The process has ended.
        NotAProcess: There is no `pid`, and the caller is not a process.
        WrongThread: The caller does not run in the runtime's thread.
    """
    if pid is not None:
        check_pid("register", pid)
    process = require_process("register") if pid is None else record_of(pid)
    if process is None:
        assert pid is not None
        raise DeadProcess(pid)
    process.runtime.require_thread("register")
    process.runtime.register(name, process)


def unregister(name: object) -> None:
    """Free a name. Does nothing if no process has it.

    Args:
        name: The name.
    """
    require_runtime("unregister").unregister(name)


def whereis(name: object) -> Pid | None:
    """Return the process that a name or a `Via` currently belongs to, or None.

    Args:
        name: A name or a `Via`.
    """
    process = require_runtime().resolve(name)
    return process.pid if process is not None else None


class Via(Address[Runtime]):
    """An address that your own code looks up. Subclass it; the instances must be hashable.

        class Leader(Via):
            def __init__(self, cluster):
                self.cluster = cluster

            def whereis(self, runtime):
                return self.cluster.leader

        await call(Leader(cluster), "write")

    A class with only `whereis` makes addresses for messages. If the class also overrides `register`, its instances can
    be names in `start_link` and `actors.register`. That class must also release the name at the end of the process: see
    `actors.on_exit`.

    The runtime calls the methods in the middle of other operations, so the methods must be quick and must not wait.
    Only `register` may raise. Source: the `via` tuples of Erlang. Unlike a module in such a tuple, a `Via` only finds a
    process and does not send.
    """

    __slots__ = ()

    forgiving: ClassVar[bool] = False
    """True: the runtime drops a message without a receiver, as for a pid. False: `send` raises NoSuchName."""

    def whereis(self, runtime: Runtime) -> Pid | None:
        """Return the process that currently has this address, or None.

        Args:
            runtime: The runtime in which to look.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no method whereis; write `def whereis(self, runtime)`"
        )

    def register(self, pid: Pid) -> Pid | None:
        """Give this address to a living process, which may not have taken its first step yet.

        Args:
            pid: The process.

        Returns:
            None on success. Otherwise the process that has the address; in that case nothing has changed.

        Raises:
            TypeError: The class does not override this method, so its addresses cannot be names.
        """
        raise TypeError(
            f"{self!r} is an address for messages and cannot be the name of a process; "
            "use a Registry.via or a plain name"
        )

    def unregister(self, runtime: Runtime) -> None:
        """Free this address. Does nothing if no process has it.

        Args:
            runtime: The runtime of the process.

        Raises:
            TypeError: The class does not override this method, so its addresses cannot be names.
        """
        raise TypeError(f"{self!r} cannot be the name of a process, so unregister() cannot free it")


class RemoteAddress(Address[Any]):
    """An address whose process may run on another node. Subclass it; the instances must be hashable.

    `call`, `cast`, `send`, `send_after`, `send_every` and `monitor` pass their arguments to the methods of the address.
    All other functions refuse the address with InvalidArgument, because they need a process of this runtime.

    The runtime calls the methods only in its own thread. `cast` and `send` may run outside any task, for a timer or for
    another thread. They must not wait.
    """

    __slots__ = ()

    instead = "only call, cast, send, send_after, send_every and monitor take such an address"

    async def call(self, request: Any, *, timeout: float) -> Any:
        """Send a request, and wait for its answer. The caller is a living process, or a task that is not a process.

        Args:
            request: The request.
            timeout: The time limit in seconds; `math.inf` for none.

        Returns:
            The answer.

        Raises:
            CallExit: There was no answer. Its `may_have_run` tells if the server may have handled the request.
        """
        raise NotImplementedError

    def cast(self, message: Any) -> None:
        """Send a message to the `handle_cast` of the server. Does nothing if there is no such process.

        Args:
            message: The message.
        """
        raise NotImplementedError

    def send(self, message: Any) -> None:
        """Send a message to the mailbox of the process. Does nothing if there is no such process.

        Args:
            message: The message.
        """
        raise NotImplementedError

    def monitor(self) -> Ref:
        """Make the current process monitor the process of this address. Return a new `RemoteMonitor`."""
        raise NotImplementedError

    def whereis(self, runtime: Runtime) -> None:
        """Raise an error, because the process may run on another node.

        Args:
            runtime: The runtime.

        Raises:
            InvalidArgument: Always.
        """
        check_pid("whereis", self)

    def register(self, pid: Pid) -> None:
        """Raise an error, because this address cannot be the name of a process.

        Args:
            pid: The process.

        Raises:
            InvalidArgument: Always.
        """
        check_pid("register", self)

    def unregister(self, runtime: Runtime) -> None:
        """Raise an error, because this address cannot be the name of a process.

        Args:
            runtime: The runtime.

        Raises:
            InvalidArgument: Always.
        """
        check_pid("unregister", self)


def send_unattended(runtime: RuntimeLike, address: RemoteAddress, message: Any) -> None:
    """Send a message for a timer or a thread, which cannot get an error. A message that is refused is a dead letter."""
    try:
        address.send(message)
    except Exception:  # for example the message cannot travel; the error would end the runtime
        runtime.dead_letter(address, message)


@final
class Alias(Via):
    """An address of one process, made by `alias`. Compared by identity."""

    __slots__ = ("_number", "_once", "_process")

    forgiving = True
    absence = "this alias is no longer active"

    def __init__(self, number: int, process: Process, once: bool) -> None:
        self._number = number
        self._process: Process | None = process
        self._once = once

    def __repr__(self) -> str:
        return f"<alias {self._number}>"

    def whereis(self, runtime: Runtime) -> Pid | None:
        """Return the process of this alias, or None if the alias is revoked. A `once` alias is revoked by this call."""
        process = self._process
        if process is None:
            return None
        if self._once or process.dead:
            self._process = None
        return None if process.dead else process.pid


def alias(*, once: bool = False) -> Alias:
    """Make a new address of the current process, valid until `unalias` or the end of the process.

    Args:
        once: The address is valid for one message only.

    Returns:
        The address, for `send` and the other functions that take an address.
    """
    process = require_process("alias")
    return Alias(process.runtime.next_ref(), process, once)


def unalias(address: Alias) -> bool:
    """Revoke an alias of the current process. Return True if it was still valid.

    Earlier messages stay in the mailbox. The runtime drops later messages.

    Args:
        address: The result of `alias`.
    """
    process = require_process("unalias")
    if address._process is not process:
        return False
    address._process = None
    return True
