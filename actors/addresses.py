"""Addresses of processes that are not pids: names, aliases, and addresses that your own code looks up.

    register("logger", pid)
    send("logger", "hello")

`send`, `call`, `cast`, `monitor`, `send_after` and `start_link(name=...)` take any of them.

A *name* outlives the processes that have it. A process has one name, and a name one process. The runtime looks a name
up when it is used, so after a supervised restart it leads to the new process. It is free as soon as any process can
know that its process has ended.

An *alias* is an address that its process can take back. A pid is an address for ever, so a late answer to it always
arrives. A message to an alias that was taken back is dropped, as one to a dead process is:

    reply_to = alias(once=True)
    send(server, ("please answer", reply_to))
    try:
        answer = await receive(timeout=1)
    except trio.TooSlowError:
        unalias(reply_to)                     # a later answer is dropped

`call` needs no alias: its answers cannot come late. Aliases follow Erlang's process aliases; `once` is Erlang's
`reply` alias.

A `Via` is an address that code of your own looks up. `Registry.via` makes the one that most programs need.
"""

from __future__ import annotations

from typing import ClassVar, final

from actors._kernel.current import require_process, require_runtime
from actors._kernel.runtime import Process, Runtime, record_of
from actors.arguments import check_pid
from actors.errors import DeadProcess
from actors.refs import Address, Pid

__all__ = ["Alias", "Via", "alias", "register", "unalias", "unregister", "whereis"]


def register(name: object, pid: Pid | None = None) -> None:
    """Give a process a name that `send`, `call`, `monitor` and `whereis` understand, until it ends.

    Args:
        name: any hashable value but None. A `Via` is registered where it belongs, beside the one plain name.
        pid: the process; by default the current one.

    Raises:
        NameTaken: the name belongs to a living process, or this process has another name.
        DeadProcess: the process has ended.
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
    """Take a name away. One that nobody has is no error."""
    require_runtime("unregister").unregister(name)


def whereis(name: object) -> Pid | None:
    """The process that a name or a `Via` leads to now, or None."""
    process = require_runtime().resolve(name)
    return process.pid if process is not None else None


class Via(Address[Runtime]):
    """An address that is looked up by code of your own. Subclass it; the instances must be hashable.

    class Leader(Via):
        def __init__(self, cluster):
            self.cluster = cluster

        def whereis(self, runtime):
            return self.cluster.leader

    await call(Leader(cluster), "write")

    `whereis` alone makes an address for messages. With `register` it can also be given as a name, to `start_link` and
    `actors.names.register`. Whoever keeps such a name also has to release it at the end of the process: see
    `actors.process.on_exit`.

    All methods are called in the middle of other operations: they must be quick, must not wait, and, except for
    `register`, must not raise. After the `via` tuples of Erlang; a `Via` is not asked to send, only to find.
    """

    __slots__ = ()

    forgiving: ClassVar[bool] = False
    """Whether a message to this address that finds nobody vanishes, as one to a pid does, instead of being an error."""

    def whereis(self, runtime: Runtime) -> Pid | None:
        """The process that this address leads to now; None if there is none, or it has ended."""
        raise NotImplementedError(f"{type(self).__name__} needs a method whereis(runtime)")

    def register(self, pid: Pid) -> Pid | None:
        """Make this address lead to a living process, which may be one that is just being spawned.

        Returns:
            None if it does now; otherwise the process that has the address, and nothing has changed.
        """
        raise TypeError(
            f"{self!r} is an address to send to and cannot be given to a process as its name; "
            "use a Registry.via or a plain name"
        )

    def unregister(self, runtime: Runtime) -> None:
        """Make this address lead nowhere. Nobody having it is no error."""
        raise TypeError(f"{self!r} is not a name that was given, so it cannot be taken away")


@final
class Alias(Via):
    """An address of one process, made by `alias`. Compared by identity."""

    __slots__ = ("_number", "_once", "process")

    forgiving = True

    def __init__(self, number: int, process: Process, once: bool) -> None:
        self._number = number
        self.process: Process | None = process
        self._once = once

    def __repr__(self) -> str:
        return f"<alias {self._number}>"

    def whereis(self, runtime: Runtime) -> Pid | None:
        """Whom a message to this alias reaches now. Asking one that is good for a single message uses it up."""
        process = self.process
        if process is None:
            return None
        if self._once or process.dead:
            self.process = None
        return None if process.dead else process.pid


def alias(*, once: bool = False) -> Alias:
    """Make a new address of the current process, good until `unalias` or the end of the process.

    Args:
        once: it is good for one message; the first that uses it is the last.
    """
    process = require_process("alias")
    return Alias(process.runtime.next_ref(), process, once)


def unalias(address: Alias) -> bool:
    """Take an alias of the current process back. Returns whether it still led here.

    What is in the mailbox already stays there; everything later finds nobody.
    """
    process = require_process("unalias")
    if address.process is not process:
        return False
    address.process = None
    return True
