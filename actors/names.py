"""Names: addresses that outlive the processes that have them.

One name for each process, one process for each name. A name is looked up when it is used, so after a supervised
restart it reaches the new process; it is free as soon as anybody can know that its process has ended.
"""

from __future__ import annotations

from actors._kernel.address_check import check_pid
from actors._kernel.process import require_process, require_runtime
from actors.errors import DeadProcess
from actors.refs import Pid

__all__ = ["register", "unregister", "whereis"]


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
    process = require_process("register") if pid is None else pid._process
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
