"""Records that the runtime itself puts into mailboxes.

These are ordinary messages. Match on their types in `handle_info` or in `receive`.
"""

from __future__ import annotations

import msgspec

from actors.exits import ExitReason
from actors.refs import Pid, Ref

__all__ = ["Down", "Exit", "Timeout"]


class Exit(msgspec.Struct, frozen=True):
    """A message to a process that traps exits: a linked process ended, or a process used `send_exit`."""

    pid: Pid
    """The process that ended or that sent the signal."""
    reason: ExitReason

    def __hash__(self) -> int:
        # The reason may be unhashable, so it is not part of the hash.
        return hash((Exit, self.pid))


class Down(msgspec.Struct, frozen=True):
    """A monitored process ended, or did not exist (reason `NOPROC`). Each monitor causes at most one `Down`."""

    ref: Ref
    """The reference that `monitor` returned."""
    pid: Pid | None
    """The process; None if the monitored name belonged to no process."""
    reason: ExitReason
    name: object = None
    """The monitored name, if the target was a name."""

    def __hash__(self) -> int:
        # Without the reason, as in `Exit`.
        return hash((Down, self.ref, self.pid, self.name))


class Timeout(msgspec.Struct, frozen=True):
    """No message arrived within the seconds of the server's last `Within`; see `actors.servers.results.Within`."""
