"""The records that the runtime itself puts into mailboxes.

They are ordinary messages: match on their type in `handle_info` or in `receive`.
"""

from __future__ import annotations

from attrs import define, field

from actors.exits import ExitReason
from actors.refs import Pid, Ref

__all__ = ["Down", "Exit", "Timeout"]


@define(eq=True, unsafe_hash=True)
class Exit:
    """A linked process ended, and the receiver traps exits (or somebody used `send_exit` on it)."""

    pid: Pid
    """The process that ended or that sent the signal."""
    reason: ExitReason = field(hash=False)


@define(eq=True, unsafe_hash=True)
class Down:
    """A monitored process ended, or did not exist (`NOPROC`). Sent exactly once for each `monitor`."""

    ref: Ref
    """What `monitor` returned."""
    pid: Pid | None
    """The process; None where a name was monitored that nobody had."""
    reason: ExitReason = field(hash=False)
    name: object = None
    """The name that was monitored, if it was a name."""


@define(eq=True, unsafe_hash=True)
class Timeout:
    """Nothing arrived for as long as the server's last result asked for; see `actors.servers.results.Within`."""
