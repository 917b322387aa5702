"""Records that the runtime itself puts into mailboxes.

These are ordinary messages. Match on their types in `handle_info` or in `receive`.
"""

from __future__ import annotations

from attrs import define, field

from actors.exits import ExitReason
from actors.refs import Pid, Ref

__all__ = ["Down", "Exit", "Timeout"]


@define(eq=True, unsafe_hash=True)
class Exit:
    """A message to a process that traps exits: a linked process ended, or a process used `send_exit`."""

    pid: Pid
    """The process that ended or that sent the signal."""
    reason: ExitReason = field(hash=False)


@define(eq=True, unsafe_hash=True)
class Down:
    """A monitored process ended, or did not exist (reason `NOPROC`). Each monitor causes at most one `Down`."""

    ref: Ref
    """The reference that `monitor` returned."""
    pid: Pid | None
    """The process; None if the monitored name belonged to no process."""
    reason: ExitReason = field(hash=False)
    name: object = None
    """The monitored name, if the target was a name."""


@define(eq=True, unsafe_hash=True)
class Timeout:
    """No message arrived within the seconds of the server's last `Within`; see `actors.servers.results.Within`."""
