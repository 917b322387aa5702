"""The seam at which observers, chaos and simulation attach to a runtime.

An `Instrument` is told of everything that happens between processes, in order, as it happens. The methods are called
synchronously and must not block; one that raises takes down the operation that it observes, so that a broken checker
cannot pass unnoticed. A runtime without instruments pays one attribute test for each operation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from actors.exits import ExitReason

if TYPE_CHECKING:
    from actors.refs import Pid

__all__ = ["Instrument"]


class Instrument:
    """Override what you want to see; the rest does nothing.

    class Births(Instrument):
        def process_spawned(self, pid, parent, label):
            print(pid, "from", parent)

    runtime.add_instrument(Births())
    """

    def process_spawned(self, pid: Pid, parent: Pid, label: str) -> None:
        """A process was made; it has not run yet."""

    def process_exited(self, pid: Pid, reason: ExitReason) -> None:
        """A process ended: its name is free, and its links and monitors are about to be told."""

    def message_sent(self, sender: Pid | None, receiver: Pid, message: Any) -> bool | None:
        """A message is about to enter a mailbox. Return False to take it out of the world."""

    def message_received(self, pid: Pid, message: Any) -> None:
        """A process took a message out of its mailbox."""

    def signal_sent(self, sender: Pid, receiver: Pid, reason: ExitReason, linked: bool) -> None:
        """An exit signal reached its receiver, which has not judged it yet."""
