"""Records that the runtime itself puts into mailboxes.

They are ordinary messages: match on their type in `handle_info` or in `receive`.
"""

from __future__ import annotations

from attrs import define, field

from actors.exits import ExitReason
from actors.refs import Pid, Ref

__all__ = ["Down", "Exit", "Timeout"]


@define(eq=True, unsafe_hash=True)
class Exit:
    """A linked process ended, or a process used `send_exit`, and the receiver traps exits."""

    pid: Pid
    """The process that ended or that sent the signal."""
    reason: ExitReason = field(hash=False)


@define(eq=True, unsafe_hash=True)
class Down:
    """A monitored process ended, or did not exist (`NOPROC`). Each `monitor` gets exactly one."""

    ref: Ref
    """The reference that `monitor` returned."""
    pid: Pid | None
    """The process; None if the monitored name belonged to no process."""
    reason: ExitReason = field(hash=False)
    name: object = None
    """The monitored name, if the target was a name."""


@define(eq=True, unsafe_hash=True)
class Timeout:
    """No message arrived within the time that the server's last result set; see `actors.servers.results.Within`."""
